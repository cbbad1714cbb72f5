"""Entmax attention kernels against their definition."""

import math

import pytest
import torch

from riverrun.kernels.entmax import entmax_attention, reference
from riverrun.kernels.entmax import triton as kernels

from .device import DEVICE, DTYPES, tolerance


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks that the tiny inputs do not fit into."""
    for itemsize in (2, 4, 8):
        for padded in (16, 32, 64, 128):
            monkeypatch.setitem(kernels.BACKWARD, (itemsize, padded), ((16, 16, 4, 1),) * 2)
        monkeypatch.setitem(kernels.FORWARD, (itemsize, 128, 128 if itemsize == 2 else 64), (16, 16, 16, 4))


def inputs(dtype, heads, key_heads, frames, past, width):
    generator = torch.Generator().manual_seed(0)
    q, grad = (torch.randn(3, frames, heads, width, generator=generator).to(DEVICE, dtype) for _ in range(2))
    kv = torch.randn(3, past + frames, 2 * key_heads, width, generator=generator).to(DEVICE, dtype)
    k, v = kv.chunk(2, 2)  # strided, as a fused projection hands them over
    alpha = torch.linspace(1.5, 1.8, heads, dtype=reference.wide(dtype), device=DEVICE)
    lengths = torch.tensor([frames, frames // 2, 0], device=DEVICE)
    filled = torch.tensor([past, past // 2, 0], device=DEVICE) if past else None
    return grad, q, k, v, alpha, lengths, filled


def poison(x, lengths, filled, past):
    there = torch.arange(x.shape[1], device=DEVICE) - past
    beyond = there >= lengths[:, None]
    if past:
        beyond |= there < -filled[:, None]
    return x.masked_fill(beyond[..., None, None], math.nan).contiguous()


def compare(ours, expected, dtype):
    for mine, definition in zip(ours, expected, strict=True):
        limit = tolerance(dtype)["atol"] * max(1.0, float(definition.abs().max()) if definition.numel() else 0.0)
        torch.testing.assert_close(mine, definition, rtol=limit, atol=limit)


def run(dtype, heads, key_heads, frames, past, width, chunk, left):
    grad, q, k, v, alpha, lengths, filled = inputs(dtype, heads, key_heads, frames, past, width)
    options = chunk, left, width**-0.5
    out, tau = reference.forward(q, k, v, alpha, lengths, filled, *options)
    q_, grad_ = (poison(x, lengths, filled, 0) if not past else poison(x, lengths, lengths * 0, 0) for x in (q, grad))
    k_, v_ = (poison(x, lengths, filled, past) for x in (k, v))
    assert kernels.supports(q, k, chunk, left)
    ours, our_tau = kernels.forward(q_, k_, v_, alpha, lengths, filled, *options)
    compare([ours], [out], dtype)
    assert torch.equal(our_tau.isinf(), tau.isinf())
    expected = reference.backward(grad, q, k, v, alpha, lengths, filled, out, tau, *options)
    *gradients, of_alpha = kernels.backward(grad_, q_, k_, v_, alpha, lengths, filled, ours, our_tau, *options)
    compare(gradients, expected[:3], dtype)
    torch.testing.assert_close(of_alpha, expected[3], rtol=50 * tolerance(dtype)["rtol"], atol=50 * tolerance(dtype)["atol"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_inputs(dtype):
    run(dtype, 2, 2, 20, 0, 8, 8, 5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_with_a_past_and_grouped_heads(dtype):
    run(dtype, 2, 1, 19, 6, 20, 4, 6)


@pytest.mark.parametrize(("chunk", "left", "past"), [(20, 20, 0), (16, 0, 0), (5, 20, 0), (19, 3, 6), (3, 2, 6)])
def test_contexts(chunk, left, past):
    run(torch.float32, 1, 1, 20, past, 4, chunk, left)


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 40), (torch.float32, 48), (torch.float16, 80), (torch.float16, 96)])
def test_head_sizes(dtype, width):
    run(dtype, 1, 1, 6, 0, width, 3, 2)


def test_many_keys():
    """More than the smallest tile holds."""
    run(torch.float32, 1, 1, 6, 124, 4, 6, 124)


def test_keys_seen():
    """The bound on what a block of queries sees holds, by enumeration."""
    for block in (2, 4, 16):
        for frames in (1, 3, 7, 16, 30):
            for chunk in (1, 2, 3, 4, 6, 16, 40):
                for left, past in ((0, 0), (5, 0), (3, 3), (9, 20)):
                    most = 0
                    for first in range(0, frames, block):
                        start, last = first // chunk * chunk - left, (first + block - 1) // chunk * chunk + chunk
                        most = max(most, min(last, frames) - max(start, -past))
                    assert most <= kernels.keys_seen(block, frames, past, chunk, left)


def test_public_function_runs_the_kernels():
    grad, q, k, v, alpha, lengths, filled = inputs(torch.float64, 2, 1, 2, 1, 2)
    leaves = [x.detach().requires_grad_() for x in (q, k, v, alpha)]
    leaves[3].data[1] = 1.7
    assert torch.autograd.gradcheck(lambda *x: entmax_attention(*x, lengths, 2, 1, filled=filled), leaves, fast_mode=True)
    assert not kernels.supports(q.new_empty(1, 3000, 1, 4), q.new_empty(1, 3000, 1, 4), 3000, 0)
    empty = q[:, :0]
    assert entmax_attention(empty, empty[:, :, :1], empty[:, :, :1], alpha, lengths * 0).shape == empty.shape
