"""Monotonic attention cases, each with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..monotonic import expected_alignment, expected_soft_attention, reference
from ..monotonic import triton as kernels
from .case import Case, Tuning, with_gradients

ROWS, U, T = 256, 64, 512
SHAPE = f"B·H{ROWS} U{U} T{T}"


def _inputs(seed: int) -> tuple[Any, ...]:
    generator = torch.Generator("cuda").manual_seed(seed)
    p, energy = (torch.randn(ROWS, U, T, device="cuda", generator=generator) for _ in range(2))
    return (p - 2).sigmoid(), energy


def _alignment(p: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    return with_gradients(expected_alignment, p)


def _loop(p: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    """The definition under autograd: a loop over labels, each a scan by doubling."""
    return with_gradients(lambda x: reference.alignment(x)[0], p)


def _attention(width: int | None) -> Callable[..., tuple[Tensor, ...]]:
    return partial(with_gradients, partial(expected_soft_attention, width=width))


def _attention_definition(width: int) -> Callable[..., tuple[Tensor, ...]]:
    return partial(with_gradients, lambda alpha, energy: reference.spread(alpha, energy, reference.log_normaliser(energy, width), width))


CASES = [
    Case(
        "monotonic", "expected_alignment, gradient", SHAPE, _inputs, _loop, _alignment, lambda p, _: 6 * p.nbytes, {"torch loop": _loop},
    ),
    *(
        Case(
            "monotonic", f"expected_soft_attention {width or 'infinite'}, gradient", SHAPE, _inputs,
            _attention_definition(width), _attention(width or None), lambda alpha, _: 6 * alpha.nbytes,
            {"torch": _attention_definition(width)},
        )
        for width in (8, 0)
    ),
]  # fmt: skip

TUNINGS = [Tuning(case.name, case, kernels.SIZES, "frames a warp", (32, 128, 256)) for case in (CASES[0], CASES[2])]
