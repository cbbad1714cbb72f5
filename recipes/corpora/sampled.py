"""New sentences from old ones: word n-gram sampling, and strings of words from a pronouncing dictionary.

A recogniser that hears the same sentences again and again learns them by heart. Text drawn from an n-gram model keeps the sounds and the
short-range order of language and repeats nothing; strings of dictionary words teach spelling where no context helps.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_END = ""
_ENTRY = re.compile(r'\(\s*"([a-z]+(?:\'[a-z]+)?)"')


class NgramSampler:
    """Text from a word n-gram model whose history is shortened at random, so that it wanders between its sentences.

    Args:
        sentences: speakable sentences; words keep their marks and capitals.
        order: longest history plus one.
        shorten: probability, at each word, of looking at one word of history less.
    """

    def __init__(self, sentences: Iterable[str], order: int = 3, shorten: float = 0.35):
        if order < 2:
            raise ValueError(f"n-gram sampling needs an order of at least 2, not {order}")
        self.order, self.shorten = order, shorten
        self._next: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for sentence in sentences:
            words = [*[_END] * (order - 1), *sentence.split(), _END]
            for i in range(order - 1, len(words)):
                for size in range(1, order):
                    self._next[tuple(words[i - size : i])].append(words[i])
        if not self._next:
            raise ValueError("n-gram sampling needs at least one sentence")

    def sample(self, rng: random.Random, longest: int = 30) -> str:
        """One sentence of at most ``longest`` words."""
        words = [_END] * (self.order - 1)
        while len(words) < longest + self.order - 1:
            size = self.order - 1
            while size > 1 and rng.random() < self.shorten:
                size -= 1
            word = rng.choice(self._next[tuple(words[-size:])])
            if word == _END:
                break
            words.append(word)
        text = " ".join(words[self.order - 1 :]).rstrip(",;:- ")
        return text if text.endswith((".", "?", "!")) else text + "."


def dictionary_words(path: Path) -> list[str]:
    """Head words of a pronouncing dictionary in festival's format (``("word" pos ((...)))``), lower-case letters only.

    Raises:
        ValueError: the file cannot be read, or has none.
    """
    try:
        text = path.read_text(encoding="latin1")
    except OSError as error:
        raise ValueError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    words = sorted({word for word in _ENTRY.findall(text) if len(word) > 1})
    if not words:
        raise ValueError(f'{path} holds no dictionary entry such as ("word" n ((w er d) 1))')
    return words


def word_strings(words: Sequence[str], rng: random.Random, fewest: int = 2, most: int = 8) -> Iterator[str]:
    """Endless strings of words drawn evenly from ``words``."""
    while True:
        text = " ".join(rng.choices(words, k=rng.randint(fewest, most)))
        yield text[0].upper() + text[1:] + "."
