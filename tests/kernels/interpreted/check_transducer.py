"""Transducer kernels against their definition."""

import math

import pytest
import torch

from riverrun.kernels.transducer import joint_rnnt_loss, reference, rnnt_loss, rnnt_loss_pruned, triton_joiner
from riverrun.kernels.transducer import triton as kernels

from .device import DEVICE, DTYPES, tolerance

SHAPES = [(4, 2), (1, 0), (3, 3), (3, 0), (0, 2), (0, 0), (2, 3)]


def inputs(dtype, vocabulary, first=False, shapes=SHAPES):
    torch.manual_seed(0)
    frames, labels = (torch.tensor(x, device=DEVICE) for x in zip(*shapes, strict=True))
    rows = 2 if first else 4
    logits = torch.randn(len(shapes), 4, rows, vocabulary, device=DEVICE).to(dtype)
    targets = torch.randint(0, vocabulary, (len(shapes), 3), device=DEVICE)
    begin = torch.tensor([0, 0, 1, 2], device=DEVICE).expand(len(shapes), 4).contiguous() if first else None
    return logits, targets, begin, frames, labels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("vocabulary", "first", "shapes"), [(7, False, SHAPES), (7, True, SHAPES), (1030, False, [(1, 0), (2, 1)])])
def test_arcs(dtype, vocabulary, first, shapes):
    logits, targets, begin, frames, labels = inputs(dtype, vocabulary, first, shapes)
    poisoned = logits.clone()
    poisoned[0, int(frames[0]) :], poisoned[1, int(frames[1]) :] = math.nan, math.nan
    ours = kernels.arcs(poisoned, targets, begin, frames, labels, 2)
    expected = reference.arcs(logits, targets, begin, frames, labels, 2)
    torch.testing.assert_close(ours, expected, **tolerance(torch.float32 if dtype != torch.float64 else dtype))
    label_grad, blank_grad = torch.randn_like(expected[0]), torch.randn_like(expected[1])
    gradient = kernels.arcs_backward(label_grad, blank_grad, poisoned, ours[2], targets, begin, frames, labels, 2)
    again = kernels.arcs_backward(label_grad, blank_grad, poisoned.clone(), ours[2], targets, begin, frames, labels, 2, in_place=True)
    reference_gradient = reference.arcs_backward(label_grad, blank_grad, logits, expected[2], targets, begin, frames, labels, 2)
    torch.testing.assert_close(gradient, reference_gradient, **tolerance(dtype))
    assert torch.equal(gradient, again)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lattice(dtype):
    logits, targets, _, frames, labels = inputs(dtype, 7)
    label, blank, _ = reference.arcs(logits, targets, None, frames, labels, 0)
    label[0, 1, 2] = -math.inf
    expected = reference.lattice(label, blank, frames, labels)
    ours = kernels.lattice(label, blank, frames, labels)
    torch.testing.assert_close(ours, expected, **tolerance(dtype))
    assert all(torch.equal(x, y) for x, y in zip(ours, kernels.lattice(label, blank, frames, labels), strict=True))


def test_lattice_without_labels_frames_or_utterances():
    for batch, labels, frames in ((2, 0, 3), (2, 3, 0), (0, 2, 2), (2, 0, 0)):
        shape = torch.full((batch,), labels, device=DEVICE), torch.full((batch,), frames, device=DEVICE)
        label, blank = (
            torch.full((batch, labels, frames), -1.0, device=DEVICE),
            torch.full((batch, labels + 1, frames), -1.0, device=DEVICE),
        )
        ours = kernels.lattice(label, blank, shape[1], shape[0])
        torch.testing.assert_close(ours, reference.lattice(label, blank, shape[1], shape[0]))


def test_losses_and_their_gradients():
    """The public functions, on the kernels, against float64 on the definition."""
    logits, targets, _, frames, labels = inputs(torch.float32, 7)
    exact = logits.double().requires_grad_()
    logits.requires_grad_()
    label, blank, norm = reference.arcs(exact.detach(), targets, None, frames, labels, 0)
    total, label_count, blank_count = reference.lattice(label, blank, frames, labels)
    gradient = -reference.arcs_backward(label_count, blank_count, exact.detach(), norm, targets, None, frames, labels, 0)
    loss = rnnt_loss(logits, targets, frames, labels, reduction="none")
    loss.sum().backward()
    torch.testing.assert_close(loss.double(), -total, **tolerance(torch.float32))
    torch.testing.assert_close(logits.grad.double(), gradient, **tolerance(torch.float32))
    begin = torch.zeros(len(SHAPES), 4, dtype=torch.long, device=DEVICE)
    ranges = begin[..., None] + torch.arange(4, device=DEVICE)
    boundary = torch.stack([0 * labels, 0 * labels, labels, frames], 1)
    torch.testing.assert_close(rnnt_loss_pruned(logits, targets, ranges, 0, boundary, reduction="none"), loss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_joiner(dtype, activation):
    torch.manual_seed(0)
    encoder, predictor, grad = (torch.randn(s, device=DEVICE).to(dtype) for s in ((2, 5, 40), (2, 9, 40), (2, 3, 9, 40)))
    hidden = triton_joiner.join(encoder[:, 1:4], predictor, activation)
    torch.testing.assert_close(hidden, reference.join(encoder[:, 1:4], predictor, activation), **tolerance(dtype))
    expected = reference.join_backward(grad, hidden, activation)
    torch.testing.assert_close(
        triton_joiner.join_backward(grad.clone(), hidden, activation),
        expected,
        **{**tolerance(dtype), "atol": 5 * tolerance(dtype)["atol"]},
    )


def test_joint_loss():
    _, targets, _, frames, labels = inputs(torch.float32, 7)
    parts = [torch.randn(s, device=DEVICE, requires_grad=True) for s in ((7, 4, 8), (7, 4, 8), (7, 8), (7,))]
    encoder, predictor, weight, bias = parts
    keep = frames > 0
    expected = rnnt_loss(torch.tanh(encoder[:, :, None] + predictor[:, None]) @ weight.T + bias, targets, frames, labels, reduction="none")
    ours = joint_rnnt_loss(*parts, targets, frames, labels, tile=2, reduction="none")
    torch.testing.assert_close(ours, expected, **tolerance(torch.float32))
    gradients = [torch.autograd.grad(x[keep].sum(), parts) for x in (ours, expected)]
    torch.testing.assert_close(*gradients, **tolerance(torch.float32))
