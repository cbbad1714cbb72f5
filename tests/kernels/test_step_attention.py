"""Step attention against the attention layer that it serves, against enumeration, and as an operator."""

import math

import pytest
import torch

from riverrun.kernels.step_attention import op, step_attention
from riverrun.kernels.step_attention.op import step
from riverrun.speech.attention import ChunkedAttention, Context
from riverrun.speech.attention.position import _rotation, _sinusoid

F64 = torch.float64


@pytest.fixture(autouse=True, params=["torch", "definition"])
def _computed_by(request, monkeypatch):
    """Everything here holds for PyTorch's own layers and for the definition."""
    if request.param == "definition":
        monkeypatch.setattr(op, "_by_torch", lambda *_: False)


HEADS, WIDTH = 2, 4


def tables(rows):
    return _rotation(rows, WIDTH, torch.device("cpu"), F64)


def position_options(layer, q, left, chunk, frames):
    """What the layer's position scheme becomes: rotation tables, or a bias for every query and distance."""
    if not hasattr(layer.position, "project"):
        return q, {"rotation": tables(left + max(chunk, frames))}
    furthest = left + chunk - 1
    r = layer.position.project(_sinusoid(furthest, HEADS * WIDTH, q.device, q.dtype)[furthest + 1 - chunk :]).unflatten(-1, (HEADS, -1))
    bias = torch.einsum("schd,whd->shcw", q + layer.position.position_bias, r) * WIDTH**-0.5
    return q + layer.position.content_bias, {"bias": bias}


@pytest.mark.parametrize("position", ["rope", "transformer_xl"])
@pytest.mark.parametrize(("chunk", "left"), [(4, 6), (3, 3), (2, 0), (1, 5)])
@torch.no_grad()
def test_equals_chunked_attention(position, chunk, left):
    """Ragged steps of streams in permuted slots, over several turns of the ring."""
    torch.manual_seed(0)
    layer = ChunkedAttention(HEADS * WIDTH, HEADS, Context(chunk, left), position).double()
    for parameter in layer.position.parameters():
        torch.nn.init.normal_(parameter)
    slots = torch.tensor([3, 0, 2])
    state = layer.init_state(3, torch.zeros(1, dtype=F64))
    keys, values = torch.full((2, 4, left, HEADS, WIDTH), math.nan, dtype=F64)
    seen = torch.zeros(4, dtype=torch.long)
    frames = 3 * chunk
    for counts in [(1, 0, 3), (2, 1, 0), (3, 3, 1), (0, 2, 3), (1, 1, 1), (3, 0, 2)]:
        lengths = chunk * torch.tensor(counts)
        if counts == (3, 0, 2):
            lengths -= torch.tensor([1, 0, 0]) * (chunk > 1)  # a stream's last step
        x = torch.randn(3, frames, HEADS * WIDTH, dtype=F64)
        expected, _, state = layer.step(x, lengths, state)
        q, k, v = (t.unflatten(-1, (HEADS, -1)) for t in layer.qkv(x).chunk(3, -1))
        q, options = position_options(layer, q, left, chunk, frames)
        cos, sin = options.get("rotation", (None, None))
        scheme = cos, sin, options.get("bias"), chunk, 0, WIDTH**-0.5, None
        out = layer.out(step(q, k, v, slots, lengths, keys, values, seen, *scheme).flatten(2))  # the definition, whoever computes the layer
        seen.index_add_(0, slots, lengths)
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(out[row, :length], expected[row, :length], rtol=1e-12, atol=1e-12)
    assert keys[1].isnan().all() and values[1].isnan().all()


def random_step(frames=4, left=6, sinks=0, slots=2, seen=0):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, slots, frames, HEADS, WIDTH, dtype=F64)
    keys, values = torch.randn(2, slots, sinks + left, HEADS, WIDTH, dtype=F64)
    return q, k, v, torch.arange(slots), torch.full((slots,), frames), keys, values, torch.full((slots,), seen)


def test_positions_are_exact_after_days():
    """A stream 11 days old (at 100 frames a second) with the same ring answers bit for bit as a young one."""
    options = {"rotation": tables(12)}
    young, old = random_step(seen=60), random_step(seen=60 + 6 * 16_000_000)
    assert torch.equal(step_attention(*young, 4, **options), step_attention(*old, 4, **options))
    assert torch.equal(young[5], old[5])


