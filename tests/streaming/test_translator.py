"""Translation obeys the law: what it says depends on the audio alone. And the rules that every policy shares."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.streaming import Endpoint, Event, Final, Partial, StateError, Stream
from riverrun.streaming.latency import Erasure
from riverrun.streaming.policies import FixedWords, Hypothesis, PolicyError, parse_policy
from riverrun.streaming.scheduler import Flushed, Saved, Scheduler, SchedulerConfig
from riverrun.streaming.translation_reader import TranslationReader
from riverrun.streaming.translator import Translator

from .fake_translator import FakeModel, fake_translator, speak, text, translate

POLICIES = [
    "alignatt:frames=4",
    "edatt:alpha=0.3",
    "local-agreement",
    "local-agreement:n=3",
    "hold-n:n=2",
    "wait-k:k=2,words=ctc",
    "wait-k:words=speech",
    "fixed",
    "retranslation:mask=1",
    "streamatt:frames=4,remember=sentence",
    "streamatt:frames=4,size=2",
]
SENTENCE = [1, 2, 3, 9, 0, 4, 5, 6, 7, 9]
TRANSLATED = "eins zwei drei. vier fünf sechs sieben."


sources = st.lists(st.integers(0, 9), min_size=1, max_size=12)


# The law


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=8, deadline=None)
@given(words=sources, cuts=st.lists(st.integers(150, 9000), min_size=1, max_size=8), end=st.integers(0, 4), save=st.booleans())
def test_any_cuts_and_restores_give_the_same_events(policy: str, words: list[int], cuts: list[int], end: int, save: bool) -> None:
    options = {"silence_s": 0.3 if end % 2 else None, "decide_ms": 320 if end == 4 else None}
    audio = speak(words, end=end)
    stream, events, at = Stream(fake_translator(policy, **options)), [], 0
    for i in range(1000):
        if at >= len(audio):
            break
        size = cuts[i % len(cuts)]
        events += stream.push(audio[at : at + size])
        at += size
        if save and i % 3 == 0:
            other = Stream(fake_translator(policy, **options))
            other.restore(stream.save())
            stream = other
    assert events + stream.finish() == translate(fake_translator(policy, **options), audio)


@pytest.mark.parametrize("policy", ["streamatt:frames=4,size=2", "local-agreement", "wait-k:words=speech"])
@settings(max_examples=8, deadline=None)
@given(words=st.lists(sources, min_size=2, max_size=3), turns=st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), max_size=30))
def test_streams_in_one_batch_say_what_they_say_alone(policy: str, words: list[list[int]], turns: list[list[int]]) -> None:
    """Slots take turns of none, one or two chunks; one that has nothing to say keeps its state bit for bit."""
    translator = fake_translator(policy, silence_s=0.5)
    audios = [speak(w) for w in words]
    state, readers = translator.init_state(len(audios)), [translator.reader() for _ in audios]
    events: list[list[Event]] = [[] for _ in audios]
    at = [0] * len(audios)
    for turn in [*turns, *[[2, 2, 2]] * 40]:
        pieces = []
        for slot, audio in enumerate(audios):
            left = (len(audio) - at[slot] - (0 if at[slot] else translator.delay)) // translator.chunk
            size = min(turn[slot], max(left, 0)) * translator.chunk + (translator.delay if not at[slot] and turn[slot] and left > 0 else 0)
            pieces.append(torch.from_numpy(audio[at[slot] : at[slot] + size]))
            at[slot] += size
        lengths = torch.tensor([len(piece) for piece in pieces])
        said, after = translator.step(torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True), lengths, state)
        for slot, reader in enumerate(readers):
            events[slot] += reader.read(said, slot)
            if not lengths[slot]:
                for (name, old), (_, new) in zip(state.named_tensors(), after.named_tensors(), strict=True):
                    assert torch.equal(old[slot], new[slot]), name
        state = after
    rests = [torch.from_numpy(audio[done:]) for audio, done in zip(audios, at, strict=True)]
    lengths = torch.tensor([len(rest) for rest in rests])
    said, state = translator.step(torch.nn.utils.rnn.pad_sequence(rests, batch_first=True), lengths, state)
    last = translator.flush(state)
    for slot, reader in enumerate(readers):
        assert events[slot] + reader.read(said, slot) + reader.finish(last, slot) == translate(translator, audios[slot])


def test_streams_that_decide_together_ask_the_model_once() -> None:
    translator = fake_translator()
    audio = torch.from_numpy(np.stack([speak([1, 2, 3]), speak([4, 5, 6])]))
    size = translator.delay + 3 * translator.chunk
    translator.step(audio[:, :size], torch.tensor([size, size - translator.chunk]), translator.init_state(2))
    assert translator.model.batches == [2, 2, 1]  # type: ignore[attr-defined]


def test_the_scheduler_runs_translation() -> None:
    translator = fake_translator("streamatt:frames=4,remember=sentence")
    audio = speak(SENTENCE * 3)

    async def main() -> tuple[list, list]:
        async with Scheduler(translator, SchedulerConfig(utilisation=math.inf)) as scheduler:
            one, two = scheduler.open(save_every_s=1.0), scheduler.open()
            await two.push(audio[:24000])
            await two.flush("so far")
            for at in range(0, len(audio), 7000):
                await one.push(audio[at : at + 7000])
            while one.ready:
                await asyncio.sleep(0.001)
            await one.finish()
            await two.finish()
            return [e async for e in one], [e async for e in two]

    one, two = asyncio.run(main())
    saved = [e for e in one if isinstance(e, Saved)]
    alone = [e for e in translate(translator, audio) if not isinstance(e, Partial)]
    assert [e for e in one if isinstance(e, Final | Endpoint)] == alone
    here = two[: two.index(Flushed("so far"))]
    assert (text(here), here[-1].text) == ("eins zwei drei.", "vier sechs achso")  # the flush shows all that is not final yet
    stream = Stream(translator)
    stream.restore(saved[0].data)
    later = stream.push(audio[saved[0].samples :]) + stream.finish()
    before = [e for e in one[: one.index(saved[0])] if isinstance(e, Final | Endpoint)]
    assert before + [e for e in later if isinstance(e, Final | Endpoint)] == alone


def test_damaged_states_are_refused() -> None:
    stream = Stream(fake_translator())
    stream.push(speak(SENTENCE))
    with pytest.raises(StateError):
        Stream(fake_translator("local-agreement")).restore(stream.save())  # has other hypotheses to keep
    with pytest.raises(ValueError, match="not the state of a translation reader: 'segment'"):
        fake_translator().reader().restore({})


# The rules that all policies share


class Script(FakeModel):
    """Always says the same tokens behind what is written, attending to the beginning of the audio; ``ended`` as given."""

    def __init__(self, tokens: Sequence[int], ended: bool, **options: Any):
        super().__init__(**options)
        self.tokens, self.ended = list(tokens), ended

    def generate(self, source: Any, slots: Sequence[int], prefixes: Sequence[Sequence[int]], language: str | None) -> list[Hypothesis]:
        found = []
        for slot, prefix in zip(slots, prefixes, strict=True):
            tokens = self.tokens[len(prefix) :]
            attention = torch.zeros(len(tokens), int(source.held[slot]))
            attention[:, :1] = 1
            found.append(Hypothesis(tuple(tokens), tuple(map(self.starts_word, tokens)), attention, self.ended))
        return found


def script(tokens: Sequence[int], ended: bool = False, policy: str = "hold-n:n=0", **options: Any) -> Translator:
    return Translator(Script(tokens, ended, **options), parse_policy(policy))


def test_the_end_of_the_sentence_is_not_written_before_the_source_has_ended() -> None:
    """Writing it too early closes the sentence and loses all that follows: this model believes in an end at every pause."""
    for policy in POLICIES:
        if policy not in ("hold-n:n=2", "wait-k:k=2,words=ctc"):  # which write what they had better not
            assert text(translate(fake_translator(policy), speak(SENTENCE))) == TRANSLATED, policy
    stream = Stream(script([10, 11], ended=True, policy="hold-n:n=1000"))
    assert all(e.stable == 0 for e in stream.push(speak([1] * 4)) if isinstance(e, Partial))
    translator = script([10, 11, 20, 21], ended=True)
    stream = Stream(translator)
    events = stream.push(speak([1] * 4))
    assert [e.stable for e in events if isinstance(e, Partial)] == [4]
    translator.model.tokens += [30, 31]  # type: ignore[attr-defined]
    events = stream.push(speak([1] * 4)) + stream.finish()
    assert text(events) == "eins zwei drei"


def test_the_word_before_an_end_that_may_be_too_early_is_held_back() -> None:
    """A model that has heard half a sentence closes it; behind a written full stop it would begin another one with the rest."""
    for policy in ("hold-n:n=0", "wait-k:k=1", "local-agreement", "alignatt:frames=1", "edatt:alpha=1"):
        stream = Stream(translator := script([10, 11, 20, 21, 90], ended=True, policy=policy))
        shown = [e for e in stream.push(speak([1] * 8)) if isinstance(e, Partial)][-1]
        assert (shown.text, shown.stable) == ("eins zwei.", 4), policy
        translator.model.tokens[4:] = [30, 31, 90]  # type: ignore[attr-defined]
        assert text(stream.push(speak([1] * 8)) + stream.finish()) == "eins zwei drei."
    events = Stream(script([10, 11, 90, 20, 21, 90], ended=True)).push(speak([1] * 4))  # a full stop inside is written
    assert (text(events), [(e.text, e.stable) for e in events if isinstance(e, Partial)]) == ("eins.", [("zwei.", 0)])
    events = Stream(script([2010, 2020, 2090], ended=True, languages=("zh",))).push(speak([1] * 4))
    assert [(e.text, e.stable) for e in events if isinstance(e, Partial)] == [("一二。", 2)]


def test_nothing_is_made_up_before_a_word_is_heard() -> None:
    """Decoders say something over silence, too; a CTC head knows better."""
    silence = np.zeros(16000, np.float32)
    for policy in ("hold-n:n=0", "wait-k:k=1", "alignatt:frames=1", "retranslation"):
        assert translate(script([10, 11, 20], policy=policy), silence) == []
        assert text(translate(script([10, 11, 20], policy=policy), np.concatenate([silence, speak([1])]))) == "eins zw"
        assert text(translate(script([10, 11, 20], policy=policy, ctc=False), silence)) == "eins zw"  # nobody knows


def test_words_are_written_whole_and_begun_ones_later() -> None:
    stream = Stream(translator := script([10, 11, 20], ended=False))
    (shown,) = stream.push(speak([1] * 2))
    assert isinstance(shown, Partial) and (shown.text, shown.stable) == ("eins zw", 4)
    translator.model.tokens = [10, 11, 30, 31, 40]  # type: ignore[attr-defined]
    later = stream.push(speak([1] * 2))[-1]
    assert isinstance(later, Partial) and (later.text, later.stable) == ("eins drei vi", 9)


def test_at_the_end_everything_is_written() -> None:
    """Even what the policy would hold back for ever, and a word that no other follows."""
    for policy in ("alignatt:frames=1000", "edatt:alpha=0.001", "wait-k:k=1000", "hold-n:n=1000", "local-agreement:n=16", "fixed"):
        (final,) = [e for e in translate(script([10, 11, 20], policy=policy), speak([1])) if isinstance(e, Final)]
        assert final.text == "eins zw"
    assert translate(fake_translator(), np.zeros(0, np.float32)) == []
    assert translate(fake_translator(), np.zeros(100, np.float32)) == []


def test_the_rows_of_new_tokens_decide() -> None:
    """Behind a tag and written tokens, one row off would give each word its neighbour's place in the source."""
    for policy in ("alignatt:frames=4", "edatt:alpha=0.3", "streamatt:frames=4"):
        words = [w for e in translate(fake_translator(policy), speak([1, 2, 3, 4, 5])) if isinstance(e, Final) for w in e.words]
        assert [w.text for w in words] == ["eins", "zwei", "drei", "vier", "fünf"]
        assert [w.source_ms for w in words] == [40.0 * (5 * i + 1) for i in range(5)]  # the middle of each word of four frames
        assert all(w.emitted_ms and w.emitted_ms > w.source_ms for w in words if w.source_ms is not None)


