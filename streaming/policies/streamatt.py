"""StreamAtt: AlignAtt for streams without end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .attention import AlignAtt
from .history import make_history


@dataclass(frozen=True)
class StreamAtt(AlignAtt):
    """AlignAtt, with a history that keeps text and audio bounded (Papi et al. 2024, "StreamAtt").

    Attributes:
        remember: "words" (the last ``size`` words, 20 by default) or "sentence" (the text after the last sentence end, at most
            ``size`` tokens, 100 by default).
        size: see ``remember``.
    """

    remember: str = "words"
    size: int | None = None
    name: ClassVar[str] = "streamatt"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "keeps", make_history(self.remember, self.size))
