"""Viterbi cases: CTC alignment and monotonic alignment search."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..viterbi import ctc_alignment, monotonic_alignment, reference
from .case import Case

V = 64


def _ctc_inputs(batch: int, time: int, height: int) -> Callable[[int], tuple[Any, ...]]:
    def inputs(seed: int) -> tuple[Any, ...]:
        generator = torch.Generator("cuda").manual_seed(seed)
        log_probs = torch.randn(batch, time, V, device="cuda", generator=generator).log_softmax(-1)
        targets = torch.randint(1, V, (batch, height), device="cuda", generator=generator)
        full = torch.ones(batch, dtype=torch.long, device="cuda")
        return log_probs, targets, time * full, height * full

    return inputs


def _torchaudio(log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> list[Any]:
    import torchaudio

    return [torchaudio.functional.forced_align(x[None], y[None].int()) for x, y in zip(log_probs, targets, strict=True)]


def _ctc_definition(log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return reference.ctc(log_probs, targets, frames, labels, 0, -1)


def _search_inputs(batch: int, height: int, time: int) -> Callable[[int], tuple[Any, ...]]:
    def inputs(seed: int) -> tuple[Any, ...]:
        generator = torch.Generator("cuda").manual_seed(seed)
        full = torch.ones(batch, dtype=torch.long, device="cuda")
        return torch.randn(batch, height, time, device="cuda", generator=generator), height * full, time * full

    return inputs


@cache
def _compiled_search() -> Callable[..., None]:
    import numba

    def search(scores: Any, durations: Any, labels: Any, frames: Any) -> None:
        for b in numba.prange(len(scores)):
            best, n, time = scores[b], labels[b], frames[b]
            for t in range(1, time):
                for i in range(max(0, n + t - time), min(n, t + 1)):
                    stay = best[i, t - 1] if i < t else -np.inf
                    move = best[i - 1, t - 1] if i else -np.inf
                    best[i, t] += max(stay, move)
            at = n - 1
            for t in range(time - 1, -1, -1):
                durations[b, at] += 1
                if at and (at == t or best[at, t - 1] < best[at - 1, t - 1]):
                    at -= 1

    return numba.njit(parallel=True)(search)


def _numba(scores: Tensor, labels: Tensor, frames: Tensor) -> Tensor:
    """The usual search on the CPU, utterances in parallel, with the copies to and fro."""
    durations = np.zeros(scores.shape[:2], np.int64)
    _compiled_search()(scores.cpu().numpy(), durations, labels.cpu().numpy(), frames.cpu().numpy())
    return torch.from_numpy(durations).to(scores.device)


CASES = [
    *(
        Case(
            "viterbi", "ctc_alignment", f"B{batch} T1500 L200 V{V}", _ctc_inputs(batch, 1500, 200), _ctc_definition, ctc_alignment,
            lambda log_probs, targets, *_: log_probs.nbytes + log_probs[..., 0].numel() * (targets.shape[1] + 16),
            {"torchaudio forced_align": _torchaudio}, tolerance=0.0, widen=False, comparable=False,
        )
        for batch in (1, 32)
    ),
    *(
        Case(
            "viterbi", "monotonic_alignment", f"B{batch} N200 T1000", _search_inputs(batch, 200, 1000),
            reference.monotonic, monotonic_alignment,
            lambda scores, *_: scores.nbytes + scores.numel() // 4,
            {"numba on the CPU": _numba}, tolerance=0.0, widen=False,
        )
        for batch in (1, 32)
    ),
]  # fmt: skip
