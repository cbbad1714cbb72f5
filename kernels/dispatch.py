"""Who computes an operator on a GPU, for each class of shapes: whatever was measured to be fastest there.

The measurements are in ``benchmarks/RESULTS.md``. "triton" is our kernel, "torch" what PyTorch has itself. On the CPU, and for shapes
that a kernel does not take, PyTorch computes; in Triton's interpreter the kernels always do.
"""

from __future__ import annotations

from .library import INTERPRETED

#: operator -> class of shapes -> "triton" or "torch".
FASTEST: dict[str, dict[str, str]] = {
    "window_attention": {"limited": "triton", "limited, biased": "triton", "full": "triton", "full, biased": "torch"},
    "step_attention": {"one stream": "triton", "few streams": "triton", "many streams": "triton"},
    "convolution": {"whole": "triton"},
    "convolution_step": {"one stream": "triton", "few streams": "triton", "many streams": "triton"},
}


def prefers_triton(operator: str, shape: str) -> bool:
    """Whether the kernel is the fastest for a class of shapes of an operator."""
    return INTERPRETED or FASTEST[operator][shape] == "triton"


def streams(rows: int) -> str:
    """The class of a step of ``rows`` streams."""
    return "one stream" if rows <= 1 else "few streams" if rows < 64 else "many streams"
