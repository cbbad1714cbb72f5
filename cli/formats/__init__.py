"""Transcripts as files: every format is a pure function of a transcript and the name of its recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import plain, subtitles
from .textgrid import textgrid

if TYPE_CHECKING:
    from riverrun.streaming.events import Transcript


@dataclass(frozen=True)
class Format:
    """An output format.

    Attributes:
        suffix: of its files, with the dot.
        render: ``(transcript, name of the recording) -> file content``, to be written as UTF-8.
        joins: whether files of several recordings, one after another, are again a file of the format.
    """

    suffix: str
    render: Callable[[Transcript, str], str]
    joins: bool = False


FORMATS = {
    "txt": Format(".txt", plain.txt, joins=True),
    "srt": Format(".srt", subtitles.srt),
    "vtt": Format(".vtt", subtitles.vtt),
    "json": Format(".json", plain.json, joins=True),
    "ctm": Format(".ctm", plain.ctm, joins=True),
    "textgrid": Format(".TextGrid", textgrid),
}

__all__ = ["FORMATS", "Format"]
