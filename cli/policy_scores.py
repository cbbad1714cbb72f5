"""Quality and latency of policies, with confidence intervals: the report of ``riverrun evaluate --policy``.

The JSON form, version 1 (keys are only ever added within a version; latencies in ms, but AP, which is a proportion)::

    {"version": 1, "model", "manifest", "to", "latency_ms", "decide_ms", "beam", "device", "workers", "date", "machine", "versions": {…},
     "recordings": N, "audio_seconds", "processing_seconds",
     "bleu_signature", "chrf_signature",                             sacrebleu's
     "settings": [
       {"policy", "setting": {option: value, as it was given},
        "bleu": {"score", "low", "high"}, "chrf": {…},
        "laal": {"score", "low", "high"},                            Length-Adaptive Average Lagging
        "latency": {"LAAL", "YAAL", "AL", "AP", "DAL", "StartOffset", "ATD", "StreamLAAL"},
        "computation_aware": {"additive": {…}, "queue": {…}},        the same, with computing; laal with its interval as "laal"
        "normalized_erasure", "real_time_factor", "empty": recordings without a word}, …],
     "differences": [                                                BLEU of the first policy less another's at equal LAAL
       {"policy", "setting", "laal", "against", "bleu", "low", "high"}, …],
     "outcomes": [{"id", "reference", "source_ms", "settings": [{"text", "delays", "elapsed", "compute_ms"}, …]}, …],
     "failed": {id: what was wrong}}

"additive" adds all computing to each delay, as public tools do, though part of it passes while more is heard; "queue" begins a chunk when
it is there and the one before is done. ``low`` and ``high`` bound with 95 % confidence (percentile bootstrap over recordings; the same
draws for all settings, so that differences are of pairs). Scores of nothing are null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.speech.quality import SentenceCounts
from riverrun.speech.scoring import score_translations
from riverrun.streaming.latency import Sentence, Timing, score, split_units, stream_laal
from riverrun.streaming.latency.compute import Aware, queue, spent

from .policy_runs import Outcome, Recording, Run, Setting

VERSION = 1
RESAMPLES = 1000
Floats = NDArray[np.float64]


class Scored:
    """All recordings under one setting, and what resamples of them score.

    Attributes:
        document: its entry under ``settings`` of the report.
        laal: of each resample (resamples,), NaN where nothing is written.
        bleu: likewise.
    """

    def __init__(self, setting: Setting, shown: Mapping[str, Any], data: Data, number: int, draws: NDArray[np.int64]):
        outcomes = [run.outcomes[number] for run in data.runs]
        texts, references = [outcome.text for outcome in outcomes], [recording.reference for recording in data.recordings]
        counts = SentenceCounts(texts, references, data.language)
        self.quality = score_translations(texts, references, data.language)
        self.bleu = counts.bleu(draws)
        timings = [data.timing(i, outcome) for i, outcome in enumerate(outcomes)]
        self.laal = _resampled(timings, "no", draws)
        erasures = [outcome.erasure for outcome in outcomes if outcome.erasure is not None]
        seconds = sum(run.source_ms for run in data.runs) / 1000
        aware: dict[str, Any] = {}
        for kind in ("additive", "queue"):
            interval = _interval(_laal(timings, kind), _resampled(timings, kind, draws))
            aware[kind] = {"laal": interval, **self._latency(timings, kind, data, outcomes)}
        self.document: dict[str, Any] = {
            "policy": setting.policy.partition(":")[0],
            "setting": dict(shown),
            "bleu": _interval(self.quality.bleu, self.bleu),
            "chrf": _interval(self.quality.chrf, counts.chrf(draws)),
            "laal": _interval(_laal(timings, "no"), self.laal),
            "latency": self._latency(timings, "no", data, outcomes),
            "computation_aware": aware,
            "normalized_erasure": _round(sum(erasures) / len(erasures)) if erasures else None,
            "real_time_factor": _round(sum(o.compute_ms for o in outcomes) / 1000 / seconds) if seconds else None,
            "empty": sum(not outcome.delays for outcome in outcomes),
        }

    @staticmethod
    def _latency(timings: Sequence[Timing], aware: Aware, data: Data, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        values = score(timings, aware).values
        streams = [data.stream_laal(i, outcome, _times(timings[i], aware)) for i, outcome in enumerate(outcomes)]
        known = [value for value in streams if value is not None]
        return {
            **{name: _round(value) for name, value in values.items()},
            "StreamLAAL": _round(float(np.mean(known))) if known else None,
        }


class Data:
    """Recordings that were translated under every setting.

    Args:
        recordings: and runs, as many, in the same order.
        language: of the target.
        unit: "word" or "char": what latency counts.
    """

    def __init__(self, recordings: Sequence[Recording], runs: Sequence[Run], language: str, unit: Any):
        self.recordings, self.runs, self.language, self.unit = recordings, runs, language, unit

    def timing(self, index: int, outcome: Outcome) -> Timing:
        """When the words of a recording were written."""
        reference = len(split_units(self.recordings[index].reference, self.unit))
        return Timing(outcome.delays, self.runs[index].source_ms, reference, outcome.elapsed)

    def stream_laal(self, index: int, outcome: Outcome, times: Sequence[float]) -> float | None:
        """StreamLAAL of a recording: over the sentences that its manifest names, or as one."""
        recording, source_ms = self.recordings[index], self.runs[index].source_ms
        given = recording.sentences or ({"start": 0.0, "end": source_ms / 1000, "translation": recording.reference},)
        sentences = [
            Sentence(tuple(split_units(s["translation"], self.unit)), s["start"] * 1000, (s["end"] - s["start"]) * 1000) for s in given
        ]
        return stream_laal(split_units(outcome.text, self.unit), times, sentences).laal


def report(
    about: Mapping[str, Any], settings: Sequence[Setting], shown: Sequence[Mapping[str, Any]], data: Data, failed: Mapping[str, str]
) -> dict[str, Any]:
    """The report in its JSON form; ``about`` are the keys from ``model`` to ``versions``, ``shown`` each setting's options."""
    size = len(data.runs)
    draw = np.random.default_rng(0)
    draws = draw.multinomial(size, np.full(size, 1 / size), RESAMPLES)
    scored = [Scored(setting, shown[i], data, i, draws) for i, setting in enumerate(settings)]
    return {
        "version": VERSION,
        **about,
        "recordings": size,
        "audio_seconds": round(sum(run.source_ms for run in data.runs) / 1000, 3),
        "processing_seconds": round(sum(run.took for run in data.runs), 3),
        "bleu_signature": scored[0].quality.bleu_signature,
        "chrf_signature": scored[0].quality.chrf_signature,
        "settings": [one.document for one in scored],
        "differences": _differences(scored),
        "outcomes": [_outcomes(recording, run) for recording, run in zip(data.recordings, data.runs, strict=True)],
        "failed": dict(failed),
    }


