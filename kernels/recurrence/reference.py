"""Recurrences in plain torch: the definitions that the kernels are held to.

Frames beyond a row's length are never read. Half types are computed in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums are kept in."""
    return torch.promote_types(dtype, torch.float32)


def linear_attention(
    a: Tensor, b: Tensor, c: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor | None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Linear attention with one decay λ a head, in blocks of frames (Qin et al., "Lightning Attention-2", 2024).

    Forward in time, S_t = λ S_{t−1} + b_tᵀ c_t and out_t = a_t S_t. In reverse, from a row's last frame back, the state decays
    after it was used: R_t = S_{t+1} + b_tᵀ c_t, out_t = a_t R_t and S_t = λ R_t. One is the adjoint of the other.

    Args:
        a: (B, T, H, D).
        b: (B, T, H, D).
        c: (B, T, H, E).
        lengths: (B,).
        log_decay: (H,) log λ.
        state: (B, H, D, E) before the first frame (in reverse: after the last); None for zeros.
        reverse: time runs back.

    Returns:
        out (B, T, H, E) in the dtype of ``c``, and the state (B, H, D, E) at the other end.
    """
    dtype, device = wide(a.dtype), a.device
    real = (torch.arange(a.shape[1], device=device) < lengths[:, None])[..., None, None]
    a, b, c_wide = (x.to(dtype).masked_fill(~real, 0) for x in (a, b, c))
    log_decay = log_decay.to(dtype)
    out = torch.zeros_like(c_wide)
    carry = a.new_zeros(len(a), a.shape[2], a.shape[3], c.shape[3]) if state is None else state.to(dtype)
    starts = range(0, a.shape[1], BLOCK)
    for start in reversed(starts) if reverse else starts:
        part = slice(start, start + BLOCK)
        here, there, values = a[:, part], b[:, part], c_wide[:, part]
        r = torch.arange(here.shape[1], device=device)
        count = (lengths - start).clamp(0, BLOCK)[:, None]
        from_start, to_end = (r + 1).expand(len(a), -1), (count - 1 - r).clamp(min=0)
        before, after = (to_end, from_start) if reverse else (from_start, to_end)
        age = (r[:, None] - r) * (-1 if reverse else 1)
        weight = (log_decay[:, None, None] * age.clamp(min=0)).exp() * (age >= 0)
        out[:, part] = torch.einsum("bihd,bjhd,hij,bjhe->bihe", here, there, weight, values)
        out[:, part] += torch.einsum("bihd,bhde,bih->bihe", here, carry, (log_decay * before[..., None]).exp())
        added = torch.einsum("bjhd,bjh,bjhe->bhde", there, (log_decay * after[..., None]).exp(), values)
        carry = (log_decay * count).exp()[..., None, None] * carry + added
    return out.masked_fill_(~real, 0).to(c.dtype), carry


def linear_attention_backward(
    grad: Tensor, state_grad: Tensor, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and the initial state: three more linear attentions, two of them back in time."""
    dq, _ = linear_attention(grad, v, k, lengths, log_decay, None if state is None else state.mT)
    dk, _ = linear_attention(v, grad, q, lengths, log_decay, state_grad.mT, reverse=True)
    dv, dstate = linear_attention(k, q, grad, lengths, log_decay, state_grad, reverse=True)
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), dstate


def linear_attention_step(q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, log_decay: Tensor, state: Tensor) -> Tensor:
    """Continue from ``state[slots]``, and change it in place for the rows that have frames."""
    out, after = linear_attention(q, k, v, lengths, log_decay, state[slots])
    live = lengths > 0
    state[slots[live]] = after[live].to(state.dtype)
    return out


def recurrence(factor: Tensor, x: Tensor) -> Tensor:
    """y_t = factor_t · y_{t−1} + x_t over dimension 1, in log₂ T doubling steps."""
    span = 1
    while span < x.shape[1]:
        x = x + factor * _later(x, span)
        factor = factor * _later(factor, span)
        span *= 2
    return x


def reverse_recurrence(factor: Tensor, x: Tensor) -> Tensor:
    """y_t = factor_{t+1} · y_{t+1} + x_t over dimension 1."""
    return recurrence(_later(factor.flip(1), 1), x.flip(1)).flip(1)


def _later(x: Tensor, span: int) -> Tensor:
    """x_{t − span}, and 0 before the first."""
    return torch.cat([torch.zeros_like(x[:, :span]), x[:, :-span]], 1)


