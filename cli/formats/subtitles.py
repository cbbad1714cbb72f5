"""Subtitle files: SubRip and WebVTT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cues import cues

if TYPE_CHECKING:
    from riverrun.streaming.events import Transcript


def srt(transcript: Transcript, name: str) -> str:
    """SubRip (.srt), UTF-8: numbered cues. Text is written as it is, since SubRip knows no escapes."""
    blocks = (
        f"{i}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{chr(10).join(cue.lines)}\n"
        for i, cue in enumerate(cues(transcript), 1)
    )
    return "\n".join(blocks)


def vtt(transcript: Transcript, name: str) -> str:
    """WebVTT (.vtt, W3C), with ``&``, ``<`` and ``>`` escaped."""
    blocks = (f"\n{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escape(chr(10).join(cue.lines))}\n" for cue in cues(transcript))
    return "WEBVTT\n" + "".join(blocks)


def _clock(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{milliseconds:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
