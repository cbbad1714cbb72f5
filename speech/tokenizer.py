"""Text to label ids and back, by sentencepiece. Id 0 is the blank of CTC and transducer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import sentencepiece

BLANK = 0
_WORD = "▁"


class Tokenizer:
    """A sentencepiece model whose id 0 is kept free for the blank.

    Raises:
        ValueError: the data is not a sentencepiece model, or its id 0 is an ordinary piece.
    """

    def __init__(self, data: bytes):
        self.data = data
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=data)
        except RuntimeError:
            raise ValueError("the tokenizer is not a sentencepiece model") from None
        self._pieces = [self._model.id_to_piece(i) for i in range(len(self))]  # readers ask for them again and again
        if not (self._model.is_control(BLANK) or self._model.is_unknown(BLANK)):
            raise ValueError(f"the tokenizer's id 0 is {self.piece(BLANK)!r}; riverrun keeps id 0 for the blank")

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Read a ``tokenizer.model``."""
        return cls(path.read_bytes())

    def __len__(self) -> int:
        return self._model.get_piece_size()

    @property
    def unknown(self) -> int:
        """The id that stands for characters without a piece."""
        return self._model.unk_id()

    def encode(self, text: str) -> list[int]:
        """Normalised text to ids."""
        return self._model.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text; blanks are left out."""
        return "".join(self.piece(i) for i in ids if i != BLANK).replace(_WORD, " ").strip()

    def piece(self, id: int) -> str:
        """The piece of an id, with its word mark."""
        return self._pieces[id]

    def starts_word(self, id: int) -> bool:
        """Whether the piece begins a new word."""
        return self.piece(id).startswith(_WORD)

    def surface(self, id: int) -> str:
        """The piece without its word mark."""
        return self.piece(id).removeprefix(_WORD)
