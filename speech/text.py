"""Text before it is compared: one documented normalisation, the same for references and hypotheses."""

from __future__ import annotations

import re
import unicodedata

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\uff07`\u00b4", "'"))
_DOTTED = str.maketrans({"I": "ı", "İ": "i"})
_LOOSE_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")


def normalise(text: str, lang: str = "en") -> str:
    """``text`` as words of lower-case letters and digits with single spaces between them.

    In this order: every kind of apostrophe becomes ``'``; Unicode NFKC; lower case; punctuation, symbols and control characters
    become spaces, but for apostrophes inside a word (``don't``); invisible format characters vanish; white space is folded.
    Numbers and abbreviations are not spelled out, and hyphenated words become two.

    Args:
        text: any text.
        lang: ISO 639 code; Turkish and Azeri (``tr``, ``az``) have their own lower case of I.
    """
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    if lang.partition("-")[0] in ("tr", "az"):
        text = text.translate(_DOTTED)
    text = unicodedata.normalize("NFKC", text.lower())
    return " ".join(_LOOSE_APOSTROPHE.sub(" ", "".join(map(_plain, text))).split())


def _plain(character: str) -> str:
    if character == "'":
        return character
    category = unicodedata.category(character)
    return "" if category == "Cf" else " " if category[0] in "PSCZ" else character
