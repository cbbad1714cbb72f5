"""Step attention cases, all replayed from CUDA graphs, as a server does: otherwise launches would be measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..step_attention import reference
from ..step_attention import triton as kernels
from ..step_attention.op import step
from .case import Case, Replayed, Tuning

H, D, LEFT = 8, 64, 256
SHAPES = [(1, 16, 256), (64, 1, 256), (64, 16, 256), (256, 8, 512), (1024, 1, 256), (1024, 16, 256), (1024, 32, 64)]


def _inputs(streams: int, frames: int, left: int) -> Callable[[int], tuple[Any, ...]]:
    def inputs(seed: int) -> tuple[Any, ...]:
        generator = torch.Generator("cuda").manual_seed(seed)

        def floats(*shape: int) -> Tensor:
            return torch.randn(shape, device="cuda", generator=generator).bfloat16()

        q, k, v = floats(streams, frames, 3 * H, D).chunk(3, 2)
        slots = torch.randperm(streams, device="cuda", generator=generator)
        keys, values = floats(streams, left, H, D), floats(streams, left, H, D)
        seen = frames * torch.randint(left // frames + 1, 10**6, (streams,), device="cuda", generator=generator)
        rows = (seen[slots][:, None] + torch.arange(frames, device="cuda")) % left
        if frames <= left:  # what is appended lies there already: a run finds what the one before found
            keys[slots[:, None], rows], values[slots[:, None], rows] = k, v
        speed = 10000 ** (-torch.arange(0, D, 2, device="cuda") / D)
        angle = torch.arange(left + frames, device="cuda")[:, None] * speed
        return q, k, v, slots, torch.full_like(slots, frames), keys, values, seen, angle.cos(), angle.sin(), frames

    return inputs


def _ours(
    q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, keys: Tensor, values: Tensor, seen: Tensor,
    cos: Tensor, sin: Tensor, chunk: int,
) -> Tensor:  # fmt: skip
    return step(q, k, v, slots, lengths, keys, values, seen, cos, sin, None, chunk, 0, D**-0.5, None)


def _definition(
    q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, keys: Tensor, values: Tensor, seen: Tensor,
    cos: Tensor, sin: Tensor, chunk: int,
) -> Tensor:  # fmt: skip
    return reference.step_attention(q, k, v, slots, lengths, keys, values, seen, cos, sin, None, chunk, 0, D**-0.5, None)


class _Peer:
    """What keeps caches of its own kind for each set of arguments."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, ...]] = {}

    def forget(self) -> None:
        self._made.clear()


class _Concatenated(_Peer):
    """The usual cache: newest frame last, concatenated with what is new, masked, and slid along for the next step."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, keys: Tensor, values: Tensor, seen: Tensor,
        cos: Tensor, sin: Tensor, chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        left, frames = keys.shape[1], q.shape[1]
        if q.data_ptr() not in self._made:
            at = slots[:, None], (seen[slots][:, None] + torch.arange(left, device=q.device)) % left
            self._made[q.data_ptr()] = keys[at], values[at]
        keys, values = self._made[q.data_ptr()]
        window = torch.arange(-left, frames, device=q.device)
        mask = (window >= -seen[slots][:, None]) & (window < lengths[:, None])
        window_k, window_v = torch.cat([keys, k], 1), torch.cat([values, v], 1)
        turned_q, turned_k = _rotate(q, cos[left:, None], sin[left:, None]), _rotate(window_k, cos[:, None], sin[:, None])
        turned_q, turned_k, turned_v = (x.transpose(1, 2) for x in (turned_q, turned_k, window_v))
        out = F.scaled_dot_product_attention(turned_q, turned_k, turned_v, attn_mask=mask[:, None, None]).transpose(1, 2)
        index = (lengths[:, None] + torch.arange(left, device=q.device))[..., None, None].expand(-1, -1, H, D)
        return out, window_k.gather(1, index), window_v.gather(1, index)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


class _Flexible(_Peer):
    """FlexAttention over a cache of turned keys, appended to in place, under a mask for ragged streams made beforehand."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, keys: Tensor, values: Tensor, seen: Tensor,
        cos: Tensor, sin: Tensor, chunk: int,
    ) -> Tensor:  # fmt: skip
        if q.data_ptr() not in self._made:
            self._made[q.data_ptr()] = self._make(q, slots, lengths, keys, values, seen, cos, sin)
        cache_k, cache_v, mask, order, place = self._made[q.data_ptr()]
        left = keys.shape[1]
        turned_q, turned_k = _rotate(q, cos[left:, None], sin[left:, None]), _rotate(k, cos[left:, None], sin[left:, None])
        cache_k[slots[:, None], place], cache_v[slots[:, None], place] = turned_k, v
        out = _compiled()(*(x.transpose(1, 2) for x in (turned_q[order], cache_k, cache_v)), block_mask=mask)
        return out.transpose(1, 2)[slots]

    def _make(
        self, q: Tensor, slots: Tensor, lengths: Tensor, keys: Tensor, values: Tensor, seen: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Any, ...]:
        from torch.nn.attention.flex_attention import create_block_mask

        left, frames = keys.shape[1], q.shape[1]
        time = (seen[:, None] + torch.arange(left, device=q.device)) % left
        rows = torch.arange(len(keys), device=q.device)[:, None]
        room = keys.new_zeros(len(keys), frames, *keys.shape[2:])
        cache_k = torch.cat([_rotate(keys[rows, time], cos[:left, None], sin[:left, None]), room], 1)
        cache_v = torch.cat([values[rows, time], room], 1)
        order = slots.argsort()
        filled, new = seen.clamp(max=left), lengths[order]

        def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return (j >= left - filled[b]) & (j < left + new[b])

        mask = create_block_mask(sees, len(slots), None, frames, left + frames)
        return cache_k, cache_v, mask, order, left + torch.arange(frames, device=q.device)


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _floor(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> int:
    """Inputs, output, both caches read and the new frames written."""
    keys = rest[2]
    return 2 * q.nbytes + 2 * (k.nbytes + v.nbytes) + 2 * keys.nbytes


def _flops(q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, keys: Tensor, *_: Any) -> float:
    return 4.0 * q.numel() * (keys.shape[1] + q.shape[1])


CASES = [
    Case(
        "step_attention", "rotary, chunk = step, in a CUDA graph", f"S{streams} C{frames} KV{left} H{H} D{D} bf16",
        _inputs(streams, frames, left), _definition, Replayed(_ours), _floor,
        {"cat + SDPA": Replayed(_Concatenated()), "FlexAttention": Replayed(_Flexible())}, _flops, tolerance=2e-2,
    )
    for streams, frames, left in SHAPES
]  # fmt: skip

BLOCKS = (
    (32, 64, 4, 3), (32, 64, 4, 2), (32, 32, 4, 2), (32, 32, 4, 4), (16, 32, 4, 3), (16, 64, 4, 3), (32, 32, 2, 3), (16, 16, 2, 4),
    (32, 64, 8, 2),
)  # fmt: skip
TUNINGS = [Tuning(case.shape, case, kernels.BLOCKS, (2, D), BLOCKS) for case in CASES]
