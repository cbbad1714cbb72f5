"""Limited-context attention against the attention layer, PyTorch's own attention, and finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F

from riverrun.kernels.window_attention import op, window_attention
from riverrun.kernels.window_attention.op import attention
from riverrun.speech.attention import ChunkedAttention, Context, attention_mask
from riverrun.speech.attention.position import _rotation, _sinusoid

F64 = torch.float64


@pytest.fixture(autouse=True, params=["torch", "definition"])
def _computed_by(request, monkeypatch):
    """Everything here holds for PyTorch's own layers and for the definition."""
    if request.param == "definition":
        monkeypatch.setattr(op, "_by_torch", lambda *_: False)


def inputs(batch=2, frames=9, heads=2, key_heads=2, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, frames, n, width, dtype=F64, generator=generator, requires_grad=True) for n in (heads, key_heads, key_heads)]


@pytest.mark.parametrize("position", ["rope", "transformer_xl"])
@pytest.mark.parametrize(("chunk", "left"), [(4, 6), (3, 0), (2, None), (None, None)])
def test_equals_chunked_attention(position, chunk, left):
    """Outputs, and the gradients of all parameters, those of relative positions included."""
    torch.manual_seed(0)
    heads, width, frames = 2, 4, 11
    layer = ChunkedAttention(heads * width, heads, Context(chunk, left), position).double()
    for parameter in layer.position.parameters():
        torch.nn.init.normal_(parameter)
    x, lengths = torch.randn(2, frames, heads * width, dtype=F64), torch.tensor([11, 6])
    keep = (torch.arange(frames) < lengths[:, None])[..., None]
    expected = layer.whole(x, attention_mask(layer.context, lengths, frames)) * keep  # by a mask, which no kernel takes
    q, k, v = (t.unflatten(-1, (heads, -1)) for t in layer.qkv(x).chunk(3, -1))
    if position == "rope":
        out = window_attention(q, k, v, lengths, chunk, left, rotation=_rotation(64, width, x.device, F64))
    else:
        span, reach = chunk or frames, frames if left is None else left
        furthest = reach + span - 1
        r = layer.position.project(_sinusoid(furthest, heads * width, x.device, F64)[furthest + 1 - span :]).unflatten(-1, (heads, -1))
        bias = torch.einsum("bthd,whd->bhtw", q + layer.position.position_bias, r) * width**-0.5
        out = window_attention(q + layer.position.content_bias, k, v, lengths, chunk, left, bias=bias)
    ours = layer.out(out.flatten(2)) * keep
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    parameters = list(layer.parameters())
    gradients = [torch.autograd.grad(y.square().sum(), parameters, allow_unused=True) for y in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("key_heads", [1, 2])
@pytest.mark.parametrize("kind", ["plain", "slopes", "table", "query", "sigmoid"])
def test_gradients_by_finite_differences(kind, key_heads):
    q, k, v = inputs(frames=5, key_heads=key_heads)
    lengths = torch.tensor([5, 2])
    shape = {"table": (1, 2, 1, 6), "query": (2, 2, 5, 6)}.get(kind)
    bias = None if shape is None else torch.randn(*shape, dtype=F64, requires_grad=True)
    options = {
        "sigmoid": -1.0 if kind == "sigmoid" else None,
        "slopes": torch.tensor([0.5, 0.25], dtype=F64) if kind == "slopes" else None,
        "rotation": _rotation(64, 4, q.device, F64),
    }
    tensors = [q, k, v] if bias is None else [q, k, v, bias]
    assert torch.autograd.gradcheck(
        lambda q, k, v, bias=None: window_attention(q, k, v, lengths, 2, 3, bias=bias, **options), tensors, fast_mode=True
    )


def test_alibi_is_a_bias_by_distance():
    q, k, v = inputs()
    slopes = torch.tensor([0.5, 0.125], dtype=F64)
    table = -slopes[:, None] * torch.arange(1 - 3, 5 + 3).abs()
    lengths = torch.tensor([9, 5])
    torch.testing.assert_close(
        window_attention(q, k, v, lengths, 3, 5, slopes=slopes), window_attention(q, k, v, lengths, 3, 5, bias=table[None, :, None])
    )


def test_full_context_equals_pytorch():
    q, k, v = inputs(key_heads=1, heads=4)
    expected = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(window_attention(q, k, v, torch.tensor([9, 9])), expected)


def test_padding_is_never_read_and_gets_no_gradient():
    q, k, v = inputs()
    lengths = torch.tensor([4, 0])
    beyond = (torch.arange(9) >= lengths[:, None])[..., None, None]
    out = window_attention(*(x.masked_fill(beyond, math.nan) for x in (q, k, v)), lengths, 3, 2)
    assert not out.masked_select(beyond).any() and out.isfinite().all()
    gradients = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(g.isfinite().all() and not g.masked_select(beyond).any() for g in gradients)


def test_operator_obeys_pytorch():
    q, k, v = inputs()
    lengths = torch.tensor([9, 4])
    for bias in (None, torch.randn(1, 2, 1, 9, dtype=F64, requires_grad=True)):
        torch.library.opcheck(attention, (q, k, v, lengths, bias, None, 3, 4, 0.5, None))


def test_half_precision_is_close():
    q, k, v = (x.detach().float() for x in inputs(frames=40, width=40))
    lengths = torch.tensor([40, 31])
    exact = window_attention(q, k, v, lengths, 8, 16)
    torch.testing.assert_close(
        window_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), lengths, 8, 16).float(), exact, rtol=0.05, atol=0.02
    )


def test_errors_say_what_fits():
    q, k, v = inputs()
    lengths = torch.tensor([9, 9])
    with pytest.raises(ValueError, match="should be"):
        window_attention(q, k[:, 1:], v, lengths)
    with pytest.raises(ValueError, match="context"):
        window_attention(q, k, v, lengths, 0, 3)
    with pytest.raises(ValueError, match="bias"):
        window_attention(q, k, v, lengths, 2, 3, bias=torch.zeros(1, 2, 1, 5))
    with pytest.raises(ValueError, match="rotation"):
        window_attention(q, k, v, lengths, 2, 3, rotation=(torch.zeros(8, 2), torch.zeros(8, 2)))