def _differences(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """BLEU of each setting of the first policy less that of every other policy at the same LAAL, read off the line through its points."""
    first = scored[0].document["policy"]
    others: dict[str, list[Scored]] = {}
    for one in scored:
        if one.document["policy"] != first and one.document["laal"]["score"] is not None:
            others.setdefault(one.document["policy"], []).append(one)
    found = []
    for one in scored:
        laal = one.document["laal"]["score"]
        if one.document["policy"] != first or laal is None:
            continue
        for name, curve in others.items():
            ends = [point.document["laal"]["score"] for point in curve]
            if not min(ends) <= laal <= max(ends):
                continue
            line = _line(np.array([laal]), np.array(ends)[None], np.array([[point.quality.bleu for point in curve]]))
            lines = _line(one.laal, np.stack([p.laal for p in curve], 1), np.stack([p.bleu for p in curve], 1))
            interval = _interval(one.quality.bleu - float(line[0]), one.bleu - lines)
            found.append(
                {
                    "policy": first,
                    "setting": one.document["setting"],
                    "laal": laal,
                    "against": name,
                    "bleu": interval["score"],
                    "low": interval["low"],
                    "high": interval["high"],
                }
            )
    return found


def _line(at: Floats, x: Floats, y: Floats) -> Floats:
    """In each row, the height at ``at`` (rows,) of the line through points ``x``, ``y`` (rows, points)."""
    order = np.argsort(x, 1)
    x, y = np.take_along_axis(x, order, 1), np.take_along_axis(y, order, 1)
    return np.array([np.interp(a, xs, ys) for a, xs, ys in zip(at, x, y, strict=True)])


def _times(timing: Timing, aware: Aware) -> Sequence[float]:
    """When each word was there, with computing or without."""
    if aware == "additive":
        return timing.elapsed
    return queue(timing.delays, spent(timing.delays, timing.elapsed)) if aware == "queue" else timing.delays


def _laal(timings: Sequence[Timing], aware: Aware) -> float | None:
    return score(timings, aware).values["LAAL"]


def _resampled(timings: Sequence[Timing], aware: Aware, draws: NDArray[np.int64]) -> Floats:
    """Mean LAAL of each resample (resamples,) over the recordings that have words."""
    values = np.array([np.nan if (v := _laal([timing], aware)) is None else v for timing in timings])
    known = ~np.isnan(values)
    totals = draws[:, known].sum(1)
    return np.where(totals > 0, draws[:, known] @ values[known] / np.maximum(totals, 1), np.nan)


def _interval(value: float | None, resampled: Floats) -> dict[str, float | None]:
    if value is None or np.isnan(resampled).all():
        return {"score": _round(value), "low": None, "high": None}
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return {"score": _round(value), "low": _round(float(low)), "high": _round(float(high))}


def _outcomes(recording: Recording, run: Run) -> dict[str, Any]:
    settings = [
        {
            "text": outcome.text,
            "delays": [_round(delay) for delay in outcome.delays],
            "elapsed": [_round(time) for time in outcome.elapsed],
            "compute_ms": _round(outcome.compute_ms),
        }
        for outcome in run.outcomes
    ]
    return {"id": recording.id, "reference": recording.reference, "source_ms": _round(run.source_ms), "settings": settings}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


__all__ = ["Data", "report"]
