"""Latency: SimulEval's own numbers, the definitions by hand, and the cases that break other tools."""

import json
import math
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.streaming.events import Word
from riverrun.streaming.latency import (
    Erasure,
    Sentence,
    Timing,
    additive,
    average_lagging,
    average_proportion,
    average_token_delay,
    differentiable_average_lagging,
    length_adaptive_average_lagging,
    normalized_erasure,
    queue,
    read_instances,
    resegment,
    score,
    split_units,
    stream_laal,
    timing_of,
    yet_another_average_lagging,
)

INSTANCES = json.loads((Path(__file__).parent / "simuleval_instances.json").read_text())


def timing(row: dict) -> Timing:
    durations = tuple(row["durations"]) if "durations" in row else None
    return Timing(tuple(row["delays"]), row["source"], row["reference"], tuple(row.get("elapsed", ())), durations, row.get("text", False))


def test_every_recorded_instance_scores_as_simuleval_scored_it() -> None:
    assert len(INSTANCES) > 240
    kinds = set()
    for row in INSTANCES:
        own = score([timing(row)]).values
        aware = score([timing(row)], "additive").values if "elapsed" in row else {}
        kinds.add(("text" in row, "durations" in row, bool(row["delays"])))
        for name, value in row["scores"].items():
            have = aware[name.removesuffix("_CA")] if name.endswith("_CA") else own[name]
            assert have == (None if value is None else pytest.approx(value, abs=2e-6)), (name, row)
    assert kinds == {(False, False, True), (False, True, True), (True, False, True), (False, False, False), (True, False, False)}


def test_a_corpus_is_the_mean_over_utterances_with_words() -> None:
    rows = [row for row in INSTANCES if "text" not in row]
    scores = score(map(timing, rows))
    spoken = [row["scores"]["LAAL"] for row in rows if row["delays"]]
    assert scores.values["LAAL"] == pytest.approx(sum(spoken) / len(spoken))
    assert (scores.utterances, scores.empty) == (len(rows), len(rows) - len(spoken))


def test_nothing_was_said() -> None:
    scores = score([Timing((), 1000, 5), Timing((), 0, 0)], "queue")
    assert set(scores.values.values()) == {None} and scores.empty == 2
    assert score([]).values["AL"] is None
    assert average_lagging([0.0], 0, 0) == 0
    assert average_proportion([0.0], 0, 0) is None


def test_average_lagging_falls_below_zero_where_laal_does_not() -> None:
    delays, source = [500.0 + 100 * i for i in range(40)], 5000
    assert average_lagging(delays, source, 10) < -5000  # type: ignore[operator]
    assert 0 < length_adaptive_average_lagging(delays, source, 10) < 1000  # type: ignore[operator]


def test_metrics_by_hand() -> None:
    delays = [1000.0, 1000.0, 3000.0, 4000.0, 4000.0]
    assert average_lagging(delays, 4000, 4) == (1000 + 0 + 1000 + 1000) / 4
    assert length_adaptive_average_lagging(delays, 4000, 4) == (1000 + 200 + 1400 + 1600) / 4
    assert yet_another_average_lagging(delays, 4000, 4) == pytest.approx((1000 + 200 + 1400) / 3)
    assert average_proportion(delays, 4000, 4) == 13000 / 16000
    assert differentiable_average_lagging(delays, 4000, 4) == (1000 + 1000 + 1400 + 1600 + 1600) / 5
    assert yet_another_average_lagging([4000.0, 4000.0], 4000, 2) is None  # nothing was simultaneous
    # two source tokens end at 300 and 500 ms; the words of the first chunk answer them
    assert average_token_delay([500.0, 500.0]) == ((500 - 300) + (500 - 500)) / 2


@given(st.lists(st.floats(0, 500), min_size=1, max_size=30), st.integers(0, 30), st.floats(1, 3000))
def test_metrics_are_finite_and_laal_is_no_less_than_al(steps: list[float], reference: int, source: float) -> None:
    delays = [min(sum(steps[: i + 1]), source) for i in range(len(steps))]
    al, laal = average_lagging(delays, source, reference), length_adaptive_average_lagging(delays, source, reference)
    assert al is not None and laal is not None and laal >= al - 1e-6
    assert all(v is None or math.isfinite(v) for v in score([Timing(tuple(delays), source, reference)]).values.values())