def _factors(gate: Tensor, lengths: Tensor, phase: Tensor | None, state: Tensor | None, chunk: int) -> tuple[Tensor, Tensor]:
    """Gates that are 0 where a chunk begins and beyond a length, in the dtype of sums; and which frames are real."""
    t = torch.arange(gate.shape[1], device=gate.device)
    real = (t < lengths[:, None])[..., None]
    position = t[None] if phase is None else t + phase[:, None]
    begins = position % chunk == 0
    if phase is None and state is not None:
        begins = begins & (t > 0)
    return gate.to(wide(gate.dtype)).masked_fill(begins[..., None] | ~real, 0), real


def scan(x: Tensor, gate: Tensor, lengths: Tensor, phase: Tensor | None, state: Tensor | None, chunk: int) -> Tensor:
    """y_t = gate_t · y_{t−1} + x_t, from 0 again at the beginning of each chunk.

    Args:
        x: (B, T, D).
        gate: (B, T, D).
        lengths: (B,).
        phase: (B,) frames of the current chunk that came before the first frame here; None for 0.
        state: (B, D) y before the first frame, for rows inside a chunk; without a phase, for all rows.
        chunk: frames of a chunk.

    Returns:
        y (B, T, D) in the dtype of ``x``; 0 beyond a length.
    """
    factor, real = _factors(gate, lengths, phase, state, chunk)
    y = x.to(factor.dtype).masked_fill(~real, 0)
    if state is not None and x.shape[1]:
        y = torch.cat([y[:, :1] + factor[:, :1] * state[:, None], y[:, 1:]], 1)
    return recurrence(factor, y).masked_fill(~real, 0).to(x.dtype)


def scan_backward(
    grad: Tensor, gate: Tensor, y: Tensor, lengths: Tensor, phase: Tensor | None, state: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, gate and state: r_t = g_t + gate_{t+1} · r_{t+1} is x's, and r_t · y_{t−1} is the gate's."""
    factor, real = _factors(gate, lengths, phase, state, chunk)
    r = reverse_recurrence(factor, grad.to(factor.dtype).masked_fill(~real, 0))
    before = _later(y.to(factor.dtype), 1)
    if state is not None and grad.shape[1]:
        before = torch.cat([state[:, None].to(factor.dtype), before[:, 1:]], 1)
    passes = _factors(torch.ones_like(gate), lengths, phase, state, chunk)[0]
    return r.to(grad.dtype), (r * before * passes).to(gate.dtype), (factor * r)[:, :1].sum(1)


def ema(u: Tensor, decay: Tensor, weight: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Several moving averages of each channel, y_t = decay · y_{t−1} + u_t, and their weighted sum.

    Args:
        u: (B, T, D).
        decay: (D, N).
        weight: (D, N).
        lengths: (B,).
        state: (B, D, N) y before the first frame.

    Returns:
        (B, T, D) in the dtype of ``u``, 0 beyond a length; and y (B, D, N) after a row's last frame.
    """
    factor, y, real = _averages(u, decay, lengths, state)
    return (y * weight.to(y.dtype)).sum(-1).masked_fill(~real, 0).to(u.dtype), y[:, -1] if y.shape[1] else state


def ema_backward(
    grad: Tensor, state_grad: Tensor, u: Tensor, decay: Tensor, weight: Tensor, lengths: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, decay, weight and state; r_t = weight · g_t + decay · r_{t+1} is that of y_t."""
    factor, y, real = _averages(u, decay, lengths, state)
    if not y.shape[1]:
        return torch.empty_like(grad), torch.zeros_like(decay), torch.zeros_like(weight), state_grad
    grad_wide = grad.to(y.dtype).masked_fill(~real, 0)[..., None]
    r = grad_wide * weight.to(y.dtype)
    r = reverse_recurrence(factor, torch.cat([r[:, :-1], r[:, -1:] + state_grad[:, None]], 1))
    before = torch.cat([state[:, None].to(y.dtype), y[:, :-1]], 1)
    real = real[..., None]
    du = r.masked_fill(~real, 0).sum(-1)
    decay_grad, weight_grad = (r * before).masked_fill(~real, 0).sum((0, 1)), (grad_wide * y).sum((0, 1))
    return du.to(grad.dtype), decay_grad.to(decay.dtype), weight_grad.to(weight.dtype), (factor * r)[:, 0]


def _averages(u: Tensor, decay: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factors and averages (B, T, D, N), which stand still beyond a length; and which frames (B, T, 1) are real."""
    dtype = wide(u.dtype)
    real = (torch.arange(u.shape[1], device=u.device) < lengths[:, None])[..., None]
    factor = torch.where(real[..., None], decay.to(dtype), 1)
    x = u.to(dtype).masked_fill(~real, 0)[..., None].expand_as(factor)
    if u.shape[1]:
        x = torch.cat([x[:, :1] + factor[:, :1] * state[:, None].to(dtype), x[:, 1:]], 1)
    return factor, recurrence(factor, x), real
