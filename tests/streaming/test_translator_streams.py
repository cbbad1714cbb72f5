"""Translation without end: bounded text, audio, memory and work, and nothing lost for that."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from riverrun.streaming import Endpoint, Final, Stream
from riverrun.streaming.policies import FixedWords, Hypothesis, Textual

from .fake_translator import FakeModel, fake_translator, speak, text, translate


def long_audio(seconds: float, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    words = np.random.default_rng(seed).integers(1, 9, int(seconds / 0.2) - 1).tolist()
    words = [9 if i % 12 == 11 else word for i, word in enumerate(words)]
    audio = speak(words)
    return np.pad(audio, (0, round(seconds * 16000) - len(audio))), words


def test_an_hour_costs_as_much_at_its_end_as_at_its_beginning() -> None:
    translator = fake_translator("streamatt:frames=4", decide_ms=2560, most_frames=300)
    model: Any = translator.model
    audio, words = long_audio(24 * 2.56)
    work, sizes, finals = [], [], 0
    generate = model.generate

    def watched(source: Any, slots: Sequence[int], prefixes: Sequence[Sequence[int]], language: str | None) -> list[Hypothesis]:
        work.append((int(source.held[0]), len(prefixes[0])))
        return generate(source, slots, prefixes, language)  # type: ignore[no-any-return]

    model.generate = watched
    stream = Stream(translator)
    for _ in range(59):
        finals += sum(isinstance(e, Final) for e in stream.push(audio))
        sizes.append(len(stream.save()))
    assert len(work) == 59 * 24 - 1 > 3600 / 2.56  # the last decision waits for the delay behind its chunk
    assert max(held for held, _ in work) <= 220 and max(written for _, written in work) <= 2 * 24 + 4
    minutes = [work[i : i + 24] for i in range(24, len(work) - 24, 24)]
    means = [sum(held for held, _ in minute) / len(minute) for minute in minutes]
    assert max(means) < 1.1 * min(means)
    assert max(sizes) < 1.1 * sizes[0]
    assert finals == pytest.approx(59 * words.count(9), abs=2)


@pytest.mark.parametrize("policy", ["streamatt:frames=4", "streamatt:frames=4,remember=sentence"])
def test_what_is_forgotten_is_not_missed(policy: str) -> None:
    audio, words = long_audio(60)
    said = text(translate(fake_translator(policy, most_frames=300), audio))
    assert said == text([Final(0, fake_text(words))])


def fake_text(words: Sequence[int]) -> str:
    pieces = [[1000 * 0 + 10 * w, *([10 * w + 1] if w != 9 else [])] for w in words]
    return FakeModel().decode([token for piece in pieces for token in piece])


@pytest.mark.parametrize("policy", ["alignatt:frames=4", "local-agreement", "hold-n:n=8"])
def test_without_a_history_a_full_stream_starts_anew(policy: str) -> None:
    audio, words = long_audio(40)
    events = translate(fake_translator(policy, most_frames=100), audio)
    full = [e for e in events if isinstance(e, Endpoint) and e.rule == "full"]
    assert len(full) == pytest.approx(40 / 3.8, abs=1.5)
    right = set(fake_text(words).split())
    assert sum(word in right for word in text(events).split()) > 0.8 * len(words)


def test_noise_and_silence_for_long_do_no_harm() -> None:
    """Nothing is said, so nothing is dropped with its text: audio slides out."""
    translator = fake_translator("streamatt:frames=4", most_frames=100)
    stream = Stream(translator)
    for _ in range(30):
        assert stream.push(np.zeros(16000, np.float32)) == []
    assert text(stream.push(speak([1, 2, 3])) + stream.finish()) == "eins zwei drei"


def test_a_text_that_nothing_is_heard_of_any_more_is_forgotten() -> None:
    translator = fake_translator("streamatt:frames=4", most_frames=100)
    stream = Stream(translator)
    events = stream.push(speak([1, 2, 3])) + stream.push(np.zeros(16000 * 10, np.float32))
    ledger = translator._rows.ledger(stream._parts["state"].rows[0].tolist())  # type: ignore[attr-defined]
    assert ledger.written == [] and ledger.written_words == 0
    assert text(events + stream.push(speak([4, 5])) + stream.finish()) == "eins zwei drei vier fünf"


def test_a_pause_ends_a_segment_and_all_is_written() -> None:
    audio = np.concatenate([speak([1, 2, 3], end=20), speak([4, 5, 6])])
    for policy in ("local-agreement", "wait-k:k=100", "retranslation", "streamatt"):
        events = translate(fake_translator(policy, silence_s=0.4), audio)
        assert [e.text for e in events if isinstance(e, Final)] == ["eins zwei drei", "vier fünf sechs"]
        (pause,) = [e for e in events if isinstance(e, Endpoint)]
        assert pause.rule == "silence" and 0.56 + 0.4 <= pause.time <= 0.56 + 0.4 + 0.17
    (final,) = [e for e in translate(fake_translator("local-agreement", silence_s=2), audio) if isinstance(e, Final)]
    assert final.text == "eins zwei drei vier fünf sechs"


def test_a_model_that_can_begins_anew_at_a_pause_and_nowhere_else() -> None:
    translator = fake_translator(silence_s=0.4, most_frames=100)
    restarted: list[Any] = []
    model: Any = translator.model
    model.restart = lambda source, which: restarted.append(which.tolist()) or source
    translate(translator, np.concatenate([speak([1, 2, 3], end=30), speak([4] * 40)]))  # the second is too long to be held
    assert restarted == [[True]]


def test_silence_says_nothing_and_ends_nothing() -> None:
    assert translate(fake_translator("local-agreement", silence_s=0.2), np.zeros(16000 * 3, np.float32)) == []


def test_histories_can_be_chosen_apart_from_policies() -> None:
    audio, words = long_audio(60)
    for history in (FixedWords(6), Textual()):
        assert text(translate(fake_translator("local-agreement", history, most_frames=300), audio)) == fake_text(words)


def test_characters_where_no_spaces_are_written() -> None:
    translator = fake_translator("streamatt:frames=4,size=3", languages=("zh",))
    stream = Stream(translator)
    events = stream.push(speak([1, 2, 3, 4, 5, 6, 7, 8, 9]))
    ledger = translator._rows.ledger(stream._parts["state"].rows[0].tolist())  # type: ignore[attr-defined]
    assert len(ledger.written) == 3
    assert text(events + stream.finish()) == "一二三四五六七八。"


def test_wait_k_counts_words_that_were_forgotten() -> None:
    audio, words = long_audio(30)
    events = translate(fake_translator("wait-k:k=4,words=ctc", FixedWords(4), most_frames=300), audio)
    emitted = [w.emitted_ms for e in events if isinstance(e, Final) for w in e.words]
    ends = [200.0 * (i + 1) for i in range(len(words))]
    lags = [at - end for at, end in zip(emitted[:-8], ends[3:], strict=False) if at is not None]  # of word i behind the end of word i + 3
    assert min(lags) > -250 and max(lags) < 3000
