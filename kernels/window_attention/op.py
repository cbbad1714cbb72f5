"""Limited-context attention as PyTorch operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..dispatch import prefers_triton
from ..library import operator, runs_triton
from . import reference, stack

#: Wider heads take PyTorch's attention, or the definition.
MAX_WIDTH = 128


def _forward(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, bias: Tensor | None, slopes: Tensor | None, *context: Any) -> Any:
    kernels = _kernels(q)
    if kernels is None:
        return reference.forward(q, k, v, lengths, bias, slopes, *context)
    q, k, v = (_packed(x) for x in (q, k, v))
    return kernels.forward(q, k, v, lengths.contiguous(), _rows(bias), slopes, *context)


def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    bias: Tensor | None,
    slopes: Tensor | None,
    out: Tensor,
    norm: Tensor,
    *context: Any,
) -> Any:
    kernels = _kernels(q)
    if kernels is None:
        return reference.backward(grad, q, k, v, lengths, bias, slopes, out, norm, *context)
    grad, q, k, v = (_packed(x) for x in (grad, q, k, v))  # what sum() hands down has stride 0
    return kernels.backward(grad, q, k, v, lengths.contiguous(), _rows(bias), slopes, out, norm, *context)


def _kernels(q: Tensor) -> Any:
    """The module of kernels, or None where the definition computes."""
    if _supported(q):
        from . import triton as kernels

        return kernels
    return None


def _supported(q: Tensor) -> bool:
    return runs_triton(q) and q.shape[-1] <= MAX_WIDTH


def _by_torch(q: Tensor, bias: Tensor | None, chunk: int) -> bool:
    """Whether PyTorch's own attention is the better, where it can compute at all."""
    shape = ("full" if chunk >= q.shape[1] else "limited") + ("" if bias is None else ", biased")
    return not (_supported(q) and prefers_triton("window_attention", shape))


def _packed(x: Tensor) -> Tensor:
    """``x`` with the heads of a frame side by side."""
    return x if x.stride()[2:] == (x.shape[3], 1) else x.contiguous()


def _rows(bias: Tensor | None) -> Tensor | None:
    return bias if bias is None or bias.stride(-1) == 1 else bias.contiguous()


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _forward_like(q: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    batch, frames, heads, _width = q.shape
    return _like(q), q.new_empty((batch, heads, frames), dtype=torch.promote_types(q.dtype, torch.float32))


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.chunk, ctx.left, ctx.scale, ctx.sigmoid = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    *gradients, dbias = attention_backward(grad, *ctx.saved_tensors, ctx.chunk, ctx.left, ctx.scale, ctx.sigmoid)
    return *gradients, None, None if ctx.saved_tensors[4] is None else dbias, *[None] * 5


attention_backward = operator(
    "window_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor lengths, Tensor? bias, Tensor? slopes, Tensor out,"
    " Tensor norm, int chunk, int left, float scale, float? sigmoid) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    lambda grad, q, k, v, lengths, bias, *_: (_like(q), _like(k), _like(v), q.new_empty(0) if bias is None else _like(bias)),
)
attention = operator(
    "window_attention(Tensor q, Tensor k, Tensor v, Tensor lengths, Tensor? bias, Tensor? slopes, int chunk, int left, float scale,"
    " float? sigmoid) -> (Tensor, Tensor)",
    _forward,
    _forward_like,
    _save,
    _differentiate,
)


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    chunk: int | None = None,
    left: int | None = None,
    *,
    rotation: tuple[Tensor, Tensor] | None = None,
    slopes: Tensor | None = None,
    bias: Tensor | None = None,
    sigmoid: float | None = None,
    scale: float | None = None,
    mask: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Attention of whole inputs in which a frame sees its own chunk and the ``left`` frames before that chunk.

    Without a bias the kernel's memory is linear in frames. Gradients reach q, k, v and the bias; the kernel's are equal bit for bit in
    every run.

    Args:
        q: (B, T, H, D) queries.
        k: (B, T, Hk, D) keys; Hk divides H, and query head h belongs to key head h // (H / Hk).
        v: (B, T, Hk, D) values.
        lengths: (B,) frames of each input. What lies beyond is not read, and may be anything.
        chunk: frames of a chunk; None for one chunk.
        left: frames before the chunk; None for all.
        rotation: cos and sin (at least T, D / 2) of rotary positions (Su et al., 2021), row p for frame p and first half paired
            with second; queries and keys are rotated in the precision of the tables before the kernel reads them.
        slopes: (H,) of ALiBi (Press et al., 2022): −slope · distance is added to the scores. Without gradient.
        bias: (B or 1, H, T or 1, W), W = left + 2 · chunk − 1, added to the scores: column d + chunk − 1 for a key d frames before
            its query. A learned table (Shaw et al., 2018; T5) has one row for all queries; Transformer-XL (Dai et al., 2019) has
            one for each: scale · (q + v) rᵀ, one product for all heads. Where rows are shared, the gradient takes the memory of
            those that are not, in float32, until it is summed.
        sigmoid: weights are sigmoid(score + this) instead of a softmax (Ramapuram et al., 2024: −log of the keys seen, to begin).
        scale: of the scores; D^−0.5 by default.
        mask: gives (B, T, T), True where a frame may look at a real frame. Asked for where PyTorch's own attention computes, so that
            the layers of a model can share one.

    Returns:
        (B, T, H, D); 0 beyond a length.

    Raises:
        ValueError: shapes or dtypes that do not belong together, or a context that is none.
    """
    frames, width = q.shape[1], q.shape[3]
    if k.shape != v.shape or k.shape[:2] != q.shape[:2] or k.shape[3] != width or q.shape[2] % max(k.shape[2], 1):
        raise ValueError(f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} should be (B, T, H, D) and twice (B, T, Hk, D)")
    if len({x.dtype for x in (q, k, v)}) > 1:
        raise ValueError(f"q, k and v should have one dtype, not {q.dtype}, {k.dtype} and {v.dtype}")
    chunk, left = max(frames, 1) if chunk is None else chunk, frames if left is None else left
    if chunk < 1 or left < 0:
        raise ValueError(f"a context of chunk {chunk} and left {left} is none: chunk is at least 1 and left at least 0")
    columns = left + 2 * chunk - 1
    if bias is not None and (bias.dim() != 4 or bias.shape[1] != q.shape[2] or bias.shape[3] != columns):
        raise ValueError(f"bias {tuple(bias.shape)} should be (B or 1, {q.shape[2]}, T or 1, {columns})")
    if rotation is not None:
        if rotation[0].shape[0] < frames or any(x.shape[1] * 2 != width for x in rotation):
            raise ValueError(f"rotation tables {tuple(rotation[0].shape)} should be at least ({frames}, {width // 2})")
        cos, sin = (x[:frames, None] for x in rotation)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
    scale = width**-0.5 if scale is None else scale
    if slopes is None and sigmoid is None and _by_torch(q, bias, chunk):
        return stack.window_attention(q, k, v, lengths, bias, chunk, left, scale, mask)
    return attention(q, k, v, lengths, bias, slopes, chunk, left, scale, sigmoid)[0]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)
