"""The report of an evaluation, as JSON and as tables.

The JSON form, version 1 (keys are only ever added within a version)::

    {"version": 1, "model", "manifest", "latency_ms", "search", "beam", "lang",
     "wer": {"rate", "low", "high", "errors", "substitutions", "deletions", "insertions", "reference"},
     "cer": {…},                         the same, in characters
     "audio_seconds", "processing_seconds", "real_time_factor",
     "word_latency": null or {"words", "first": {"mean", "median", "p95"}, "settled": {…}},   seconds of audio
     "recordings": [{"id", "reference", "hypothesis", "wer": {…}, "cer": {…}, "audio_seconds", "processing_seconds"}, …],
     "failed": {id: what was wrong}}

``low`` and ``high`` bound the rate with 95 % confidence (bootstrap over recordings) and stand in the totals only; rates of
nothing are null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from riverrun.speech.metrics import Edits, WordDelay, bootstrap_interval

VERSION = 1
SHOWN = 20  #: recordings in the table, the worst first


@dataclass(frozen=True)
class Result:
    """One recording's score; texts are normalised, times in seconds."""

    id: str
    reference: str
    hypothesis: str
    words: Edits
    characters: Edits
    seconds: float
    took: float
    delays: tuple[WordDelay, ...]


def report(settings: Mapping[str, Any], results: Sequence[Result], failed: Mapping[str, str]) -> dict[str, Any]:
    """The report in its JSON form; ``settings`` are the keys from ``model`` to ``lang``."""
    seconds, took = sum(r.seconds for r in results), sum(r.took for r in results)
    delays = [delay for r in results for delay in r.delays]
    return {
        "version": VERSION,
        **settings,
        "wer": _total([r.words for r in results]),
        "cer": _total([r.characters for r in results]),
        "audio_seconds": round(seconds, 3),
        "processing_seconds": round(took, 3),
        "real_time_factor": round(took / seconds, 5) if seconds else None,
        "word_latency": {"words": len(delays), "first": _spread(delays, lambda d: d.first), "settled": _spread(delays, lambda d: d.settled)}
        if delays
        else None,
        "recordings": [_recording(r) for r in results],
        "failed": dict(failed),
    }


def show(document: Mapping[str, Any]) -> None:
    """Print a report as tables: the worst recordings, then the totals."""
    console = Console(highlight=False)
    rows = sorted(document["recordings"], key=lambda r: (-r["wer"]["errors"], r["id"]))
    if len(rows) > 1:
        console.print(_recordings(rows[:SHOWN]))
        if len(rows) > SHOWN:
            console.print(f"… and {len(rows) - SHOWN} more with no more errors; --json lists all", style="dim")
        console.print()
    console.print(_rates(document))
    console.print()
    console.print(_times(document))


def _rates(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("in all", no_wrap=True)
    for heading in ("rate", "95 % interval", "sub", "del", "ins", "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, unit in (("wer", "words"), ("cer", "characters")):
        t = document[name]
        counts = (f"{t[key]:,}" for key in ("substitutions", "deletions", "insertions"))
        table.add_row(
            name.upper(), _percent(t["rate"]), f"{_percent(t['low'])} – {_percent(t['high'])}", *counts, f"{t['reference']:,} {unit}"
        )
    return table


def _times(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    factor = document["real_time_factor"]
    spent = f"{document['processing_seconds']:.1f} s for {document['audio_seconds']:.1f} s of audio"
    table.add_row("real-time factor", "–" if factor is None else f"{factor:.3f}", spent)
    for key, meaning in (("first", "word first seen"), ("settled", "word settled")):
        if document["word_latency"]:
            mean, median, p95 = (f"{document['word_latency'][key][name] * 1000:.0f}" for name in ("mean", "median", "p95"))
            table.add_row(meaning, f"{median} ms", f"after its end (median; mean {mean}, 95 % within {p95})")
    return table


def _recordings(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("recording", overflow="fold")
    for heading in ("WER", "sub", "del", "ins", "words", "CER", "RTF"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in rows:
        wer, factor = r["wer"], r["processing_seconds"] / max(r["audio_seconds"], 1e-3)
        counts = (str(wer[key]) for key in ("substitutions", "deletions", "insertions", "reference"))
        table.add_row(r["id"], _percent(wer["rate"]), *counts, _percent(r["cer"]["rate"]), f"{factor:.3f}")
    return table


def _total(parts: Sequence[Edits]) -> dict[str, Any]:
    low, high = bootstrap_interval(parts) if parts else (None, None)
    total = _counts(sum(parts, Edits()))
    return {"rate": total.pop("rate") if parts else None, "low": _rounded(low), "high": _rounded(high), **total}


def _counts(edits: Edits) -> dict[str, Any]:
    return {
        "rate": _rounded(edits.rate),
        "errors": edits.errors,
        "substitutions": edits.substitutions,
        "deletions": edits.deletions,
        "insertions": edits.insertions,
        "reference": edits.reference,
    }


def _recording(r: Result) -> dict[str, Any]:
    return {
        "id": r.id,
        "reference": r.reference,
        "hypothesis": r.hypothesis,
        "wer": _counts(r.words),
        "cer": _counts(r.characters),
        "audio_seconds": round(r.seconds, 3),
        "processing_seconds": round(r.took, 3),
    }


def _spread(delays: Sequence[WordDelay], measure: Callable[[WordDelay], float]) -> dict[str, float]:
    values = np.array([measure(delay) for delay in delays])
    spread = {"mean": values.mean(), "median": np.median(values), "p95": np.quantile(values, 0.95)}
    return {name: round(float(value), 3) for name, value in spread.items()}


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 5)


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{rate * 100:.1f} %"