def test_hypotheses_go_on_agreeing_behind_what_is_written() -> None:
    for n in (2, 3):
        events = translate(fake_translator(f"local-agreement:n={n}"), speak([1, 2, 3, 4, 5, 6, 7, 8]))
        words = [w for e in events if isinstance(e, Final) for w in e.words]
        lags = [w.emitted_ms - 200 * i - 160 for i, w in enumerate(words[:-2]) if w.emitted_ms]  # behind the end of each word
        assert min(lags) > 0 and max(lags) < 160 * (n + 1), lags


def test_nothing_is_written_that_needs_the_newest_audio() -> None:
    (policy, frames) = ("alignatt:frames=4", 4)
    for event in translate(fake_translator(policy), speak([1, 2, 3, 4, 5, 6, 7, 8])):
        for word in getattr(event, "words", ()):
            if word.emitted_ms is not None and isinstance(event, Partial):
                assert word.source_ms + 40 * (frames + 1) <= word.emitted_ms


# Events


@settings(max_examples=25, deadline=None)
@given(policy=st.sampled_from(POLICIES), words=sources, silence=st.booleans())
def test_stable_text_never_changes_and_words_add_up(policy: str, words: list[int], silence: bool) -> None:
    stable, segment, clock = "", 0, 0.0
    for event in translate(fake_translator(policy, silence_s=0.3 if silence else None), speak(words)):
        if isinstance(event, Endpoint):
            assert event.segment == segment - 1
            continue
        assert isinstance(event, Partial | Final) and event.segment == segment
        assert event.text.startswith(stable)
        assert "".join(w.text for w in event.words) == event.text.replace(" ", "")
        starts = [w.start for w in event.words]
        assert starts == sorted(starts) and all(w.end >= w.start >= clock for w in event.words)
        if isinstance(event, Partial):
            assert len(stable) <= event.stable <= len(event.text)
            stable = event.text[: event.stable]
            written = "".join(w.text for w in event.words if w.emitted_ms is not None)
            assert written.removesuffix(".") == stable.replace(" ", "").removesuffix(".")  # a full stop may yet follow
        else:
            assert all(w.emitted_ms is not None for w in event.words)
            stable, segment, clock = "", segment + 1, event.words[-1].start


