"""What a public corpus is to the command that packs it: utterances in the publisher's layout, and what its publisher says of it."""

from __future__ import annotations

import argparse
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from .errors import CorpusError


@dataclass(frozen=True, slots=True)
class Recorded:
    """One utterance as published.

    Attributes:
        id: distinct within the corpus.
        audio: file, relative to the corpus's folder.
        text: what is said, as the publisher writes it.
        lang: language code.
        speaker: None where it is not known.
        start: where it begins in the file, in seconds.
        seconds: how long it is, where the publisher says so; None for the rest of the file.
        extra: further keys of its manifest row.
    """

    id: str
    audio: str
    text: str
    lang: str
    speaker: str | None = None
    start: float | None = None
    seconds: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> dict[str, Any]:
        """See `worker.Task`."""
        return {"audio": self.audio} | ({} if self.start is None else {"start": self.start})


@dataclass(frozen=True, slots=True)
class Skipped:
    """An utterance that is not there or broken; ``id`` names it or its place as well as can be."""

    id: str
    reason: str


class Reader(ABC):
    """One corpus on disk; a small class for each publisher's layout.

    Attributes:
        name: short, as the command is called.
        title: as its publisher calls it.
        licence: as its publisher states it.
        url: where it comes from.
        splits: those that the publisher makes, or conventional ones; the first is read if none is asked for.
        sample_rate: of all its files, in Hz; None where it varies.
        digests: of archives by file name, ``"md5:…"``, as the publisher states them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    licence: ClassVar[str]
    url: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    sample_rate: ClassVar[int | None] = None
    digests: ClassVar[Mapping[str, str]] = {}

    def __init__(self, folder: Path, options: argparse.Namespace):
        self.folder, self.options = folder, options

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add the corpus's own options to the command; their values are part of what the output folder is for."""

    @abstractmethod
    def read(self, split: str) -> Iterator[Recorded | Skipped]:
        """The utterances of one split, in a fixed order.

        Raises:
            CorpusError: the folder is not laid out like this corpus.
        """

    def find(self, pattern: str, what: str) -> Path:
        """The one file or folder that matches ``pattern``, in the corpus's folder or up to two folders below it.

        Raises:
            CorpusError: there is none, or several.
        """
        for depth in ("", "*/", "*/*/"):
            found = sorted(self.folder.glob(depth + pattern))
            if len(found) > 1:
                raise CorpusError(f"{self.folder} has more than one {what}: {found[0]}, {found[1]}; give a folder nearer to one of them")
            if found:
                return found[0]
        raise CorpusError(f"{self.folder} is not laid out like {self.title}: it has no {what} ({pattern})")

    def relative(self, path: Path) -> str:
        """A file's place as `Recorded.audio`."""
        return path.relative_to(self.folder).as_posix()


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        shortest_s, longest_s: of an utterance, in seconds.
        longest_text: characters.
        fastest: characters a second; no one speaks faster, so the text is not that of the audio.
        unlabelled: take utterances without text, too.
    """

    shortest_s: float = 0.1
    longest_s: float = 40.0
    longest_text: int = 1000
    fastest: float = 40.0
    unlabelled: bool = False


def collect(reader: Reader, splits: Sequence[str], limits: Limits) -> tuple[list[Recorded], list[Skipped]]:
    """The utterances of some splits with their texts tidied (NFC, single spaces), and what is to be left out already.

    Where several splits are read, each row says which is its own.

    Raises:
        CorpusError: an unknown split, or a folder that is not laid out like the corpus.
    """
    if unknown := [split for split in splits if split not in reader.splits]:
        raise CorpusError(f'{reader.title} has no split "{unknown[0]}"; it has {", ".join(reader.splits)}')
    kept, skipped = dict[str, Recorded](), list[Skipped]()
    for split in splits:
        for one in reader.read(split):
            if isinstance(one, Skipped):
                skipped.append(one)
                continue
            text = tidy(one.text)
            if one.id in kept:
                skipped.append(Skipped(one.id, "its id occurs twice"))
            elif reason := _wrong(text, limits):
                skipped.append(Skipped(one.id, reason))
            else:
                extra = {**one.extra, "split": split} if len(splits) > 1 else one.extra
                kept[one.id] = Recorded(one.id, one.audio, text, one.lang, one.speaker, one.start, one.seconds, extra)
    return list(kept.values()), skipped


def tidy(text: str) -> str:
    """Unicode composed (NFC), each run of white space one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _wrong(text: str, limits: Limits) -> str:
    if not any(map(str.isalnum, text)) and not limits.unlabelled:
        return "it has no text"
    if len(text) > limits.longest_text:
        return f"its text has {len(text)} characters, more than {limits.longest_text}"
    return ""
