"""How much of what was shown was taken back."""

from __future__ import annotations

from collections.abc import Sequence


class Erasure:
    """Counts, for one stream, the words that were shown and then changed (Arivazhagan et al. 2020, "Re-translation versus Streaming")."""

    def __init__(self) -> None:
        self.erased = 0  #: words taken back so far
        self.written = 0  #: words that are final
        self._open: Sequence[str] = ()

    def show(self, final: Sequence[str], tail: Sequence[str] = ()) -> None:
        """The output changes: behind what was final already stand the words ``final``, which never change, and ``tail``, which may."""
        new = [*final, *tail]
        same = next((i for i, (old, now) in enumerate(zip(self._open, new, strict=False)) if old != now), min(len(self._open), len(new)))
        self.erased += len(self._open) - same
        self.written += len(final)
        self._open = new[len(final) :]

    @property
    def normalized(self) -> float | None:
        """Words taken back for each word of the final text; None if it is empty."""
        return self.erased / self.written if self.written else None


def normalized_erasure(outputs: Sequence[Sequence[str]]) -> float | None:
    """The erasure of one utterance's outputs (words) in the order in which they were shown, the final one last."""
    erasure = Erasure()
    for output in outputs[:-1]:
        erasure.show((), output)
    erasure.show(outputs[-1] if outputs else ())
    return erasure.normalized
