"""What a translated stream remembers beside its source: where it stands, what is written, and what earlier hypotheses said.

On the host it is a `Ledger`; between steps it is one row of whole numbers of fixed width, so that streams are gathered, saved and counted
like any other state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple


class Entry(NamedTuple):
    """A written token."""

    token: int
    look: int  #: source frame since the stream's start that it attends to
    closes: int  #: 1 if a sentence ends with it


@dataclass
class Ledger:
    """One stream's account.

    Attributes:
        heard: samples heard.
        since: of them, those before the sentence's start: what a policy counts from.
        forgotten: source frames that are no longer held; held frame i is frame ``forgotten`` + i of the stream.
        words_forgotten: words counted in forgotten frames since ``since``.
        written_words: words written since ``since``.
        speech: frames of speech heard since ``since``.
        silence: frames since the last frame of speech.
        written: tokens that the model is still told of, oldest first.
        earlier: continuations of earlier decisions, newest last.
    """

    heard: int = 0
    since: int = 0
    forgotten: int = 0
    words_forgotten: int = 0
    written_words: int = 0
    speech: int = 0
    silence: int = 0
    written: list[Entry] = field(default_factory=list)
    earlier: list[tuple[int, ...]] = field(default_factory=list)

    def write(self, entries: Sequence[Entry], words: int) -> None:
        """Account for tokens written; earlier hypotheses that went another way are void from there on."""
        tokens = tuple(entry.token for entry in entries)
        self.written += entries
        self.written_words += words
        self.earlier = [old[len(tokens) :] if old[: len(tokens)] == tokens else () for old in self.earlier]

    def restart(self, since: int) -> None:
        """Count from ``since`` samples on, with nothing written."""
        self.since = since
        self.words_forgotten = self.written_words = self.speech = 0
        self.written, self.earlier = [], []


_NUMBERS = [f.name for f in fields(Ledger) if f.name not in ("written", "earlier")]


@dataclass(frozen=True)
class LedgerRows:
    """Ledgers as rows.

    Attributes:
        tokens: written tokens that a row has room for.
        hypotheses: earlier hypotheses that it has room for.
        length: tokens of an earlier hypothesis that it has room for; more are cut off.
    """

    tokens: int
    hypotheses: int
    length: int

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return len(_NUMBERS) + 1 + 3 * self.tokens + 1 + self.hypotheses * (1 + self.length)

    def row(self, ledger: Ledger) -> list[int]:
        """A ledger as a row."""
        row = [getattr(ledger, name) for name in _NUMBERS]
        row += [len(ledger.written), *(value for entry in ledger.written for value in entry)]
        row += [0] * (len(_NUMBERS) + 1 + 3 * self.tokens - len(row))
        row.append(len(ledger.earlier))
        for tokens in ledger.earlier:
            kept = tokens[: self.length]
            row += [len(kept), *kept, *[0] * (self.length - len(kept))]
        return row + [0] * (self.width - len(row))

    def ledger(self, row: Sequence[int]) -> Ledger:
        """The ledger of a row."""
        at = len(_NUMBERS)
        ledger = Ledger(**dict(zip(_NUMBERS, row, strict=False)))  # type: ignore[arg-type]
        ledger.written = [Entry(*row[i : i + 3]) for i in range(at + 1, at + 1 + 3 * row[at], 3)]
        at += 1 + 3 * self.tokens
        for i in range(at + 1, at + 1 + row[at] * (1 + self.length), 1 + self.length):
            ledger.earlier.append(tuple(row[i + 1 : i + 1 + row[i]]))
        return ledger
