"""Expected monotonic attention against its formulas written as loops, enumeration and finite differences."""

import itertools

import pytest
import torch

from riverrun.kernels.monotonic import expected_alignment, expected_soft_attention
from riverrun.kernels.monotonic.op import alignment, attention

F64 = torch.float64


def probabilities(*shape, dtype=F64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).sigmoid()


def test_alignment_equals_enumeration():
    """α_{i,j}: sum over all stopping frames of the labels before, of the probability of that history."""
    p = probabilities(3, 4)
    expected = torch.zeros(3, 4, dtype=F64)
    for i in range(3):
        for stops in itertools.combinations_with_replacement(range(4), i + 1):
            probability, start = 1.0, 0
            for label, stop in enumerate(stops):
                probability, start = probability * (1 - p[label, start:stop]).prod() * p[label, stop], stop
            expected[i, stops[-1]] += probability
    torch.testing.assert_close(expected_alignment(p), expected)


@pytest.mark.parametrize("width", [1, 2, 4, 7, 99, None])
def test_soft_attention_equals_its_formula(width):
    alpha, energy = probabilities(2, 3, 7), torch.randn(2, 3, 7, dtype=F64)
    expected = torch.zeros_like(alpha)
    for k in range(7):
        window = slice(max(k - (width or 7) + 1, 0), k + 1)
        expected[..., window] += alpha[..., k, None] * energy[..., window].softmax(-1)
    torch.testing.assert_close(expected_soft_attention(alpha, energy, width), expected)


def test_gradients_by_finite_differences():
    p, energy = probabilities(2, 3, 6).requires_grad_(), torch.randn(2, 3, 6, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(expected_alignment, p)
    for width in (1, 3, None):
        assert torch.autograd.gradcheck(lambda a, u, w=width: expected_soft_attention(a, u, w), (p, energy))


def test_float32_keeps_its_mass():
    """40 labels over 500 frames, where dividing by a clamped cumulative product loses whole rows."""
    p = torch.sigmoid(torch.randn(4, 40, 500, generator=torch.Generator().manual_seed(0)) * 3 - 1)
    alpha, exact = expected_alignment(p), expected_alignment(p.double())
    torch.testing.assert_close(alpha.double(), exact, atol=1e-6, rtol=1e-4)
    energy = 30 * torch.randn(4, 40, 500, generator=torch.Generator().manual_seed(1))
    for width in (8, None):
        beta = expected_soft_attention(alpha, energy, width)
        torch.testing.assert_close(beta.double(), expected_soft_attention(exact, energy.double(), width), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(beta.sum(-1), alpha.sum(-1), atol=1e-4, rtol=1e-4)


def test_certain_and_impossible_stops():
    p = torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]], requires_grad=True)
    alpha = expected_alignment(p)
    assert torch.equal(alpha, torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]))
    alpha.sum().backward()
    assert p.grad.isfinite().all()


@pytest.mark.parametrize("width", [1, 3, None])
def test_padded_frames(width):
    p, energy = probabilities(1, 3, 8), torch.randn(1, 3, 8, dtype=F64)
    short = expected_soft_attention(expected_alignment(p[..., :5]), energy[..., :5], width)
    p[..., 5:], energy[..., 5:] = 0, -torch.inf
    p.requires_grad_(), energy.requires_grad_()
    padded = expected_soft_attention(expected_alignment(p), energy, width)
    torch.testing.assert_close(padded[..., :5], short)
    assert not padded[..., 5:].any()
    padded.sum().backward()
    assert p.grad.isfinite().all() and energy.grad.isfinite().all()
    masked = torch.full_like(energy, -torch.inf)
    assert not expected_soft_attention(p, masked, width).any()


def test_shapes_dtypes_and_errors():
    p = probabilities(2, 5, 3, 4)
    flat = expected_alignment(p.view(10, 3, 4))
    assert torch.equal(expected_alignment(p).view(10, 3, 4), flat)
    assert expected_alignment(p.half()).dtype == torch.float16
    for shape in ((0, 3, 4), (2, 0, 4), (2, 3, 0), (2, 3, 1)):
        x = torch.rand(shape, requires_grad=True)
        for width in (2, None):
            y = expected_soft_attention(expected_alignment(x), torch.zeros(shape), width)
            assert y.shape == shape
            y.sum().backward()
    with pytest.raises(ValueError, match="at least 1 frame"):
        expected_soft_attention(p, p, 0)
    with pytest.raises(ValueError, match="one shape"):
        expected_soft_attention(p, p[..., :2])


def test_operators_obey_pytorch():
    p, energy = probabilities(2, 3, 5).requires_grad_(), torch.randn(2, 3, 5, dtype=F64, requires_grad=True)
    torch.library.opcheck(alignment, (p,))
    for width in (0, 2):
        torch.library.opcheck(attention, (p, energy, width))
