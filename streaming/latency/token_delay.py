"""Average token delay, which also weighs how long it takes to say what was translated."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from .compute import spent

#: Milliseconds of audio that count as one token of speech.
SPEECH_TOKEN_MS = 300.0


class _Token(NamedTuple):
    """A target token."""

    chunk: int  # of the source, counted from 0
    delay: float
    length: float
    compute: float


def average_token_delay(
    delays: Sequence[float],
    elapsed: Sequence[float] | None = None,
    durations: Sequence[float] | None = None,
    source_token: float = SPEECH_TOKEN_MS,
    target_token: float = 0.0,
) -> float | None:
    """ATD (Kano et al. 2023, "Average Token Delay: A Duration-aware Latency Metric"): mean time from a source token's end to its target's.

    Source and target are cut into chunks where something is written, and these into tokens. Target token t of chunk c is taken to
    answer source token t - max(0, target tokens - source tokens before chunk c), at most the last one of chunk c.

    Args:
        delays: of each word, or of each piece of speech.
        elapsed: of each, its delay and the computing time so far; None or all zero: not computation-aware.
        durations: of each piece of translated speech; None: text is written.
        source_token: length of a source token: 300 ms of speech, 1 of text.
        target_token: length of a word that is written: 0 from speech, 1 from text.

    Returns:
        In the unit of the delays; None for an empty hypothesis.
    """
    if not delays:
        return None
    compute = spent(delays, elapsed) if elapsed and any(elapsed) else [0.0] * len(delays)
    ends, source_tokens = _source(delays, source_token)
    targets = _words(delays, compute, target_token) if durations is None else _pieces(delays, compute, durations)
    total, free, done, before = 0.0, 0.0, -1, 0  # target tokens before the running chunk
    for t, token in enumerate(targets, 1):
        if token.chunk != done:
            done, before = token.chunk, t - 1
        free = max(token.delay, free) + token.length + token.compute
        heard = source_tokens[token.chunk]  # before this chunk, and the next number: with it
        answers = min(t - max(0, before - heard), source_tokens[token.chunk + 1])
        total += free - ends[answers]
    return total / len(targets) if targets else None


def _source(delays: Sequence[float], token: float) -> tuple[list[float], list[int]]:
    """When each source token ends (the 0th at 0), and how many there are before the first, the second … chunk and in all."""
    ends, counts, last = [0.0], [0], 0.0
    for delay, _ in groupby(delays):
        whole, rest = divmod(delay - last, token)
        for length in [token] * int(whole) + ([rest] if rest else []):
            ends.append(ends[-1] + length)
        counts.append(len(ends) - 1)
        last = delay
    return ends, counts


def _words(delays: Sequence[float], compute: Sequence[float], length: float) -> list[_Token]:
    chunks = [chunk for chunk, (_, group) in enumerate(groupby(delays)) for _ in group]
    return [_Token(chunk, delay, length, spent) for chunk, delay, spent in zip(chunks, delays, compute, strict=True)]


def _pieces(delays: Sequence[float], compute: Sequence[float], durations: Sequence[float]) -> list[_Token]:
    """Translated speech: what is said of one chunk is one stretch of tokens."""
    tokens = []
    stretches = groupby(zip(delays, compute, durations, strict=True), key=lambda piece: piece[0])
    for chunk, (delay, group) in enumerate(stretches):
        pieces = list(group)
        whole, rest = divmod(sum(duration for _, _, duration in pieces), SPEECH_TOKEN_MS)
        lengths = [SPEECH_TOKEN_MS] * int(whole) + ([rest] if rest else [])
        share = sum(spent for _, spent, _ in pieces) / len(lengths) if lengths else 0.0
        tokens += [_Token(chunk, delay, length, share) for length in lengths]
    return tokens
