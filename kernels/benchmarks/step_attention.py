"""Step attention cases, replayed from CUDA graphs as a server does: otherwise launches would be measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..step_attention import reference, step_attention
from .case import Case

H, D, LEFT = 8, 64, 256
SHAPES = [(64, 1, 256), (64, 16, 256), (256, 8, 512), (1024, 1, 256), (1024, 16, 256), (1024, 32, 64)]


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
    return step_attention(q, k, v, slots, lengths, keys, values, seen, chunk, rotation=(cos, sin))


def _definition(
    q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, keys: Tensor, values: Tensor, seen: Tensor,
    cos: Tensor, sin: Tensor, chunk: int,
) -> Tensor:  # fmt: skip
    return reference.step_attention(q, k, v, slots, lengths, keys, values, seen, cos, sin, None, chunk, 0, D**-0.5, None)


def _concatenated(
    q: Tensor, k: Tensor, v: Tensor, slots: Tensor, lengths: Tensor, keys: Tensor, values: Tensor, seen: Tensor,
    cos: Tensor, sin: Tensor, chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The usual cache: newest frame last, concatenated with what is new, masked, and slid along for the next step."""
    left, frames = keys.shape[1], q.shape[1]
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


def _replayed(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, recorded in a graph for each set of inputs at its first call."""
    graphs: dict[int, tuple[torch.cuda.CUDAGraph, Any, tuple[Any, ...]]] = {}

    def replay(*arguments: Any) -> Any:
        key = arguments[0].data_ptr()
        if key not in graphs:
            function(*arguments)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = function(*arguments)
            graphs[key] = graph, out, arguments
        graph, out, _ = graphs[key]
        graph.replay()
        return out

    return replay


def _floor(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> int:
    """Inputs, output, both caches read and the new frames written."""
    keys = rest[2]
    return 2 * q.nbytes + 2 * (k.nbytes + v.nbytes) + 2 * keys.nbytes


CASES = [
    Case(
        "step_attention", "rotary, chunk = step, in a CUDA graph", f"S{streams} C{frames} KV{left} H{H} D{D} bf16",
        _inputs(streams, frames, left), _definition, _replayed(_ours), _floor, _replayed(_concatenated), "cat + SDPA", tolerance=2e-2,
    )
    for streams, frames, left in SHAPES
]  # fmt: skip
