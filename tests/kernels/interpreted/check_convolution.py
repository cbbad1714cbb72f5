"""Convolution module kernels against their definition: whole inputs with gradients, and steps with their state."""

import math

import pytest
import torch

from riverrun.kernels.convolution import causal_convolution, causal_convolution_step, reference
from riverrun.kernels.convolution import triton as kernels

from .device import DEVICE, DTYPES, tolerance


def floats(dtype, *shape):
    return torch.randn(*shape, device=DEVICE, dtype=torch.float64).to(dtype)


def parameters(dtype, channels, taps):
    """In at least float32, as under autocast."""
    wide = torch.promote_types(dtype, torch.float32)
    return floats(wide, channels, taps), floats(wide, channels), floats(wide, channels), floats(wide, channels)


SHAPES = [((2, 19, 24), 5), ((1, 1, 8), 3), ((1, 19, 40), 15), ((3, 4, 130), 1)]
STEPS = [(24, 5, 6), (40, 15, 3), (24, 1, 2), (300, 3, 9)]
F32 = torch.float32


@pytest.mark.parametrize(("dtype", "shape", "taps"), [(d, *SHAPES[0]) for d in DTYPES] + [(F32, *shape) for shape in SHAPES[1:]])
def test_whole(dtype, shape, taps, monkeypatch):
    monkeypatch.setitem(kernels.SIZES, "convolve span", 16)
    monkeypatch.setitem(kernels.SIZES, "gate span", 16)
    torch.manual_seed(0)
    batch, frames, channels = shape
    x, grad = floats(dtype, batch, frames, 2 * channels), floats(dtype, batch, frames, channels)
    weights = parameters(dtype, channels, taps)
    out, convolved = kernels.forward(x, *weights, 1e-5)
    torch.testing.assert_close((out, convolved), reference.forward(x, *weights, 1e-5), **tolerance(dtype))
    ours = kernels.backward(grad, x, convolved, *weights, 1e-5)
    expected = reference.backward(grad, x, convolved, *weights, 1e-5)
    scale = max(1, math.sqrt(batch * frames))  # sums over frames
    for mine, definition in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine / scale, definition / scale, **tolerance(dtype))
    assert all(torch.equal(a, b) for a, b in zip(ours, kernels.backward(grad, x, convolved, *weights, 1e-5), strict=True))


@pytest.mark.parametrize(("dtype", "channels", "taps", "frames"), [(d, *STEPS[0]) for d in DTYPES] + [(F32, *step) for step in STEPS[1:]])
def test_steps(dtype, channels, taps, frames):
    torch.manual_seed(0)
    weights = parameters(dtype, channels, taps)
    state = torch.zeros(5, taps - 1, channels, device=DEVICE, dtype=dtype)
    ours = state.clone()
    slots = torch.tensor([4, 0, 2], device=DEVICE)
    for step in ([frames, 0, 1], [frames, frames, 0], [1, frames, frames]):
        lengths = torch.tensor(step, device=DEVICE)
        x = floats(dtype, 3, frames, 2 * channels)
        beyond = torch.arange(frames, device=DEVICE) >= lengths[:, None]
        poisoned = x.masked_fill(beyond[..., None], math.nan)
        out = kernels.step(poisoned, slots, lengths, ours, *weights, 1e-5)
        torch.testing.assert_close(out, reference.step(x, slots, lengths, state, *weights, 1e-5), **tolerance(dtype))
        torch.testing.assert_close(ours, state, **tolerance(dtype))
        assert not out[beyond].any()
    assert not ours[[1, 3]].any()


def test_public_functions():
    torch.manual_seed(0)
    weight, *vectors = parameters(torch.float32, 24, 5)
    parts = [floats(torch.float32, 2, 9, 48), weight[:, None], *vectors]
    parts = [part.requires_grad_() for part in parts]
    exact = [part.detach().double().requires_grad_() for part in parts]
    ours, wide = causal_convolution(*parts), causal_convolution(*exact)
    torch.testing.assert_close(ours.double(), wide, **tolerance(torch.float32))
    gradients = (torch.autograd.grad(y.square().sum(), p) for y, p in ((ours, parts), (wide, exact)))
    for mine, definition in zip(*gradients, strict=True):
        torch.testing.assert_close(mine.double(), definition, rtol=1e-4, atol=1e-4)
    state, slots = torch.zeros(2, 4, 24, device=DEVICE), torch.tensor([1, 0], device=DEVICE)
    with torch.no_grad():
        pieces = [causal_convolution_step(x, slots, slots * 0 + x.shape[1], state, *parts[1:]) for x in parts[0].split(4, 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), ours, **tolerance(torch.float32))
    for shape in ((0, 3, 48), (2, 0, 48)):
        assert causal_convolution(parts[0].detach().new_ones(shape), *parts[1:]).shape == (*shape[:2], 24)