def test_segments_end_with_sentences() -> None:
    events = translate(fake_translator(), speak(SENTENCE))
    finals = [e for e in events if isinstance(e, Final)]
    assert [(e.segment, e.text) for e in finals] == [(0, "eins zwei drei."), (1, "vier fünf sechs sieben.")]
    assert (finals[0].start, finals[0].end) == (0.04, 0.68)
    assert [e for e in events if isinstance(e, Endpoint)] == [Endpoint(0, 1.29, "sentence"), Endpoint(1, 2.4, "sentence")]


def test_a_segment_without_sentences_ends_between_words() -> None:
    tokens = [10 * (1 + i % 8) + part for i in range(70) for part in (0, 1)]
    finals = [e for e in translate(script(tokens), speak([1])) if isinstance(e, Final)]
    assert [len(e.words) for e in finals] == [60, 10]


def test_punctuation_may_follow_a_written_word() -> None:
    stream = Stream(translator := script([10, 11, 20], ended=False))
    stream.push(speak([1] * 2))
    translator.model.tokens = [10, 11, 90, 20]  # type: ignore[attr-defined]
    final, endpoint, partial = stream.push(speak([1] * 2))
    assert isinstance(final, Final) and (final.text, endpoint) == ("eins.", Endpoint(0, 0.49 + 0.16, "sentence"))
    assert partial == Partial(1, "zw", partial.words)  # type: ignore[attr-defined]


