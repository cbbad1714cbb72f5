"""Viterbi kernels against their definition: the same paths, ties included."""

import pytest
import torch

from riverrun.kernels.viterbi import reference
from riverrun.kernels.viterbi import triton as kernels

from .device import DEVICE

#: Rounded scores tie often.
SCORES = pytest.mark.parametrize(
    ("dtype", "rounded"), [(torch.float32, False), (torch.float32, True), (torch.float64, False), (torch.float16, False)]
)


def scores(*shape, dtype, rounded):
    torch.manual_seed(0)
    x = -torch.rand(shape, device=DEVICE) * 3
    return (x.round() if rounded else x).to(dtype)


@SCORES
def test_ctc(dtype, rounded):
    frames, labels = torch.tensor([17, 9, 8, 3, 1, 0], device=DEVICE), torch.tensor([7, 6, 3, 0, 1, 0], device=DEVICE)
    log_probs = scores(6, 17, 5, dtype=dtype, rounded=rounded)
    targets = torch.randint(1, 6, (6, 7), device=DEVICE)  # 5 is the star
    targets[1, :3] = 2
    ours, expected = (module.ctc(log_probs, targets, frames, labels, 0, 5) for module in (kernels, reference))
    assert torch.equal(ours[0], expected[0])
    torch.testing.assert_close(ours[1], expected[1])


@SCORES
def test_monotonic(dtype, rounded):
    labels, frames = torch.tensor([5, 9, 0, 1], device=DEVICE), torch.tensor([35, 9, 3, 33], device=DEVICE)
    x = scores(4, 9, 35, dtype=dtype, rounded=rounded)
    expected = reference.monotonic(x, labels, frames)
    assert torch.equal(kernels.monotonic(x, labels, frames), expected)
    assert torch.equal(kernels.monotonic(x.mT.contiguous().mT, labels, frames), expected)
