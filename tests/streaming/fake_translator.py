"""A translation model that is cheap, deterministic and as fickle as a real one, for tests of what runs translation.

Its source language is loudness: a word is a stretch of constant amplitude n / 10 (n from 1 to 9), silence is 0 (`speak` makes audio).
Frames last 40 ms. Each source word becomes a target word of two pieces, or an unspaced character; word 9 becomes a full stop. The model

- takes a word that it may not have heard to its end for another one, which costs whoever writes it at once,
- adds a word of its own invention while the source has not fallen silent, attending to its newest frame,
- thinks that the sentence ends whenever three frames of silence come last,
- does not know a word again whose beginning was forgotten, if it holds no more than two frames of it,
- rests its attention on the last frame held (a sink), and looks at the middle of the word that it translates, a frame later for the
  second piece,
- finds its place by what is written: where the end of the prefix fits best into the words that it holds.

Tokens are 1000 · language + 10 · word + piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riverrun.streaming import Event, Final, State, Stream, last_frames
from riverrun.streaming.attention_model import continuation_rows
from riverrun.streaming.policies import History, Hypothesis, parse_policy
from riverrun.streaming.translator import Translator

RATE, FRAME, DELAY = 16000, 640, 160
WORDS = {
    "de": ["", "ei ns", "zw ei", "dr ei", "vi er", "fü nf", "se chs", "sie ben", "ac ht", "."],
    "fr": ["", "u n", "de ux", "tr ois", "qua tre", "ci nq", "si x", "se pt", "hu it", "."],
    "zh": ["", "一", "二", "三", "四", "五", "六", "七", "八", "。"],
}
LANGUAGES = list(WORDS)
INVENTED = 20  # a word that is not in the source
STOP = 9


def speak(words: Sequence[int], frames: int = 4, gap: int = 1, end: int = 4) -> NDArray[np.float32]:
    """Audio of source words of ``frames`` frames each, ``gap`` frames of silence between them and ``end`` behind; 0 is a long pause."""
    levels = []
    for word in words:
        levels += [word / 10] * (frames if word else 10) + [0.0] * gap
    return np.repeat(np.array(levels + [0.0] * end, np.float32), FRAME)


@dataclass
class Heard(State):
    """Samples that wait, symbols of frames held (oldest first), and how many of each."""

    waiting: Tensor  # (slots, FRAME + DELAY - 1)
    waits: Tensor  # (slots,)
    symbols: Tensor  # (slots, most)
    held: Tensor  # (slots,)


class FakeModel:
    """Implements `riverrun.streaming.attention_model.AttentionModel`; see the module."""

    def __init__(self, languages: tuple[str, ...] = ("de", "fr"), most_frames: int = 400, attends: bool = True, ctc: bool = True):
        self.sample_rate, self.chunk, self.delay, self.frame_ms = RATE, 4 * FRAME, DELAY, 40.0
        self.most_frames, self.languages, self.attends, self._ctc = most_frames, languages, attends, ctc
        self.asked = 0  # continuations generated
        self.batches: list[int] = []  # their number at a time

    def init_source(self, slots: int) -> Heard:
        zeros = torch.zeros(slots, dtype=torch.long)
        return Heard(torch.zeros(slots, FRAME + DELAY - 1), zeros, torch.zeros(slots, self.most_frames, dtype=torch.long), zeros.clone())

    def hear(self, audio: Tensor, lengths: Tensor, source: Heard) -> Heard:
        assert audio.shape[1] >= int(lengths.max())
        result = source.map(torch.clone)
        for slot in range(len(lengths)):
            if not lengths[slot]:
                continue
            room = source.waiting.shape[1]
            have = torch.cat([source.waiting[slot, room - int(source.waits[slot]) :], audio[slot, : int(lengths[slot])]])
            frames = max((len(have) - DELAY) // FRAME, 0)
            self._take(result, slot, have[: frames * FRAME].reshape(-1, FRAME))
            result.waits[slot] = len(have) - frames * FRAME
        result.waiting = last_frames(source.waiting, audio, lengths)
        return result

    def finish(self, source: Heard) -> Heard:
        result = source.map(torch.clone)
        for slot in range(len(source.waits)):
            frames = int(source.waits[slot]) // FRAME
            have = source.waiting[slot, source.waiting.shape[1] - int(source.waits[slot]) :]
            self._take(result, slot, have[: frames * FRAME].reshape(-1, FRAME))
            result.waits[slot] = 0
        return result

    def _take(self, source: Heard, slot: int, frames: Tensor) -> None:
        held = int(source.held[slot])
        assert held + len(frames) <= self.most_frames, "the caller forgot to forget"
        source.symbols[slot, held : held + len(frames)] = (frames.abs().mean(1) * 10).round().long()
        source.held[slot] = held + len(frames)

    def frames(self, source: Heard) -> Tensor:
        return source.held

    def forget(self, source: Heard, frames: Tensor) -> Heard:
        assert bool((frames >= 0).all()) and bool((frames <= source.held).all())
        index = torch.arange(self.most_frames)[None] + frames[:, None]
        moved = source.symbols.gather(1, index.clamp(max=self.most_frames - 1)).masked_fill(index >= self.most_frames, 0)
        return Heard(source.waiting, source.waits, moved, source.held - frames)

    def source_words(self, source: Heard) -> Tensor | None:
        return torch.tensor([len(_runs(s[:n].tolist())) for s, n in zip(source.symbols, source.held, strict=True)]) if self._ctc else None

    def generate(self, source: Heard, slots: Sequence[int], prefixes: Sequence[Sequence[int]], language: str | None) -> list[Hypothesis]:
        self.asked += len(slots)
        self.batches.append(len(slots))
        assert language in self.languages
        return [
            self._continue(source.symbols[slot, : int(source.held[slot])].tolist(), list(prefix), str(language))
            for slot, prefix in zip(slots, prefixes, strict=True)
        ]

    def _continue(self, symbols: list[int], prefix: list[int], language: str) -> Hypothesis:
        runs = _runs(symbols)
        ended = symbols[-3:] == [0, 0, 0]
        last = len(symbols) - 1
        said = []  # words with the frame that each attends to
        for symbol, first, end in runs[bool(runs) and runs[0][1] == 0 and runs[0][2] <= 2 :]:
            sure = end <= last and end - first > 1
            said.append((symbol if sure else 1 + symbol % 8, (first + end - 1) // 2))
        if not ended:
            said.append((INVENTED, last - 1))
        unspaced, base = language == "zh", 1000 * LANGUAGES.index(language)
        before = [t % 1000 // 10 for t in prefix if t % 10 == 0]
        place = _place(before, [word for word, _ in said])
        tokens, looks = [], []
        for word, look in said[place:]:
            new = [base + word * 10, *([] if word == STOP or unspaced else [base + word * 10 + 1])]
            tokens += new
            looks += [look, look + 1][: len(new)]
        # Teacher forcing: begin-of-sentence, the language's tag, the prefix and the continuation, a query each.
        places = [0, 0, *[0] * len(prefix), *looks]
        rows = torch.full((len(places), len(symbols)), 0.1 / len(symbols))
        for row, look in enumerate(places[1:]):
            rows[row, min(max(look, 0), last)] += 0.3
            rows[row, min(max(look - 1, 0), last)] += 0.1
            rows[row, last] += 0.6
        attention = continuation_rows(rows, 2 + len(prefix), len(tokens)) if self.attends else torch.zeros(len(tokens), 0)
        return Hypothesis(tuple(tokens), tuple(self.starts_word(t) for t in tokens), attention, ended)

    def decode(self, tokens: Sequence[int]) -> str:
        text = ""
        for token in tokens:
            language, word, part = LANGUAGES[token // 1000], token % 1000 // 10, token % 10
            whole = ("啊" if language == "zh" else "ach so") if word == INVENTED else WORDS[language][word]
            text += (" " if self.starts_word(token) and language != "zh" else "") + whole.split(" ")[part]
        return text.removeprefix(" ")

    def starts_word(self, token: int) -> bool:
        return LANGUAGES[token // 1000] == "zh" or (token % 10 == 0 and token % 1000 // 10 != STOP)


def fake_translator(policy: str = "alignatt:frames=4", history: History | None = None, **options: Any) -> Translator:
    """A translator of a `FakeModel`; options that are not the translator's are the model's."""
    model = FakeModel(**{name: options.pop(name) for name in list(options) if name in ("languages", "most_frames", "attends", "ctc")})
    return Translator(model, parse_policy(policy), history, **options)


def translate(translator: Translator, audio: NDArray[np.float32], piece: int = 10**9) -> list[Event]:
    """Everything that a stream says about ``audio``, pushed in pieces."""
    stream = Stream(translator)
    events = [e for i in range(0, len(audio), piece) for e in stream.push(audio[i : i + piece])]
    return events + stream.finish()


def text(events: Sequence[Event]) -> str:
    """The final text of some events."""
    return " ".join(e.text for e in events if isinstance(e, Final))


def load(name: str, device: str = "cpu") -> FakeModel:
    """A `FakeModel`, as a loader of models would give it."""
    if name != "fake":
        raise ValueError(f"no model {name!r}")
    return FakeModel()


def _runs(symbols: list[int]) -> list[tuple[int, int, int]]:
    """Words as (symbol, first frame, frame behind the last)."""
    runs: list[tuple[int, int, int]] = []
    for i, symbol in enumerate(symbols):
        if symbol and i and symbols[i - 1] == symbol:
            runs[-1] = (symbol, runs[-1][1], i + 1)
        elif symbol:
            runs.append((symbol, i, i + 1))
    return runs


def _place(before: list[int], words: list[int]) -> int:
    """How many of ``words`` are said: where the end of ``before`` fits best; of equal fits, as many as were said."""

    def fit(place: int) -> tuple[int, int]:
        return sum(a == b for a, b in zip(reversed(before), reversed(words[:place]), strict=False)), -abs(place - len(before))

    return max(range(len(words) + 1), key=fit) if before else 0
