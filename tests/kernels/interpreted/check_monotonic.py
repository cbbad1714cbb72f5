"""Monotonic attention kernels against their definition."""

import pytest
import torch

from riverrun.kernels.monotonic import expected_alignment, expected_soft_attention, reference
from riverrun.kernels.monotonic import triton as kernels

from .device import DEVICE, tolerance

SHAPES = [(2, 3, 7), (1, 1, 1), (1, 4, 16), (2, 2, 33)]


def inputs(shape, dtype):
    torch.manual_seed(0)
    p, grad, energy = (torch.randn(shape, device=DEVICE, dtype=dtype) for _ in range(3))
    energy[..., shape[-1] - shape[-1] // 3 :] = -torch.inf
    return p.sigmoid(), grad, 5 * energy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_alignment(shape, dtype):
    p, grad, _ = inputs(shape, dtype)
    ours, expected = kernels.alignment(p), reference.alignment(p)
    torch.testing.assert_close(ours, expected, **tolerance(dtype))
    torch.testing.assert_close(
        kernels.alignment_backward(grad, p, ours[1]), reference.alignment_backward(grad, p, ours[1]), **tolerance(dtype)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [0, 1, 4])
def test_soft_attention(shape, dtype, width):
    alpha, grad, energy = inputs(shape, dtype)
    norm = kernels.log_normaliser(energy, width)
    torch.testing.assert_close(norm, reference.log_normaliser(energy, width), **tolerance(dtype))
    for name in ("spread", "collect"):
        ours, expected = (getattr(module, name)(grad, energy, norm, width) for module in (kernels, reference))
        torch.testing.assert_close(ours, expected, **tolerance(dtype))


@pytest.mark.parametrize("width", [3, None])
def test_gradients_of_the_public_functions(width):
    p, grad, energy = (x.requires_grad_() for x in inputs((2, 3, 7), torch.float64))
    assert torch.autograd.gradcheck(lambda x: expected_soft_attention(expected_alignment(x), grad, width), p, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: expected_soft_attention(p, x, width), grad, fast_mode=True)
    for shape in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        assert expected_soft_attention(expected_alignment(p.new_ones(shape)), p.new_ones(shape), width).shape == shape
