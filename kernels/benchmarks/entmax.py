"""Entmax attention cases, each with its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..entmax import entmax_attention, reference
from ..entmax import triton as kernels
from .case import Case, Tuning, upstream, with_gradients

B, H, D = 32, 8, 64
CHUNK, LEFT = 64, 448


def _inputs(batch: int, frames: int, same: bool) -> Callable[[int], tuple[Any, ...]]:
    def inputs(seed: int) -> tuple[Any, ...]:
        generator = torch.Generator("cuda").manual_seed(seed)
        q, k, v = (torch.randn(batch, frames, H, D, device="cuda", generator=generator).bfloat16() for _ in range(3))
        alpha = torch.full((H,), 1.5, device="cuda") if same else torch.linspace(1.2, 1.9, H, device="cuda")
        return q, k, v, alpha, torch.full((batch,), frames, device="cuda")

    return inputs


def _ours(chunk: int, left: int) -> Callable[..., tuple[Tensor, ...]]:
    def ours(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        return with_gradients(lambda q, k, v, alpha: entmax_attention(q, k, v, alpha, lengths, chunk, left), q, k, v, alpha)

    return ours


def _definition(chunk: int, left: int) -> Callable[..., tuple[Tensor, ...]]:
    def definition(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        options = chunk, left, D**-0.5
        out, tau = reference.forward(q, k, v, alpha, lengths, None, *options)
        return out, *reference.backward(upstream(out.shape, out.dtype), q, k, v, alpha, lengths, None, out, tau, *options)

    return definition


def _package(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    """Learned α under the same mask, by bisection over materialised scores."""
    from entmax import entmax_bisect

    i = torch.arange(q.shape[1], device=q.device)
    start = (i // CHUNK * CHUNK)[:, None]
    masked = (i < start - LEFT) | (i >= start + CHUNK)

    def attend(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor) -> Tensor:
        score = torch.einsum("bihd,bjhd->bhij", q, k).float() * D**-0.5
        p = entmax_bisect(score.masked_fill(masked, -1e9), alpha[None, :, None, None].expand(len(q), -1, q.shape[1], 1), dim=-1, n_iter=25)
        return torch.einsum("bhij,bjhd->bihd", p.to(v.dtype), v)

    return with_gradients(attend, q, k, v, alpha)


def _package_whole(q: Tensor, k: Tensor, v: Tensor, _: Tensor, __: Tensor) -> tuple[Tensor, ...]:
    """α = 1.5 by sorting materialised scores."""
    from entmax import entmax15

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        p = entmax15(torch.einsum("bihd,bjhd->bhij", q, k).float() * D**-0.5, dim=-1)
        return torch.einsum("bhij,bjhd->bihd", p.to(v.dtype), v)

    return with_gradients(attend, q, k, v)


def _adasplash(q: Tensor, k: Tensor, v: Tensor, _: Tensor, __: Tensor) -> tuple[Tensor, ...]:
    """One fixed α, and no gradient of it; the whole of a short input."""
    from adasplash import adasplash_no_block_mask

    def attend(*x: Tensor) -> Tensor:
        return adasplash_no_block_mask(*(y.transpose(1, 2).contiguous() for y in x), alpha=1.5).transpose(1, 2)

    return with_gradients(attend, q, k, v)


CASES = [
    Case(
        "entmax", "learned α, gradient", f"B8 T1024 H{H} D{D} chunk {CHUNK} left {LEFT} bf16", _inputs(8, 1024, False),
        _definition(CHUNK, LEFT), _ours(CHUNK, LEFT), lambda q, *_: 11 * q.nbytes, {"entmax, bisection": _package}, tolerance=2e-2,
    ),
    Case(
        "entmax", "α = 1.5, gradient", f"B{B} T512 H{H} D{D} bf16", _inputs(B, 512, True),
        _definition(512, 0), _ours(512, 0), lambda q, *_: 11 * q.nbytes,
        {"adasplash": _adasplash, "entmax, sorting": _package_whole}, tolerance=2e-2,
    ),
]  # fmt: skip

FORWARDS = ((16, 32, 32, 4), (16, 64, 16, 4), (16, 128, 32, 4), (16, 32, 16, 4), (16, 32, 32, 8))
BACKWARDS = ((64, 32, 4, 2), (64, 32, 4, 3), (64, 64, 8, 2), (128, 32, 8, 2), (32, 64, 4, 2), (32, 32, 4, 3))
SHIPPED = kernels.BACKWARD[2, 64]
TUNINGS = [
    Tuning("forward", CASES[1], kernels.FORWARD, (2, 512, 64), FORWARDS),
    Tuning("backward, queries", CASES[1], kernels.BACKWARD, (2, 64), tuple((x, SHIPPED[1]) for x in BACKWARDS)),
    Tuning("backward, keys", CASES[1], kernels.BACKWARD, (2, 64), tuple((SHIPPED[0], x) for x in BACKWARDS)),
]
