"""Metrics of one utterance.

Of each: ``delays`` d_i is the source that had been received when word i was written (milliseconds of audio, or words of a text),
``source`` the length X of the source in the same unit, ``reference`` the number |Y| of words in the reference, and |Y*| = len(delays).
All are None for an empty hypothesis: it has no latency, and a mean over a corpus leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Metric = Callable[[Sequence[float], float, int], float | None]


def average_lagging(delays: Sequence[float], source: float, reference: int) -> float | None:
    """AL (Ma et al. 2019, STACL): mean of d_i - (i - 1) X / |Y| over the words up to the first that is written at the source's end.

    Far below zero where more is written than the reference has: report LAAL first.
    """
    return _lagging(delays, source, reference)


def length_adaptive_average_lagging(delays: Sequence[float], source: float, reference: int) -> float | None:
    """LAAL (Polák et al. 2022; Papi et al. 2022): AL with the longer of reference and hypothesis in place of the reference."""
    return _lagging(delays, source, max(reference, len(delays)))


def yet_another_average_lagging(delays: Sequence[float], source: float, reference: int) -> float | None:
    """YAAL (Polák et al. 2025, "Better Late Than Never"): LAAL over the words that were written before the source's end.

    None also if there are none: nothing was translated simultaneously.
    """
    early = [d for d in delays if d < source]
    step = source / max(reference, len(delays), 1)
    return _mean([d - i * step for i, d in enumerate(early)])


def average_proportion(delays: Sequence[float], source: float, reference: int) -> float | None:
    """AP (Cho and Esipova 2016): sum of d_i / (X |Y|)."""
    return sum(delays) / (source * max(reference, 1)) if delays and source else None


def differentiable_average_lagging(delays: Sequence[float], source: float, reference: int) -> float | None:
    """DAL (Cherry and Foster 2019; Arivazhagan et al. 2019): every word takes X / |Y*| of the time at least; the reference is not used."""
    if not delays:
        return None
    step = source / len(delays)
    lags, free = [], float("-inf")
    for i, delay in enumerate(delays):
        free = max(delay, free)
        lags.append(free - i * step)
        free += step
    return _mean(lags)


def start_offset(delays: Sequence[float], source: float, reference: int) -> float | None:
    """When the first word is written."""
    return delays[0] if delays else None


#: The metrics of this module by the names that they are reported under, the most trustworthy first.
METRICS: dict[str, Metric] = {
    "LAAL": length_adaptive_average_lagging,
    "YAAL": yet_another_average_lagging,
    "AL": average_lagging,
    "AP": average_proportion,
    "DAL": differentiable_average_lagging,
    "StartOffset": start_offset,
}


def _lagging(delays: Sequence[float], source: float, target: int) -> float | None:
    if not delays:
        return None
    if delays[0] > source:
        return delays[0]
    step = source / max(target, 1)
    until = next((i + 1 for i, d in enumerate(delays) if d >= source), len(delays))
    return _mean([d - i * step for i, d in enumerate(delays[:until])])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