def test_idle_rows_keep_their_caches_and_any_slot():
    """Rows of length 0 may all name one slot, as padding to a fixed number of rows does."""
    q, k, v, slots, lengths, keys, values, seen = random_step(seen=6)
    before = keys.clone(), values.clone()
    assert not step_attention(q, k, v, slots * 0, lengths * 0, keys, values, seen, 4).any()
    assert torch.equal(keys, before[0]) and torch.equal(values, before[1])


@pytest.mark.parametrize("chunks_a_step", [1, 3])
def test_sinks_equal_enumeration(chunks_a_step):
    """The first frames stay visible, right before the window once it has left them behind."""
    torch.manual_seed(0)
    chunk, left, sinks, frames = 2, 3, 2, 18
    q, k, v = torch.randn(3, 1, frames, 1, WIDTH, dtype=F64)
    bias = torch.randn(1, 1, 1, left + sinks + 2 * chunk - 1, dtype=F64)
    keys, values = torch.zeros(2, 1, sinks + left, 1, WIDTH, dtype=F64)
    seen = torch.zeros(1, dtype=torch.long)
    out = []
    for piece in zip(*(x.split(chunk * chunks_a_step, 1) for x in (q, k, v)), strict=True):
        lengths, options = torch.tensor([piece[0].shape[1]]), {"sinks": sinks, "rotation": tables(12), "bias": bias}
        out.append(step_attention(*piece, torch.tensor([0]), lengths, keys, values, seen, chunk, **options))
        seen += lengths
    ours = torch.cat(out, 1)
    speed = 10000 ** (-torch.arange(0, WIDTH, 2, dtype=F64) / WIDTH)
    for t in range(frames):
        begin = t // chunk * chunk
        seen_frames = sorted({*range(min(sinks, begin)), *range(max(begin - left, 0), begin + chunk)})
        scores = []
        for j in seen_frames:
            distance = t - j if j >= begin - left else t - j - max(begin - left - sinks, 0)
            a, b = k[0, j, 0].chunk(2)
            cos, sin = (speed * distance).cos(), (speed * distance).sin()
            turned = torch.cat([a * cos + b * sin, b * cos - a * sin])
            scores.append(q[0, t, 0] @ turned * WIDTH**-0.5 + bias[0, 0, 0, distance + chunk - 1])
        expected = torch.stack(scores).softmax(0) @ v[0, seen_frames, 0]
        torch.testing.assert_close(ours[0, t, 0], expected, rtol=1e-10, atol=1e-10)


def test_sigmoid_and_grouped_heads():
    q, k, v, slots, lengths, keys, values, seen = random_step(seen=6)
    many = q.repeat_interleave(2, 2)
    first = step_attention(many, k, v, slots, lengths, keys.clone(), values.clone(), seen, 4, sigmoid=-2.0)
    second = step_attention(q, k, v, slots, lengths, keys.clone(), values.clone(), seen, 4, sigmoid=-2.0)
    assert torch.equal(first, second.repeat_interleave(2, 2))
    window_k, window_v = torch.cat([keys, k], 1), torch.cat([values, v], 1)  # frame 6 begins a turn of the ring
    weights = (torch.einsum("schd,skhd->shck", q, window_k) * WIDTH**-0.5 - 2).sigmoid()
    torch.testing.assert_close(second, torch.einsum("shck,skhd->schd", weights, window_v))


def test_operator_obeys_pytorch():
    options = *tables(16), torch.randn(1, HEADS, 1, 15, dtype=F64), 4, 2, 0.5, None
    torch.library.opcheck(step, (*random_step(sinks=2, seen=7), *options))
    compiled = torch.compile(lambda *x: step_attention(*x, 4), fullgraph=True, backend="aot_eager")
    ours, expected = random_step(seen=8), random_step(seen=8)
    assert torch.equal(compiled(*ours), step_attention(*expected, 4)) and torch.equal(ours[5], expected[5])


def test_errors_say_what_fits():
    q, k, v, slots, lengths, keys, values, seen = random_step()
    with pytest.raises(ValueError, match="should be"):
        step_attention(q, k[:, :3], v, slots, lengths, keys, values, seen, 4)
    with pytest.raises(ValueError, match="caches"):
        step_attention(q, k, v, slots, lengths, keys[..., :2], values, seen, 4)
    with pytest.raises(ValueError, match="chunk"):
        step_attention(q, k, v, slots, lengths, keys, values, seen, 0)
    with pytest.raises(ValueError, match="rotation tables"):
        step_attention(q, k, v, slots, lengths, keys, values, seen, 4, rotation=tables(9))
    with pytest.raises(ValueError, match="bias"):
        step_attention(q, k, v, slots, lengths, keys, values, seen, 4, bias=torch.zeros(1, HEADS, 1, 12))