def test_computing_adds_up_or_queues() -> None:
    arrivals, computes = [1000.0, 2000.0, 3000.0, 4000.0], [300.0, 1500.0, 0.0, 100.0]
    assert additive(arrivals, computes) == [1300, 3800, 4800, 5900]
    assert queue(arrivals, computes) == [1300, 3500, 3500, 4100]


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 900)), min_size=1, max_size=20))
def test_a_queue_is_never_later_than_the_sum_and_never_before_the_audio(chunks: list[tuple[float, float]]) -> None:
    arrivals = [sum(a for a, _ in chunks[: i + 1]) for i in range(len(chunks))]
    computes = [c for _, c in chunks]
    for arrival, compute, now, sum_ in zip(arrivals, computes, queue(arrivals, computes), additive(arrivals, computes), strict=True):
        assert arrival + compute <= now + 1e-6 and now <= sum_ + 1e-6


def test_computation_needs_a_measurement() -> None:
    with pytest.raises(ValueError, match="computation-aware latency needs the elapsed time of each word, which this log does not have"):
        score([Timing((1.0,), 10)], "queue")
    same = Timing((1000.0, 2000.0), 2000, 2, (1100.0, 2200.0))
    assert score([same], "additive").values["StartOffset"] == score([same], "queue").values["StartOffset"] == 1100


def edits(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, old = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(old[j] + 1, row[-1] + 1, old[j - 1] + (x != y)))
    return row[-1]


texts = st.lists(st.sampled_from("abc"), max_size=6)


@settings(max_examples=60)
@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_a_stream_is_cut_where_the_edit_distances_add_up_to_least(words: list[str], references: list[list[str]]) -> None:
    cuts = resegment(words, references)
    assert [i for cut in cuts for i in cut] == list(range(len(words))) and len(cuts) == len(references)

    def cost(bounds: list[int]) -> int:
        return sum(edits(tuple(words[a:b]), tuple(r)) for a, b, r in zip([0, *bounds], [*bounds, len(words)], references, strict=True))

    every = combinations_with_replacement(range(len(words) + 1), len(references) - 1)
    assert cost([cut.stop for cut in cuts[:-1]]) == min(cost(list(bounds)) for bounds in every)


def test_a_word_between_two_sentences_belongs_to_the_first() -> None:
    assert resegment(list("abxcd"), [list("ab"), list("cd")]) == [range(0, 3), range(3, 5)]
    assert resegment([], [["a"], ["b"]]) == [range(0, 0), range(0, 0)]
    assert resegment(["a"], []) == []


def test_stream_laal_counts_from_each_sentence() -> None:
    sentences = [Sentence(("a", "b"), 0, 2000), Sentence(("c", "d"), 5000, 2000), Sentence(("e",), 9000, 1000)]
    scores = stream_laal(list("abcd"), [1000, 2000, 6000, 7000], sentences)
    assert scores.laal == (1000 + 1000) / 2 and (scores.sentences, scores.empty) == (3, 1)
    assert stream_laal([], [], sentences).laal is None


def test_erasure_counts_words_taken_back() -> None:
    shown = [list("a"), list("abc"), list("ax"), list("axy")]
    assert normalized_erasure(shown) == 2 / 3
    assert normalized_erasure([]) is None and normalized_erasure([["a"], []]) is None
    erasure = Erasure()
    erasure.show([], ["a", "b"])
    erasure.show(["a", "b."], ["c"])  # b becomes b.
    erasure.show([], ["c", "d"])
    erasure.show(["d"])
    assert (erasure.erased, erasure.written, erasure.normalized) == (3, 3, 1.0)


def test_units() -> None:
    assert split_units("你 好。", "char") == ["你", "好", "。"] and split_units(" a  b ", "word") == ["a", "b"]
    words = [Word("你好", 0, 1, 1.0, 500.0, 100.0), Word("。", 1, 1, 1.0, 800.0, 900.0)]
    assert timing_of(words, 900, "你好。", "char") == Timing((500.0, 500.0, 800.0), 900, 3)
    assert timing_of(words, 900) == Timing((500.0, 800.0), 900)
    with pytest.raises(ValueError, match="the word 'tail' has no time at which it was written: take the words of final segments"):
        timing_of([Word("tail", 0, 1, 1.0)], 900)


def test_logs_of_simuleval(tmp_path: Path) -> None:
    log = tmp_path / "instances.log"
    line = {"index": 0, "prediction": "a b", "delays": [10, 20], "elapsed": [11, 22], "reference": "x y z", "source_length": 30.5}
    log.write_text(json.dumps(line) + "\n")
    assert read_instances(log) == [Timing((10, 20), 30.5, 3, (11, 22))]
    log.write_text(json.dumps(line) + "\n{}\n")
    with pytest.raises(ValueError, match=r"instances\.log, line 2: not an instance of SimulEval \(KeyError: 'delays'\)"):
        read_instances(log)
