"""Registration of kernels as PyTorch operators, and the choice of who computes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LIBRARY = torch.library.Library("riverrun", "FRAGMENT")

#: Triton reads this variable when it is first imported; its kernels then run in Python, on CPU tensors.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def runs_triton(x: Tensor) -> bool:
    """Whether Triton kernels can run on ``x``: it lies on a GPU, or kernels are interpreted."""
    return x.is_cuda or INTERPRETED


def looks_free(x: Tensor) -> bool:
    """Whether values of ``x`` may be looked at: on the CPU it costs nothing, on a GPU the host would wait, and a trace would be of them."""
    return x.device.type == "cpu" and not (torch.compiler.is_compiling() or torch.jit.is_tracing())  # type: ignore[attr-defined]


def operator(
    schema: str,
    compute: Callable[..., Any],
    fake: Callable[..., Any],
    save: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Any:
    """Define the operator ``riverrun::<schema>`` and return it.

    Args:
        schema: name, arguments and results in PyTorch's schema language.
        compute: what it computes, for tensors of any device; picks the kernel itself.
        fake: results of the right shape and dtype, for tracing.
        save: ``(ctx, inputs, output)``: keeps what ``backward`` needs.
        backward: ``(ctx, *gradients of the outputs)`` -> gradients of the inputs; None for an operator without gradient.
    """
    name = schema[: schema.index("(")]
    LIBRARY.define(schema)
    LIBRARY.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"riverrun::{name}", fake, lib=LIBRARY)
    if backward is not None:
        torch.library.register_autograd(f"riverrun::{name}", backward, setup_context=save, lib=LIBRARY)
    return getattr(torch.ops.riverrun, name).default
