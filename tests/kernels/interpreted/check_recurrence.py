"""Recurrence kernels against their definitions."""

import math

import pytest
import torch

from riverrun.kernels.recurrence import lightning_attention, lightning_decays, reference, triton_scan
from riverrun.kernels.recurrence import triton as kernels

from .device import DEVICE, DTYPES, tolerance


def floats(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def poisoned(x, lengths):
    """``x`` with NaN wherever nothing should be read."""
    beyond = torch.arange(x.shape[1], device=DEVICE) >= lengths[:, None]
    return x.masked_fill(beyond.reshape(*beyond.shape, *[1] * (x.dim() - 2)), math.nan)


def compare(ours, expected, dtype):
    """Sums of many terms are as good as the largest of them."""
    for mine, definition in zip(ours, expected, strict=True):
        limit = tolerance(dtype)["atol"] * max(1.0, float(definition.abs().max()) if definition.numel() else 0.0)
        torch.testing.assert_close(mine, definition, rtol=limit, atol=limit)


def attention_inputs(dtype, frames, width, values):
    wide = reference.wide(dtype)
    lengths = torch.tensor([frames, frames * 2 // 3, 0], device=DEVICE)
    scale = width**-0.5
    q, k = (floats(3, frames, 2, width, seed=i, dtype=dtype) * scale for i in range(2))
    v, grad = (floats(3, frames, 2, values, seed=i, dtype=dtype) for i in (2, 3))
    state, state_grad = (floats(3, 2, width, values, seed=i, dtype=wide) for i in (4, 5))
    return q, k, v, grad, lengths, lightning_decays(2, 3, 12).to(DEVICE), state, state_grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("frames", "width", "values", "begun"), [(1, 4, 4, True), (37, 24, 5, True), (70, 3, 20, False)])
def test_lightning(dtype, frames, width, values, begun):
    q, k, v, grad, lengths, log_decay, state, state_grad = attention_inputs(dtype, frames, width, values)
    state = state if begun else None
    q_, k_, v_, grad_ = (poisoned(x, lengths) for x in (q, k, v, grad))
    ours = kernels.linear_attention(q_, k_, v_, lengths, log_decay, state)
    compare(ours, reference.linear_attention(q, k, v, lengths, log_decay, state), dtype)
    ours = kernels.linear_attention_backward(grad_, state_grad, q_, k_, v_, lengths, log_decay, state)
    compare(ours, reference.linear_attention_backward(grad, state_grad, q, k, v, lengths, log_decay, state), dtype)


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 40), (torch.float32, 48), (torch.float16, 80), (torch.float16, 96)])
def test_lightning_head_sizes(dtype, width):
    frames = 70 if DEVICE == "cuda" else 5  # full blocks multiply by other instructions
    q, k, v, grad, lengths, log_decay, state, state_grad = attention_inputs(dtype, frames, width, width)
    ours = kernels.linear_attention(q, k, v, lengths, log_decay, state)
    compare(ours, reference.linear_attention(q, k, v, lengths, log_decay, state), dtype)
    ours = kernels.linear_attention_backward(grad, state_grad, q, k, v, lengths, log_decay, state)
    compare(ours, reference.linear_attention_backward(grad, state_grad, q, k, v, lengths, log_decay, state), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lightning_step(dtype):
    """Idle rows touch nothing, not even a slot of another row; strided inputs, as a fused projection hands them over."""
    q, k, v = floats(4, 6, 6, 8, dtype=dtype).chunk(3, 2)
    slots, lengths = torch.tensor([5, 0, 3, 3], device=DEVICE), torch.tensor([6, 1, 4, 0], device=DEVICE)
    log_decay, state = lightning_decays(2, 3, 12).to(DEVICE), floats(6, 2, 8, 8, dtype=reference.wide(dtype))
    untouched = torch.tensor([1, 2, 4], device=DEVICE)
    ours = state.clone()
    ours[untouched] = math.nan
    out = kernels.linear_attention_step(q, k, v, slots, lengths, log_decay, ours)
    compare([out], [reference.linear_attention_step(q, k, v, slots, lengths, log_decay, state)], dtype)
    assert ours[untouched].isnan().all()
    compare([ours[slots]], [state[slots]], dtype)  # keys are decayed in the dtype of the inputs


def test_lightning_repeats_bit_for_bit():
    q, k, v, grad, lengths, log_decay, state, state_grad = attention_inputs(torch.float32, 20, 4, 4)
    arguments = grad, state_grad, q, k, v, lengths, log_decay, state
    first, second = (kernels.linear_attention_backward(*arguments) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("chunk", "begun"), [(9, False), (9, True), (4, False), (4, True), (70, True)])
def test_scan(dtype, chunk, begun, monkeypatch):
    monkeypatch.setitem(triton_scan.SIZES, "scan", (4, 4, 4))
    x, gate, grad = (floats(3, 9, 5, seed=i, dtype=dtype) for i in range(3))
    gate, lengths = gate.sigmoid(), torch.tensor([9, 6, 0], device=DEVICE)
    state = floats(3, 5, seed=3, dtype=reference.wide(dtype)) if begun else None
    phase = torch.tensor([3, 0, 1], device=DEVICE) if begun and chunk != 9 else None
    past = phase, state, chunk
    y = reference.scan(x, gate, lengths, *past)
    x_, gate_, grad_ = (poisoned(z, lengths) for z in (x, gate, grad))
    compare([triton_scan.scan(x_, gate_, lengths, *past)], [y], dtype)
    expected = reference.scan_backward(grad, gate, y, lengths, *past)
    ours = triton_scan.scan_backward(grad_, gate_, y, lengths, *past)
    compare(ours if begun else ours[:2], expected if begun else expected[:2], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("averages", [1, 3])
def test_moving_averages(dtype, averages, monkeypatch):
    monkeypatch.setitem(triton_scan.SIZES, "ema", (4, 8, 4))
    monkeypatch.setitem(triton_scan.SIZES, "ema_backward", (4, 8, 4))
    wide, lengths = reference.wide(dtype), torch.tensor([9, 6, 0], device=DEVICE)
    u, grad = (floats(3, 9, 5, seed=i, dtype=dtype) for i in range(2))
    decay, weight = (floats(5, averages, seed=i, dtype=wide) for i in (2, 3))
    decay = decay.sigmoid()
    decay[0, 0], decay[1, 0] = 0, 1  # forgets at once, never forgets
    state, state_grad = (floats(3, 5, averages, seed=i, dtype=wide) for i in (4, 5))
    u_, grad_ = poisoned(u, lengths), poisoned(grad, lengths)
    compare(triton_scan.ema(u_, decay, weight, lengths, state), reference.ema(u, decay, weight, lengths, state), dtype)
    ours = triton_scan.ema_backward(grad_, state_grad, u_, decay, weight, lengths, state)
    compare(ours, reference.ema_backward(grad, state_grad, u, decay, weight, lengths, state), dtype)


def test_public_function_runs_the_kernels():
    q, k, v, _, lengths, log_decay, state, _ = attention_inputs(torch.float64, 2, 2, 1)
    leaves = [x.requires_grad_() for x in (q, k, v, state)]
    assert torch.autograd.gradcheck(lambda *x: lightning_attention(*x[:3], lengths, log_decay, x[3]), leaves, fast_mode=True)
    wide = floats(3, 2, 1, 200)
    out, _ = lightning_attention(wide, wide, wide, lengths, log_decay[:1])
    assert out.shape == wide.shape
