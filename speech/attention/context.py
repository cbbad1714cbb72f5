"""What an attention layer may look at, and how one set of weights serves many latencies."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn

from riverrun.streaming import within

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Context:
    """A frame sees its own chunk of ``chunk`` frames and ``left`` frames before that chunk.

    None stands for everything: ``Context()`` is full context, which trains and serves whole inputs but cannot
    be streamed. (Dynamic chunk training: Zhang et al. 2020, "Unified streaming and non-streaming two-pass
    end-to-end model".)
    """

    chunk: int | None = None
    left: int | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk must be at least 1 frame, not {self.chunk}")
        if self.left is not None and self.left < 0:
            raise ValueError(f"left context must be 0 frames or more, not {self.left}")

    def sees(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Mask (Q, K) for positions counted from a chunk's beginning: True where a query may look at a key."""
        if self.chunk is None:
            return torch.ones(len(queries), len(keys), dtype=torch.bool, device=keys.device)
        start = (queries // self.chunk * self.chunk)[:, None]
        allowed = keys[None] < start + self.chunk
        return allowed if self.left is None else allowed & (keys[None] >= start - self.left)

    def ring(self) -> int:
        """Frames of left context that a live stream keeps.

        Raises:
            ValueError: the context is unbounded and cannot be streamed.
        """
        if self.chunk is None or self.left is None:
            raise ValueError("full or unlimited context cannot be streamed: give a chunk and a left context")
        return self.left


def attention_mask(context: Context, lengths: Tensor, frames: int) -> Tensor:
    """Mask (B, frames, frames) of whole inputs: True where a frame may look at a real frame.

    Frames of padding look everywhere. Nothing reads them, but frames that may look nowhere have gradients of NaN under some of the
    stack's kernels for GPUs, and spoil those of all weights.
    """
    t, real = torch.arange(frames, device=lengths.device), within(lengths, frames)
    return context.sees(t, t) & real[:, None] | ~real[:, :, None]


class Visibility:
    """What the frames of a batch of whole inputs may look at: made once, for all layers.

    Args:
        context: of every frame.
        lengths: (B,) frames of each input.
        frames: T, of the longest.
    """

    def __init__(self, context: Context, lengths: Tensor, frames: int):
        self.context, self.lengths, self.frames = context, lengths, frames
        self.chunk = max(frames, 1) if context.chunk is None else min(context.chunk, max(frames, 1))
        self.left = 0 if context.chunk is None else frames if context.left is None else min(context.left, frames)

    @cached_property
    def mask(self) -> Tensor:
        """See `attention_mask`; made when first asked for, since kernels do without."""
        return attention_mask(self.context, self.lengths, self.frames)


def at(module: M, context: Context) -> M:
    """A view of ``module`` that uses ``context`` throughout: new module objects, the same parameters and buffers.

    The original is untouched, so one set of weights serves several latencies at the same time.
    """
    view = copy.copy(module)
    view._modules = {name: child if child is None else at(child, context) for name, child in module._modules.items()}
    view._compiled_call_impl = None  # compiled code belongs to the original
    if "context" in view.__dict__:
        view.__dict__["context"] = context
    return view