def test_confidence_is_the_models() -> None:
    class Sure(FakeModel):
        def generate(self, *arguments: Any) -> list[Hypothesis]:
            return [Hypothesis(h.tokens, h.starts, h.attention, h.ended, (-0.5,) * len(h.tokens)) for h in super().generate(*arguments)]

    translator = fake_translator()
    assert {w.confidence for e in translate(translator, speak([1, 2])) for w in getattr(e, "words", ())} == {1.0}
    translator.model = Sure()
    assert {w.confidence for e in translate(translator, speak([1, 2])) for w in getattr(e, "words", ())} == {round(math.exp(-0.5), 4)}


def test_text_stays_though_the_tokenizer_thinks_again() -> None:
    """Some tokenizers join what they decode together differently: what is shown as stable is not taken back for that."""

    def decode(tokens: Sequence[int]) -> str:
        return "".join("abc"[t] for t in tokens).replace("bc", "X")

    reader = TranslationReader(decode, lambda token: token == 0, 40.0)
    reader.restore({**reader.save(), "items": [[0, 0.0, 1.0, 0.0], [1, 0.0, 1.0, 0.0]]})
    assert reader._settle() is None and reader._stable == "ab"
    reader._items += reader._items[:1]
    reader._items[-1] = reader._items[-1]._replace(token=2)
    reader._settle()
    assert reader._stable == "abc"


