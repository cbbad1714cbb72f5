"""Simultaneous translation as a recogniser: an attention model, a policy and a history, where everything live expects a recogniser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .attention_model import AttentionModel, attends
from .ledger import Entry, Ledger, LedgerRows
from .policies import History, Hypothesis, Policy, PolicyError, Progress
from .policies.history import UNSPACED, Piece, ends_sentence
from .speech_activity import FRAME_MS, SpeechActivity
from .state import Nothing, State
from .translation_reader import Decision, Said, Shown, TranslationReader

#: Tokens of a continuation that are looked at; a longer one comes in several decisions.
_LONGEST = 96


@dataclass
class Translating(State):
    """State of translated streams."""

    source: Any  # the model's State
    rows: Tensor  # (slots, numbers) of a `Ledger` each
    activity: Any  # an `Activity`, or Nothing


class Translator:
    """Implements `Recognizer` by an attention model and a policy. It keeps nothing of a stream: all is in the state and in the reader.

    The rules that all policies share: before the source has ended, only whole words are written, and never the end of the sentence nor
    the word before it (however sure the model is, more may follow); when it has ended, all is written. What is written is never taken
    back. Where the model has a CTC head, nothing is begun before it has heard a word: over silence, decoders make something up.

    A stream is bounded. With a history, text and audio are forgotten as it says. Without one, or where a pause of ``silence_s`` is
    heard, the stream is taken for ended: all is written, all is forgotten, and translation starts anew.

    Args:
        model: hears and translates.
        policy: when to write.
        history: what a long stream remembers; the policy's own if None is given. It needs a model with cross-attention.
        language: to translate into; the model's first if None is given.
        decide_ms: source audio between decisions, rounded up to whole chunks of the model; a chunk if None is given.
        silence_s: a pause that ends a segment; None for none.
        most_tokens: written tokens that the model is told of at most.

    Raises:
        PolicyError: the policy or the history does not go with the model, or an option is out of range.
    """

    def __init__(
        self,
        model: AttentionModel,
        policy: Policy,
        history: History | None = None,
        language: str | None = None,
        decide_ms: float | None = None,
        silence_s: float | None = None,
        most_tokens: int = 256,
    ):
        self.model, self.policy, self.history = model, policy, history or policy.keeps
        self.language = _language(model, language)
        self.sample_rate, self.delay = model.sample_rate, model.delay
        self.chunk = model.chunk * _chunks(model, decide_ms)
        if not attends(model) and (policy.needs_attention or self.history):
            what = f"policy {policy.name}" if policy.needs_attention else f"history {self.history.name}"  # type: ignore[union-attr]
            raise PolicyError(f"{what} needs cross-attention, which this model does not have: choose wait-k, local-agreement or hold-n")
        self._counting = model.source_words(model.init_source(1)) is not None
        if policy.detector == "ctc" and not self._counting:
            raise PolicyError(f"policy {policy.name} counts words by CTC, and this model has no CTC head: set words to fixed or speech")
        if silence_s is not None and not 0.1 <= silence_s < math.inf:
            raise PolicyError(f"silence_s is {silence_s}: give seconds, at least 0.1")
        if most_tokens < 2 * _LONGEST:
            raise PolicyError(f"most_tokens is {most_tokens}: give at least {2 * _LONGEST}")
        self._coming = math.ceil((self.chunk + self.delay) / self.sample_rate * 1000 / model.frame_ms) + 1
        if 2 * self._coming > model.most_frames:
            limit = model.most_frames * model.frame_ms / 2
            raise PolicyError(f"decisions every {self.chunk * 1000 / self.sample_rate:g} ms: this model allows less than {limit:g} ms")
        self._unspaced = self.language in UNSPACED
        self._rows = LedgerRows(most_tokens, policy.history, _LONGEST)
        self._pause = None if silence_s is None else math.ceil(silence_s * 1000 / FRAME_MS)
        self._activity = SpeechActivity(self.sample_rate) if silence_s is not None or policy.detector == "speech" else None

    def init_state(self, slots: int) -> Translating:
        """State of ``slots`` streams that have heard nothing."""
        source = self.model.init_source(slots)
        device = next((t.device for _, t in source.named_tensors()), torch.device("cpu"))
        activity = self._activity.init_state(slots, device) if self._activity else Nothing()
        return Translating(source, torch.tensor([self._rows.row(Ledger())] * slots, device=device).reshape(slots, -1), activity)

    @torch.no_grad()
    def step(self, audio: Tensor, lengths: Tensor, state: Translating) -> tuple[Said, Translating]:
        """Audio (S, C) float32 in [-1, 1] and samples (S,): hear it chunk by chunk, and decide behind each."""
        ledgers = [self._rows.ledger(row) for row in state.rows.tolist()]
        decisions: list[list[Decision]] = [[] for _ in ledgers]
        source, activity = state.source, state.activity
        left, done = lengths.tolist(), [0] * len(ledgers)
        while any(left):
            take = [min(n, self._until_decision(ledger.heard)) for n, ledger in zip(left, ledgers, strict=True)]
            piece = _pieces(audio, done, take)
            sizes = torch.tensor(take, device=state.rows.device)
            source = self.model.hear(piece, sizes, source)
            activity = self._hear_activity(piece, sizes, activity, ledgers)
            deciding = []
            for slot, samples in enumerate(take):
                ledgers[slot].heard += samples
                left[slot] -= samples
                done[slot] += samples
                if samples and (ledgers[slot].heard - self.delay) % self.chunk == 0 and ledgers[slot].heard > self.delay:
                    deciding.append(slot)
            source = self._decide(source, ledgers, deciding, decisions)
        return Said(tuple(map(tuple, decisions))), Translating(source, self._to_rows(ledgers, state), activity)

    @torch.no_grad()
    def flush(self, state: Translating) -> Said:
        """The last decision of streams that have ended: everything is written."""
        ledgers = [self._rows.ledger(row) for row in state.rows.tolist()]
        decisions: list[list[Decision]] = [[] for _ in ledgers]
        self._decide(self.model.finish(state.source), ledgers, list(range(len(ledgers))), decisions, ended=True)
        return Said(tuple(map(tuple, decisions)))

    def reader(self) -> TranslationReader:
        """A reader for a new stream."""
        return TranslationReader(self.model.decode, self.model.starts_word, self.model.frame_ms)

    def _until_decision(self, heard: int) -> int:
        """Samples from ``heard`` on to the next decision."""
        return self.chunk - (heard - self.delay) % self.chunk if heard >= self.delay else self.chunk + self.delay - heard

    def _to_rows(self, ledgers: Sequence[Ledger], state: Translating) -> Tensor:
        return torch.tensor([self._rows.row(ledger) for ledger in ledgers], device=state.rows.device).reshape(state.rows.shape)

    def _hear_activity(self, piece: Tensor, sizes: Tensor, activity: Any, ledgers: Sequence[Ledger]) -> Any:
        """Count speech and silence, if anyone asks for it."""
        if not self._activity:
            return activity
        marks, frames, activity = self._activity.step(piece.to(sizes.device), sizes, activity)
        for ledger, row, count in zip(ledgers, marks.tolist(), frames.tolist(), strict=True):
            for speech in row[:count]:
                ledger.speech += speech
                ledger.silence = 0 if speech else ledger.silence + 1
        return activity

    def _decide(
        self, source: Any, ledgers: Sequence[Ledger], slots: Sequence[int], decisions: list[list[Decision]], ended: bool = False
    ) -> Any:
        """Ask the model where that is worth while, write what may be written, and forget what may be forgotten."""
        if not slots:
            return source
        frames = self.model.frames(source).tolist()
        counts = self._counts(source, len(ledgers))
        spoken = [
            held and (not self._counting or words or ledger.written) for held, words, ledger in zip(frames, counts, ledgers, strict=True)
        ]
        ends = {slot: rule for slot in slots if (rule := "end" if ended else self._restarts(ledgers[slot], frames[slot]))}
        progress = {slot: self._progress(ledgers[slot], counts[slot], slot in ends) for slot in slots}
        ask = [slot for slot in slots if spoken[slot] and (slot in ends or self.policy.asks(progress[slot]))]
        prefixes = [[entry.token for entry in ledgers[slot].written] for slot in ask]
        hypotheses = dict(zip(ask, self.model.generate(source, ask, prefixes, self.language), strict=True)) if ask else {}
        drop = [0] * len(ledgers)
        for slot in slots:
            ledger = ledgers[slot]
            decision = self._write(ledger, hypotheses.get(slot), progress[slot], ends.get(slot, ""))
            if decision:
                decisions[slot].append(decision)
            if slot in ends:
                drop[slot] = frames[slot]
                ledger.restart(ledger.heard)
            else:
                drop[slot] = self._forget(ledger, frames[slot])
            ledger.forgotten += drop[slot]
        if ended or not any(drop):
            return source
        source = self.model.forget(source, torch.tensor(drop, device=self.model.frames(source).device))
        pauses = [ends.get(slot) == "silence" for slot in range(len(ledgers))]
        if any(pauses) and hasattr(self.model, "restart"):
            source = self.model.restart(source, torch.tensor(pauses))
        if self.policy.detector == "ctc":
            for slot, before, after in zip(range(len(drop)), counts, self._counts(source, len(ledgers)), strict=True):
                if drop[slot] and ledgers[slot].written:
                    ledgers[slot].words_forgotten += before - after
        return source

    def _counts(self, source: Any, slots: int) -> list[int]:
        """Words that the model's CTC head hears in the held frames of each stream; zeros without one."""
        counts = self.model.source_words(source) if self._counting else None
        return [0] * slots if counts is None else counts.tolist()

    def _restarts(self, ledger: Ledger, frames: int) -> str:
        """The rule by which a running stream starts anew; empty if it does not."""
        if self._pause is not None and ledger.speech and ledger.silence >= self._pause:
            return "silence"
        full = frames + self._coming > self.model.most_frames or len(ledger.written) + _LONGEST > self._rows.tokens
        return "full" if full and not self.history else ""

    def _progress(self, ledger: Ledger, counted: int, finished: bool) -> Progress:
        ms = max(ledger.heard - ledger.since, 0) * 1000 / self.sample_rate
        unit = self.policy.unit_ms
        words = {
            "ctc": ledger.words_forgotten + counted,
            "fixed": int(ms // unit),
            "speech": int(ledger.speech * FRAME_MS // unit),
            None: 0,
        }[self.policy.detector]
        last = ledger.written[-1].look - ledger.forgotten if ledger.written else -1
        return Progress(ms, words, ledger.written_words, finished, max(last, -1))

    def _write(self, ledger: Ledger, hypothesis: Hypothesis | None, progress: Progress, ends: str) -> Decision | None:
        """What the stream says at this decision; None if nothing is new."""
        at_ms = ledger.heard * 1000 / self.sample_rate
        if hypothesis is None:
            return Decision(at_ms, (), (), ends) if ends else None
        count = len(hypothesis.tokens)
        if not progress.finished:
            allowed = min(self.policy.writable(hypothesis, ledger.earlier, progress), _LONGEST)
            count = whole_words(hypothesis.starts, hypothesis.ended and self._leaves(hypothesis), allowed)
        looks = self._looks(ledger, hypothesis)
        entries = self._entries(ledger, hypothesis, looks, count)
        words = sum(hypothesis.starts[:count]) + int(count > 0 and not hypothesis.starts[0] and not ledger.written_words)
        ledger.write(entries, words)
        if self.policy.history:
            ledger.earlier = [*ledger.earlier, hypothesis.tokens[count : count + _LONGEST]][-self.policy.history :]
        shown = max(self.policy.shown(len(hypothesis.tokens)), count) if not progress.finished else count
        heard = [
            Shown(token, look * self.model.frame_ms if look >= 0 else None, False, hypothesis.scores[i] if hypothesis.scores else 0.0)
            for i, (token, look) in enumerate(zip(hypothesis.tokens, looks, strict=True))
        ]
        written = [spoken._replace(closes=bool(entry.closes)) for spoken, entry in zip(heard, entries, strict=False)]
        return Decision(at_ms, tuple(written), tuple(heard[count:shown]), ends)

    def _leaves(self, hypothesis: Hypothesis) -> bool:
        """Whether there is no room left for audio that the last word attends to, so that it is written now or never."""
        gone = hypothesis.attention.shape[1] + self._coming - self.model.most_frames
        if not self.history or gone <= 0 or not hypothesis.tokens:
            return False
        first = max((i for i, start in enumerate(hypothesis.starts) if start), default=0)
        return bool((hypothesis.attention[first:, :-1].argmax(1) < gone).any())

    def _looks(self, ledger: Ledger, hypothesis: Hypothesis) -> list[int]:
        """The frame of the stream that each token attends to, the sink apart; -1 without attention."""
        rows = hypothesis.attention[:, :-1]
        if not rows.shape[1]:
            return [-1] * len(hypothesis.tokens)
        return [ledger.forgotten + look for look in rows.argmax(1).tolist()]

    def _entries(self, ledger: Ledger, hypothesis: Hypothesis, looks: Sequence[int], count: int) -> list[Entry]:
        """The first ``count`` tokens as entries, with the ends of sentences found."""
        entries: list[Entry] = []
        word: list[int] = []
        for entry in reversed(ledger.written):  # punctuation may follow a word that is written
            word.insert(0, entry.token)
            if self.model.starts_word(entry.token):
                break
        for i in range(count):
            word = [hypothesis.tokens[i]] if hypothesis.starts[i] else [*word, hypothesis.tokens[i]]
            complete = i + 1 == count or hypothesis.starts[i + 1]
            closes = complete and ends_sentence(self.model.decode(word))
            entries.append(Entry(hypothesis.tokens[i], looks[i], int(closes)))
        return entries

    def _forget(self, ledger: Ledger, frames: int) -> int:
        """Forget what the history says, and what there is no room for. Returns the oldest frames to drop."""
        if not self.history:
            return 0
        written, first = ledger.written, ledger.forgotten
        starts = [self.model.starts_word(entry.token) for entry in written]
        texts = [self.model.decode([entry.token]) if self._unspaced else "" for entry in written]
        pieces = [Piece(text, start, bool(entry.closes)) for text, start, entry in zip(texts, starts, written, strict=True)]
        needed = first + frames + self._coming - self.model.most_frames  # frames before this have to go
        lost = next((i for i, entry in enumerate(written) if entry.look >= needed), len(written))
        dropped = max(self.history.forgotten(pieces, self._unspaced), len(written) + _LONGEST - self._rows.tokens, lost)
        while 0 < dropped < len(written) and not starts[dropped]:
            dropped += 1
        cut = first
        if kept := [entry.look for entry in written[dropped:]]:
            cut = min(kept) if dropped else first
        elif dropped:
            cut = max(entry.look for entry in written) + 1
        cut = min(max(cut, needed, first), first + frames)
        del written[:dropped]
        if dropped and not written:
            ledger.restart(min(round(cut * self.model.frame_ms * self.sample_rate / 1000), ledger.heard))
        return cut - first


def whole_words(starts: Sequence[bool], closed: bool, count: int) -> int:
    """Of the first ``count`` tokens, those that make up whole words: a word is whole if the next token begins one, or nothing can follow.

    That a hypothesis ends is no such sign while more is heard: a model that has heard half a sentence closes it, and behind a full stop
    that is written too early it begins another one with the rest.
    """
    if (starts[count] if count < len(starts) else closed) or not count:
        return count
    return next((i for i in range(count - 1, -1, -1) if starts[i]), 0)


def _pieces(audio: Tensor, first: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Of each row of ``audio`` (S, C), ``sizes`` samples from ``first`` on, padded with zeros."""
    piece = audio.new_zeros(len(audio), max(sizes))
    for row, (start, size) in enumerate(zip(first, sizes, strict=True)):
        piece[row, :size] = audio[row, start : start + size]
    return piece


def _chunks(model: AttentionModel, decide_ms: float | None) -> int:
    chunk_ms = model.chunk * 1000 / model.sample_rate
    if decide_ms is None:
        return 1
    if not 0 < decide_ms < math.inf:
        raise PolicyError(f"decide_ms is {decide_ms:g}: give milliseconds, more than 0")
    return max(math.ceil(decide_ms / chunk_ms - 1e-9), 1)


def _language(model: AttentionModel, language: str | None) -> str | None:
    if language is None:
        return model.languages[0] if model.languages else None
    if language not in model.languages:
        has = ", ".join(model.languages) if model.languages else "one language only, which has no name: leave the language out"
        raise PolicyError(f"this model does not translate into {language!r}: it translates into {has}")
    return language
