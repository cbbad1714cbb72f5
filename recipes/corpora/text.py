"""English sentences made fit to be spoken by a machine and to be learned from: what is said is what is written.

A synthesiser reads "Mr." as "mister" and "3" as "three"; a recogniser is taught lower-case words. A sentence enters the corpus
only where the two agree: abbreviations with one reading are written out, and a sentence with digits or symbols is left out.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

_TYPOGRAPHY = str.maketrans(
    {"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2013": ", ", "\u2014": ", ", "\u2026": ".", "\u00a0": " "}
)
_ABBREVIATIONS = {
    "mr": "mister", "mrs": "missus", "dr": "doctor", "etc": "et cetera", "mt": "mount",
    "gen": "general", "maj": "major", "lt": "lieutenant", "sgt": "sergeant", "capt": "captain", "rev": "reverend", "col": "colonel",
    "prof": "professor", "jr": "junior", "sr": "senior", "gov": "governor", "sen": "senator", "hon": "honorable",
}  # fmt: skip
_AMBIGUOUS = re.compile(r"\b(st|ms|drs|messrs|co|no|vs|fig|vol|ft|in|oz|lb|dept|ave|ed|pp|viz|i\.e|e\.g)\.(?=\s*[A-Za-z,;])", re.IGNORECASE)
_ABBREVIATION = re.compile(r"\b(" + "|".join(_ABBREVIATIONS) + r")\.", re.IGNORECASE)
_READABLE = re.compile(r"[A-Za-z' ,.;:?!\"()-]+")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*'?|'[a-z]+")
_UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def plain(sentence: str) -> str:
    """Fold typographic quotes, dashes and accents to ASCII, and runs of white space to one space."""
    folded = unicodedata.normalize("NFKD", sentence.translate(_TYPOGRAPHY)).encode("ascii", "ignore").decode()
    return " ".join(folded.split())


def write_out(sentence: str) -> str:
    """Replace abbreviations that have one reading ("Mr." becomes "Mister"); a sentence's last full stop is kept."""

    def reading(match: re.Match[str]) -> str:
        word = match[1]
        full = _ABBREVIATIONS[word.lower()]
        full = full.capitalize() if word[0].isupper() else full
        return full + ("." if match.end() == len(sentence) else "")

    return _ABBREVIATION.sub(reading, sentence)


def transcript(sentence: str) -> str:
    """What a recogniser should answer: lower-case words of a–z and apostrophes, one space between them.

    Hyphens part words; all other marks disappear. The sentence is taken as it stands: see `speakable` for what to leave out.
    """
    return " ".join(word.strip("'") if word.startswith("'") else word.rstrip("'") for word in _WORD.findall(plain(sentence).lower()))


def speakable(sentence: str) -> str | None:
    """The sentence as a synthesiser should read it, or None where its reading is uncertain (digits, symbols, odd abbreviations)."""
    text = write_out(plain(sentence))
    if not _READABLE.fullmatch(text) or _AMBIGUOUS.search(text):
        return None
    return text if transcript(text) else None


def spoken_number(number: int) -> str:
    """Write out a cardinal number of at most six digits, without "and": 1205 is "one thousand two hundred five".

    Raises:
        ValueError: the number is negative or has more than six digits.
    """
    if not 0 <= number < 1_000_000:
        raise ValueError(f"can write out 0 to 999999, not {number}")
    if number < 20:
        return _UNITS[number]
    for size, name in ((1000, " thousand"), (100, " hundred")):
        if number >= size:
            head, rest = divmod(number, size)
            return spoken_number(head) + name + (" " + spoken_number(rest) if rest else "")
    tens, unit = divmod(number, 10)
    return _TENS[tens] + (" " + _UNITS[unit] if unit else "")


def spoken_digits(digits: str) -> str:
    """Read a string of digits one by one: "307" is "three zero seven"."""
    return " ".join(_UNITS[int(digit)] for digit in digits)


def select(sentences: Iterable[str], *, words: tuple[int, int], exclude: set[str]) -> Iterator[str]:
    """Speakable sentences of `words` (fewest, most) words, each transcript once, none whose transcript is in `exclude`.

    The transcripts given out are added to `exclude`, so that several sources can be drawn from with one set.
    """
    fewest, most = words
    for sentence in sentences:
        text = speakable(sentence)
        if text is None:
            continue
        key = transcript(text)
        if fewest <= len(key.split()) <= most and key not in exclude:
            exclude.add(key)
            yield text
