"""Text, JSON and CTM.

The JSON form, version 1 (keys are only ever added within a version; times are seconds with three decimals)::

    {"version": 1,
     "audio": "talk.wav",              name of the recording, as it was given
     "duration": 12.34,                seconds of audio
     "text": "hello world",            the texts of the segments, joined by spaces
     "segments": [
       {"start": 0.4, "end": 1.2, "text": "hello world",
        "words": [{"text": "hello", "start": 0.4, "end": 0.7, "confidence": 0.98}, …]}, …]}

One recording is one line, so that several recordings in one stream are JSON Lines.
"""

from __future__ import annotations

import json as encoder
from typing import TYPE_CHECKING

from .timeline import nonempty, one_line, words_of

if TYPE_CHECKING:
    from riverrun.streaming.events import Final, Transcript

VERSION = 1


def txt(transcript: Transcript, name: str) -> str:
    """The text alone, one segment to a line; segments without text are left out."""
    return "".join(one_line(segment.text) + "\n" for segment in nonempty(transcript.segments))


def json(transcript: Transcript, name: str) -> str:
    """The whole transcript as one line of JSON, in the form that this module documents; text is not escaped to ASCII."""
    document = {
        "version": VERSION,
        "audio": name,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "segments": [_segment(segment) for segment in transcript.segments],
    }
    return encoder.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"


def ctm(transcript: Transcript, name: str) -> str:
    """NIST CTM: ``recording channel start duration word confidence``, one word to a line, times in seconds.

    The channel is 1. White space within a name or a word, which the format cannot hold, becomes ``_``.
    """
    lines = []
    for segment in transcript.segments:
        for word in words_of(segment):
            length = max(word.end - word.start, 0)
            lines.append(f"{one_line(name, '_')} 1 {word.start:.3f} {length:.3f} {one_line(word.text, '_')} {word.confidence:.3f}\n")
    return "".join(lines)


def _segment(segment: Final) -> dict[str, object]:
    words = [
        {"text": w.text, "start": round(w.start, 3), "end": round(w.end, 3), "confidence": round(w.confidence, 4)} for w in segment.words
    ]
    return {"start": round(segment.start, 3), "end": round(segment.end, 3), "text": segment.text, "words": words}
