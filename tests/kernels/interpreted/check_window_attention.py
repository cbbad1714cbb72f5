"""Limited-context attention kernels against their definition, gradients included."""

import math

import pytest
import torch

from riverrun.kernels.window_attention import reference, window_attention
from riverrun.kernels.window_attention import triton as kernels

from .device import DEVICE, DTYPES, tolerance

LENGTHS = [19, 0, 7]


def check(dtype, chunk=4, left=6, width=8, heads=(2, 1), biased=None, sloped=False, sigmoid=None, lengths=LENGTHS):
    """Compare outputs and gradients; return a repeat of the backward pass and its first result."""
    torch.manual_seed(0)
    batch, frames = len(lengths), max(lengths)

    def floats(*shape):
        return torch.randn(*shape, device=DEVICE, dtype=torch.float64).to(dtype)

    q, grad = floats(batch, frames, heads[0], width), floats(batch, frames, heads[0], width)
    k, v = floats(batch, frames, 2 * heads[1], width).chunk(2, 2)  # strided, as a fused projection hands them over
    columns = left + 2 * chunk - 1
    shape = {None: None, "table": (1, heads[0], 1, columns), "query": (batch, heads[0], frames, columns)}[biased]
    bias = None if shape is None else floats(*shape)
    slopes = torch.rand(heads[0], device=DEVICE) if sloped else None
    where = torch.tensor(lengths, device=DEVICE)
    context = bias, slopes, chunk, left, width**-0.5, sigmoid
    expected = reference.forward(q, k, v, where, *context)
    beyond = torch.arange(frames, device=DEVICE) >= where[:, None]
    poisoned = [x.masked_fill(beyond[..., None, None], math.nan) for x in (q, torch.cat([k, v], 2))]
    k_poisoned, v_poisoned = poisoned[1].chunk(2, 2)
    out, norm = kernels.forward(poisoned[0], k_poisoned, v_poisoned, where, *context)
    torch.testing.assert_close((out, norm), expected, **tolerance(dtype))
    assert not out[beyond].any()
    arguments = grad.masked_fill(beyond[..., None, None], math.nan), poisoned[0], k_poisoned, v_poisoned, where, bias, slopes, out, norm
    ours = kernels.backward(*arguments, *context[2:])
    definition = reference.backward(grad, q, k, v, where, bias, slopes, *expected, *context[2:])
    torch.testing.assert_close(ours, definition, **tolerance(dtype))
    return lambda: kernels.backward(*arguments, *context[2:]), ours


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    check(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("width", [40, 48, 64, 80, 96, 128])
def test_head_sizes(width, dtype):
    check(dtype, width=width, lengths=[9, 4])


@pytest.mark.parametrize(("chunk", "left"), [(1, 0), (1, 5), (3, 0), (5, 13), (19, 19), (40, 2)])
def test_contexts(chunk, left):
    check(torch.float32, chunk=chunk, left=left)


@pytest.mark.parametrize("sigmoid", [None, 0.0])
def test_rows_that_a_bias_hides_are_zero(sigmoid):
    torch.manual_seed(0)
    q, k, v, grad = torch.randn(4, 1, 9, 1, 8, device=DEVICE)
    bias = torch.randn(1, 1, 9, 10, device=DEVICE)
    bias[:, :, 4] = -math.inf
    lengths = torch.tensor([9], device=DEVICE)
    results = []
    for module in (kernels, reference):
        out, norm = module.forward(q, k, v, lengths, bias, None, 4, 3, 0.3, sigmoid)
        assert not out[:, 4].any()
        results.append((out, *module.backward(grad, q, k, v, lengths, bias, None, out, norm, 4, 3, 0.3, sigmoid)))
    torch.testing.assert_close(*results, **tolerance(torch.float32))
    assert not results[0][1][:, 4].any() and not results[0][4][:, :, 4].any()


def test_several_tiles():
    """And gradients that are the same in every run."""
    again, first = check(torch.float32, chunk=8, left=40, lengths=[130, 90], biased="table")
    assert all(torch.equal(x, y) for x, y in zip(again(), first, strict=True))


@pytest.mark.parametrize("biased", ["table", "query", None])
@pytest.mark.parametrize("sigmoid", [None, -1.5])
def test_bias_with_grouped_heads(biased, sigmoid):
    check(torch.float32, biased=biased, sigmoid=sigmoid, sloped=biased is None, heads=(4, 2), lengths=[9, 4])


def test_public_function_under_autograd():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 9, 2, 8, device=DEVICE, requires_grad=True) for _ in range(3))
    angle = torch.arange(9.0, device=DEVICE)[:, None] * torch.tensor([1.0, 0.3, 0.1, 0.03], device=DEVICE)
    table = torch.randn(1, 2, 1, 10, device=DEVICE, requires_grad=True)
    lengths = torch.tensor([9, 4], device=DEVICE)
    out = window_attention(q, k, v, lengths, 4, 3, rotation=(angle.cos(), angle.sin()), bias=table)
    ours = torch.autograd.grad(out.sum(), (q, k, v, table))
    exact = [x.detach().double().requires_grad_() for x in (q, k, v, table)]
    wide = window_attention(*exact[:3], lengths, 4, 3, rotation=(angle.double().cos(), angle.double().sin()), bias=exact[3])
    torch.testing.assert_close(out.double(), wide, **tolerance(torch.float32))
    for mine, definition in zip(ours, torch.autograd.grad(wide.sum(), exact), strict=True):
        torch.testing.assert_close(mine.double(), definition, **tolerance(torch.float32))
    for shape in ((0, 9, 2, 8), (2, 0, 2, 8)):
        empty = q.detach().new_ones(shape)
        assert window_attention(empty, empty, empty, lengths[: shape[0]] * 0, 4, 3).shape == shape
