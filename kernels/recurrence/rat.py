"""RAT: a gated recurrence inside chunks, softmax attention across their last values."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .op_scan import gated_scan


class RatState(NamedTuple):
    """The past of a stream: what its last ``left`` chunks and its current chunk came to.

    Attributes:
        keys: (S, left, H, D) of the chunks before, newest last; only as many are real as have been heard.
        values: (S, left, H, D).
        running: (S, 2, H, D) key and value of the current chunk so far, float32 (float64 for float64).
        seen: (S,) int64, frames heard.
    """

    keys: Tensor
    values: Tensor
    running: Tensor
    seen: Tensor

    @classmethod
    def empty(cls, streams: int, left: int, heads: int, width: int, like: Tensor) -> RatState:
        """State of streams that have heard nothing, with the device and dtype of ``like``."""
        past = like.new_zeros(streams, left, heads, width)
        running = like.new_zeros(streams, 2, heads, width, dtype=torch.promote_types(like.dtype, torch.float32))
        return cls(past, past.clone(), running, torch.zeros(streams, dtype=torch.long, device=like.device))


def rat_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    lengths: Tensor,
    chunk: int,
    state: RatState,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, RatState]:
    """Attend to summaries of past chunks and to the current one as far as it has gone (Wei et al., "RAT", 2025).

    Inside a chunk, k̃_t = gate_t ⊙ k̃_{t−1} + (1 − gate_t) ⊙ k_t and ṽ_t likewise; frame t attends to the last k̃ and ṽ of the
    ``left`` chunks before its own, and to its own k̃_t and ṽ_t. A whole input is one step from the empty state; nothing is read
    back to the host. Gradients reach all float inputs.

    Args:
        q: (S, C, H, D) queries.
        k: (S, C, H, D) keys.
        v: (S, C, H, D) values.
        gate: (S, C, H, D) in [0, 1], 1 to keep.
        lengths: (S,) frames of each row; a row of length 0 keeps its state.
        chunk: frames of a chunk.
        state: what came before; see ``RatState.empty``.
        bias: (H, left + 1) added to the scores, by distance in chunks.
        scale: of the scores; D^−0.5 by default.

    Returns:
        (S, C, H, D), 0 beyond a row's length; and the state after.

    Raises:
        ValueError: shapes that do not belong together.
    """
    rows, frames, heads, width = q.shape
    left = state.keys.shape[1]
    if any(x.shape != q.shape for x in (k, v, gate)):
        raise ValueError(f"q, k, v and gate should have one shape, not {', '.join(str(tuple(x.shape)) for x in (q, k, v, gate))}")
    if bias is not None and bias.shape != (heads, left + 1):
        raise ValueError(f"bias {tuple(bias.shape)} should be ({heads}, {left + 1})")
    phase = state.seen % chunk
    both = torch.stack([k, v], 2)
    keep = gate[:, :, None].expand_as(both)
    y, running = gated_scan(((1 - keep) * both).flatten(2), keep.flatten(2), lengths, chunk, state=state.running.flatten(1), phase=phase)
    own = y.unflatten(2, both.shape[2:])

    # Chunk m from here ends with frame (m + 1)·chunk − phase − 1: its summary, where that frame is real.
    ends = torch.arange(1, (frames + chunk - 1) // chunk + 1, device=q.device) * chunk - phase[:, None] - 1
    at = ends.clamp(max=max(frames - 1, 0))[..., None, None, None].expand(-1, -1, *own.shape[2:])
    summaries = own.gather(1, at)
    keys, values = (torch.cat([past, summaries[:, :, i]], 1) for i, past in enumerate((state.keys, state.values)))

    here = (phase[:, None] + torch.arange(frames, device=q.device)) // chunk  # chunk of a frame, counted from the first frame's
    distance = here[..., None] - torch.arange(-left, ends.shape[1], device=q.device)  # in chunks, (S, C, left + ends)
    heard = torch.arange(-left, ends.shape[1], device=q.device) >= -(state.seen // chunk)[:, None]
    sees = (distance > 0) & (distance <= left) & heard[:, None]
    scale = width**-0.5 if scale is None else scale
    past_score = torch.einsum("schd,skhd->shck", q, keys) * scale
    own_score = (q * own[:, :, 0]).sum(-1).transpose(1, 2)[..., None] * scale
    if bias is not None:
        past_score = past_score + bias[:, distance.clamp(0, left)].transpose(0, 1)
        own_score = own_score + bias[:, 0, None, None]
    score = torch.cat([past_score.masked_fill(~sees[:, None], -torch.inf), own_score], -1)
    weights = score.softmax(-1, dtype=running.dtype).to(q.dtype)
    out = torch.einsum("shck,skhd->schd", weights[..., :-1], values) + weights[..., -1].transpose(1, 2)[..., None] * own[:, :, 1]
    out = out.masked_fill((torch.arange(frames, device=q.device) >= lengths[:, None])[..., None, None], 0)

    completed = (phase + lengths) // chunk
    newest = (completed[:, None] + torch.arange(left, device=q.device))[..., None, None].expand(-1, -1, heads, width)
    after = RatState(keys.gather(1, newest), values.gather(1, newest), running.unflatten(1, (2, heads, width)), state.seen + lengths)
    return out, after
