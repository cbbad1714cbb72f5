"""Text to phonemes of the International Phonetic Alphabet by espeak-ng, punctuation kept, for voices that were trained on them."""

from __future__ import annotations

import ctypes as c
import re
from pathlib import Path

from .engine import declare
from .espeak import open_library, set_voice

_CHARS_UTF8, _IPA = 1, 2
_FILES = {"en-gb": "en"}  # languages whose voice espeak knows by another name
_CLAUSE = re.compile(r"([^.,;:!?]*)([.,;:!?]*)\s*")


class Phonemes:
    """espeak-ng's reading of texts.

    Raises:
        SynthesisError: espeak-ng is not there; the message names its packages.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        self._library, _ = open_library(root, [], scratch)
        declare(self._library, "espeak_TextToPhonemes", c.c_char_p, c.POINTER(c.c_char_p), c.c_int, c.c_int)

    def of(self, text: str, voice: str) -> str:
        """Phonemes of a sentence as espeak's ``voice`` says it, a space between words, with the marks that end its clauses.

        Raises:
            SynthesisError: espeak-ng has no such voice.
        """
        set_voice(self._library, _FILES.get(voice, voice))
        clauses = [f"{self._clause(words)}{marks[:1]}" for words, marks in _CLAUSE.findall(text) if words.strip()]
        return " ".join(clauses)

    def _clause(self, words: str) -> str:
        """Espeak drops the marks, where it pauses, so that each clause is asked for by itself; it may yet find several in one."""
        rest, found = c.c_char_p(words.encode()), []
        while rest.value:
            found.append((self._library.espeak_TextToPhonemes(c.byref(rest), _CHARS_UTF8, _IPA) or b"").decode().strip())
        return " ".join(part for part in found if part)
