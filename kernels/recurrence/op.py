"""Linear attention with decay as PyTorch operators, for whole inputs and for steps of live streams."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..library import operator, runs_triton
from . import reference


def _attention(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    if (kernels := _kernels(q, v)) is None:
        return reference.linear_attention(q, k, v, lengths, log_decay, state)
    q, k, v = (_packed(x) for x in (q, k, v))
    return kernels.linear_attention(q, k, v, lengths.contiguous(), log_decay.contiguous(), None if state is None else state.contiguous())


def _attention_backward(
    grad: Tensor, state_grad: Tensor, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if (kernels := _kernels(q, v)) is None:
        return reference.linear_attention_backward(grad, state_grad, q, k, v, lengths, log_decay, state)
    grad, q, k, v = (_packed(x) for x in (grad, q, k, v))
    state = None if state is None else state.contiguous()
    return kernels.linear_attention_backward(grad, state_grad.contiguous(), q, k, v, lengths.contiguous(), log_decay.contiguous(), state)


def _step(q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor) -> Tensor:
    if (kernels := _kernels(q, v)) is None or not state.is_contiguous():
        return reference.linear_attention_step(q, k, v, slots, lengths, log_decay, state)
    q, k, v = (_packed(x) for x in (q, k, v))
    return kernels.linear_attention_step(q, k, v, slots.contiguous(), lengths.contiguous(), log_decay.contiguous(), state)


def _kernels(q: Tensor, v: Tensor) -> Any:
    """The module of kernels, or None where the definition computes."""
    if runs_triton(q) and q.numel() and v.numel():
        from . import triton as kernels

        if kernels.supports(q.element_size(), q.shape[3], v.shape[3]):
            return kernels
    return None


def _packed(x: Tensor) -> Tensor:
    """``x`` with the heads of a frame side by side."""
    return x if x.stride()[2:] == (x.shape[3], 1) else x.contiguous()


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _state_like(q: Tensor, v: Tensor) -> Tensor:
    return q.new_empty((len(q), q.shape[2], q.shape[3], v.shape[3]), dtype=reference.wide(q.dtype))


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor, state_grad: Tensor) -> tuple[Any, ...]:
    dq, dk, dv, dstate = attention_backward(grad, state_grad, *ctx.saved_tensors)
    return dq, dk, dv, None, None, None if ctx.saved_tensors[5] is None else dstate


attention_backward = operator(
    "linear_attention_backward(Tensor grad, Tensor state_grad, Tensor q, Tensor k, Tensor v, Tensor lengths, Tensor log_decay,"
    " Tensor? state) -> (Tensor, Tensor, Tensor, Tensor)",
    _attention_backward,
    lambda grad, state_grad, q, k, v, *_: (_like(q), _like(k), _like(v), _like(state_grad)),
)
attention = operator(
    "linear_attention(Tensor q, Tensor k, Tensor v, Tensor lengths, Tensor log_decay, Tensor? state) -> (Tensor, Tensor)",
    _attention,
    lambda q, k, v, *_: (_like(v), _state_like(q, v)),
    _save,
    _differentiate,
)
step = operator(
    "linear_attention_step(Tensor q, Tensor k, Tensor v, Tensor slots, Tensor lengths, Tensor log_decay, Tensor(a!) state) -> Tensor",
    _step,
    lambda q, k, v, *_: _like(v),
)


def lightning_decays(heads: int, layer: int, layers: int) -> Tensor:
    """Log λ of each head of a layer: −(8/H)(1 − l/L)·h (Qin et al., "TransNormerLLM", 2023), float32 (H,); head 0 never forgets.

    Raises:
        ValueError: a layer outside [0, layers).
    """
    if not 0 <= layer < layers:
        raise ValueError(f"layer {layer} is none of {layers}: count from 0")
    return -8 / heads * (1 - layer / layers) * torch.arange(heads)


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Causal linear attention with one decay λ a head: S_t = λ S_{t−1} + k_tᵀ v_t, out_t = q_t S_t.

    Qin et al., "Lightning Attention-2", 2024. The cost is linear in frames; the gradients, too, are one launch. Scores are not scaled:
    scale the queries. Gradients reach q, k, v and the initial state.

    Args:
        q: (B, T, H, D) queries.
        k: (B, T, H, D) keys.
        v: (B, T, H, E) values, in one dtype with q and k.
        lengths: (B,) frames of each input; what lies beyond is not read.
        log_decay: (H,) log λ, finite and at most 0; see ``lightning_decays``. Without gradient.
        state: (B, H, D, E) before the first frame, float32 (float64 for float64 inputs); None for zeros.

    Returns:
        out (B, T, H, E), 0 beyond a length; and the state after the last frame, float32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes or dtypes that do not belong together.
    """
    _check(q, k, v, log_decay)
    if state is not None and state.shape != (len(q), *q.shape[2:], v.shape[3]):
        raise ValueError(f"state {tuple(state.shape)} should be {(len(q), *q.shape[2:], v.shape[3])}")
    return attention(q, k, v, lengths, log_decay, None if state is None else state.to(reference.wide(q.dtype)))


def lightning_step(q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor) -> Tensor:
    """``lightning_attention`` for the next frames of many live streams, whose states change in place.

    Nothing is read back to the host and no shape depends on the data, so steps can be recorded in a CUDA graph. Not differentiable.

    Args:
        q: (S, C, H, D) queries of S rows, one row a stream.
        k: (S, C, H, D) keys.
        v: (S, C, H, E) values.
        slots: (S,) state slot of each row; no two rows with frames share one.
        lengths: (S,) frames of each row, at most C; a row of length 0 leaves its slot as it is, bit for bit.
        log_decay: (H,) log λ.
        state: (slots, H, D, E), float32 (float64 for float64 inputs), changed in place; zeros for a stream that has not begun.

    Returns:
        (S, C, H, E); 0 beyond a row's length.

    Raises:
        ValueError: shapes or dtypes that do not belong together.
    """
    _check(q, k, v, log_decay)
    if state.shape[1:] != (*q.shape[2:], v.shape[3]) or state.dtype != reference.wide(q.dtype):
        raise ValueError(
            f"state {tuple(state.shape)} {state.dtype} should be (slots, *{(*q.shape[2:], v.shape[3])}) {reference.wide(q.dtype)}"
        )
    return step(q, k, v, slots, lengths, log_decay, state)


def _check(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> None:
    if q.shape != k.shape or q.dim() != 4 or v.shape[:3] != q.shape[:3] or len({x.dtype for x in (q, k, v)}) > 1:
        shapes = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in (q, k, v))
        raise ValueError(f"q, k and v should be twice (B, T, H, D) and (B, T, H, E) of one dtype, not {shapes}")
    if log_decay.shape != q.shape[2:3]:
        raise ValueError(f"log_decay {tuple(log_decay.shape)} should have one number for each of {q.shape[2]} heads")