def test_retranslation_replaces_and_its_erasure_is_measured() -> None:
    def erasure(policy: str) -> float | None:
        meter = Erasure()
        for event in translate(fake_translator(policy), speak([1, 2, 3, 4, 5])):
            if isinstance(event, Partial):
                assert event.stable == 0
                meter.show((), event.text.split())
            elif isinstance(event, Final):
                meter.show(event.text.split())
        return meter.normalized

    plain, masked = erasure("retranslation"), erasure("retranslation:mask=4")
    assert plain is not None and masked is not None and plain > 1 > masked


# What does not go together


def test_bad_input_is_refused_in_one_line() -> None:
    def refused(policy: str, **options: Any) -> str:
        with pytest.raises(PolicyError) as error:
            fake_translator(policy, **options)
        return str(error.value)

    other = ": choose wait-k, local-agreement or hold-n"
    for policy in ("alignatt", "edatt", "streamatt"):
        assert refused(policy, attends=False) == f"policy {policy} needs cross-attention, which this model does not have{other}"
    why = "history words needs cross-attention, which this model does not have"
    assert refused("local-agreement", history=FixedWords(), attends=False) == why + other
    why = "policy wait-k counts words by CTC, and this model has no CTC head: set words to fixed or speech"
    assert refused("wait-k:words=ctc", ctc=False) == why
    assert refused("alignatt", language="it") == "this model does not translate into 'it': it translates into de, fr"
    why = "this model does not translate into 'de': it translates into one language only, which has no name: leave the language out"
    assert refused("alignatt", language="de", languages=()) == why
    assert refused("alignatt", decide_ms=0) == "decide_ms is 0: give milliseconds, more than 0"
    assert refused("alignatt", decide_ms=9000) == "decisions every 9120 ms: this model allows less than 8000 ms"
    assert refused("alignatt", silence_s=0) == "silence_s is 0: give seconds, at least 0.1"
    assert refused("alignatt", most_tokens=3) == "most_tokens is 3: give at least 192"


def test_models_without_attention_translate_by_policies_that_do_not_need_it() -> None:
    for policy in ("local-agreement", "wait-k:k=8", "retranslation"):
        words = [w for e in translate(fake_translator(policy, attends=False), speak(SENTENCE)) if isinstance(e, Final) for w in e.words]
        assert " ".join(w.text for w in words) == TRANSLATED
        assert all(w.source_ms is None and w.start <= w.end == w.emitted_ms / 1000 for w in words if w.emitted_ms is not None)


def test_decisions_fall_on_whole_chunks() -> None:
    assert fake_translator(decide_ms=161).chunk == fake_translator(decide_ms=320).chunk == 2 * fake_translator().chunk
    translator = fake_translator(decide_ms=320)
    translate(translator, speak([1, 2, 3, 4, 5]))
    assert translator.model.asked == 3 + 1  # type: ignore[attr-defined]
