"""A leak detector: gradients show what each output frame really depends on, and that the declaration is true and tight."""

import math

import pytest
import torch

from .harness import make_input, tensors
from .parts import EXAMPLES

FLOATS = [name for name, e in EXAMPLES.items() if e.aligned and e.vocabulary is None]


def dependencies(name: str, frames: int) -> list[tuple[int, int]]:
    """First and last input frame that each output frame depends on, in an input of ``frames`` frames."""
    example = EXAMPLES[name]
    x = make_input(example, 1, frames, torch.float64, 5).requires_grad_()
    y, lengths = example.module.double().eval()(x, torch.tensor([frames]))
    fields = [t for t in tensors(y) if t.is_floating_point() and t.requires_grad]
    spans = []
    for t in range(int(lengths[0])):
        (grad,) = torch.autograd.grad(sum((torch.randn_like(f[0, t]) * f[0, t]).sum() for f in fields), x, retain_graph=True)
        touched = grad[0].flatten(1).abs().sum(1).nonzero()[:, 0] if grad.dim() > 2 else grad[0].nonzero()[:, 0]
        spans.append((int(touched[0]), int(touched[-1])) if len(touched) else (-1, -1))
    return spans


@pytest.mark.parametrize("name", FLOATS)
def test_declared_context_is_true_and_tight(name: str) -> None:
    example = EXAMPLES[name]
    module = example.module
    group = math.lcm(module.unit, module.stride)
    left = module.left
    frames = (left or 0) + module.lookahead + 4 * group + 1
    earliest, latest = [], []
    spans = dependencies(name, frames)
    if all(span == (-1, -1) for span in spans):
        pytest.fail(f"{name}: no gradient reaches the input")
    for t, (first, last) in enumerate(spans):
        if first < 0:
            continue
        start = t * module.stride // group * group
        earliest.append(start - first)
        latest.append(last - (start + group - 1))
        if left is not None:
            assert first >= start - left, f"output {t} sees input {first}, before the declared left context of {left}"
        assert last < start + group + module.lookahead, f"output {t} sees input {last}, beyond the declared lookahead of {module.lookahead}"
    if example.tight:
        assert max(latest) == module.lookahead
        if left is not None:
            assert max(earliest) == left
        else:
            assert spans[-1][0] == 0
