"""What a stream needs to know of a tokenizer: text, where words begin, and what must not be written."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import torch

#: Scripts that are written without spaces: Thai and Lao, Burmese, Khmer, kana, Han.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_SPACES = ("▁", "Ġ", " ")  #: how pieces of SentencePiece and of byte-level BPE spell the space before a word


class Tokens:
    """A tokenizer's pieces.

    Attributes:
        forbidden: (size,) bool: what no text holds: special and added tokens, and ids that the tokenizer does not have.
        lengthens: (size,) bool: letters and digits that do not begin a word, which would lengthen the word before.

    Args:
        tokenizer: of transformers.
        size: the model's outputs, which may be more than the tokenizer's pieces.
        ends: tokens that end a text: special, but not forbidden.
    """

    def __init__(self, tokenizer: Any, size: int, ends: Collection[int]):
        self._tokenizer = tokenizer
        known = min(len(tokenizer), size)
        special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder} - set(ends)
        pieces = tokenizer.convert_ids_to_tokens(list(range(known)))
        forbidden, starts, lengthens = ([False] * size for _ in range(3))
        for i in range(size):
            if i >= known or pieces[i] is None or i in special:
                forbidden[i] = True
            elif i not in ends:
                starts[i] = pieces[i].startswith(_SPACES)
                if not starts[i]:
                    text = pieces[i] if pieces[i].isascii() else tokenizer.convert_tokens_to_string([pieces[i]])
                    starts[i] = bool(_UNSPACED.match(text))
                    lengthens[i] = not starts[i] and ("\ufffd" in text or any(map(str.isalnum, text)))
        self._starts = starts
        self.forbidden, self.lengthens = torch.tensor(forbidden), torch.tensor(lengthens)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, without a space before it."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.lstrip(" ")

    def starts_word(self, token: int) -> bool:
        """Whether a token begins a word; of a script written without spaces, every token does."""
        return self._starts[token]
