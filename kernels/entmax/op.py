"""Entmax attention as PyTorch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..library import operator, runs_triton
from . import reference


def _forward(
    q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, lengths: Tensor, filled: Tensor | None, chunk: int, left: int, scale: float
) -> tuple[Tensor, Tensor]:
    if (kernels := _kernels(q, k, chunk, left)) is None:
        return reference.forward(q, k, v, alpha, lengths, filled, chunk, left, scale)
    q, k, v = (_packed(x) for x in (q, k, v))
    filled = None if filled is None else filled.contiguous()
    return kernels.forward(q, k, v, alpha.contiguous(), lengths.contiguous(), filled, chunk, left, scale)


def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    lengths: Tensor,
    filled: Tensor | None,
    out: Tensor,
    tau: Tensor,
    chunk: int,
    left: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if (kernels := _kernels(q, k, chunk, left)) is None:
        return reference.backward(grad, q, k, v, alpha, lengths, filled, out, tau, chunk, left, scale)
    grad, q, k, v = (_packed(x) for x in (grad, q, k, v))
    filled = None if filled is None else filled.contiguous()
    return kernels.backward(grad, q, k, v, alpha.contiguous(), lengths.contiguous(), filled, out, tau, chunk, left, scale)


def _kernels(q: Tensor, k: Tensor, chunk: int, left: int) -> Any:
    """The module of kernels, or None where the definition computes."""
    if runs_triton(q):
        from . import triton as kernels

        if kernels.supports(q, k, chunk, left):
            return kernels
    return None


def _packed(x: Tensor) -> Tensor:
    """``x`` with the heads of a frame side by side."""
    return x if x.stride()[2:] == (x.shape[3], 1) else x.contiguous()


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.chunk, ctx.left, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    return *attention_backward(grad, *ctx.saved_tensors, ctx.chunk, ctx.left, ctx.scale), *[None] * 5


attention_backward = operator(
    "entmax_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor alpha, Tensor lengths, Tensor? filled, Tensor out,"
    " Tensor tau, int chunk, int left, float scale) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    lambda grad, q, k, v, alpha, *_: (_like(q), _like(k), _like(v), _like(alpha)),
)
attention = operator(
    "entmax_attention(Tensor q, Tensor k, Tensor v, Tensor alpha, Tensor lengths, Tensor? filled, int chunk, int left, float scale)"
    " -> (Tensor, Tensor)",
    _forward,
    lambda q, *_: (_like(q), q.new_empty((len(q), q.shape[2], q.shape[1]), dtype=reference.wide(q.dtype))),
    _save,
    _differentiate,
)


def entmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    lengths: Tensor,
    chunk: int | None = None,
    left: int | None = None,
    *,
    filled: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention whose weights are the α-entmax of the scores, with one α a head: many of them are exactly 0.

    Peters et al., "Sparse Sequence-to-Sequence Models", 2019; learned α: Correia et al., "Adaptively Sparse Transformers", 2019. A
    frame sees its own chunk of ``chunk`` frames and the ``left`` frames before that chunk. Keys may begin before the queries do:
    the past of live streams. Gradients reach q, k, v and α, and are equal bit for bit in every run.

    Args:
        q: (B, T, H, D) queries.
        k: (B, P + T, Hk, D) keys, P of them past; Hk divides H, and query head h belongs to key head h // (H / Hk).
        v: (B, P + T, Hk, D) values.
        alpha: (H,) in (1, 2]: 2 is sparsemax, towards 1 comes softmax; below 1.02 float32 has too few digits for its gradient.
        lengths: (B,) frames of each row, at most T; what lies beyond is not read.
        chunk: frames of a chunk, counted from the first query; None for one chunk.
        left: frames before the chunk; None for all.
        filled: (B,) past frames that are real, the newest; None for all.
        scale: of the scores; D^−0.5 by default.

    Returns:
        (B, T, H, D); 0 beyond a length.

    Raises:
        ValueError: shapes that do not belong together, or a context that is none.
    """
    frames, heads, width = q.shape[1:]
    past = k.shape[1] - frames
    if k.shape != v.shape or len(k) != len(q) or past < 0 or k.shape[3] != width or heads % max(k.shape[2], 1):
        raise ValueError(
            f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} should be (B, T, H, D) and twice (B, P + T, Hk, D)"
        )
    if alpha.shape != (heads,):
        raise ValueError(f"alpha {tuple(alpha.shape)} should have one number for each of {heads} heads")
    chunk, left = max(frames, 1) if chunk is None else chunk, k.shape[1] if left is None else left
    if chunk < 1 or left < 0:
        raise ValueError(f"a context of chunk {chunk} and left {left} is none: chunk is at least 1 and left at least 0")
    return attention(q, k, v, alpha, lengths, filled, chunk, left, width**-0.5 if scale is None else scale)[0]
