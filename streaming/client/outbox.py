"""What a client has said and the server has not yet answered: kept, to be said again."""

from __future__ import annotations

from dataclasses import dataclass

from ..server import protocol as p


@dataclass
class Audio:
    """Samples from number ``start`` of the stream on, encoded."""

    start: int
    data: bytes


@dataclass
class Control:
    """A request that stands behind ``at`` samples."""

    at: int
    message: p.Flush | p.Finish


class Outbox:
    """Items in order, under numbers that are never used again.

    Args:
        width: bytes of a sample.

    Attributes:
        next: number of the next item.
        samples: put in so far.
        kept: samples that are not yet acknowledged.
        acknowledged: samples that need not be sent again.
    """

    def __init__(self, width: int):
        self._width = width
        self._items: dict[int, Audio | Control] = {}
        self.next = self.samples = self.kept = self.acknowledged = 0

    def __bool__(self) -> bool:
        return bool(self._items)

    @property
    def first(self) -> int:
        """Number of the oldest item."""
        return next(iter(self._items), self.next)

    def put_audio(self, data: bytes) -> None:
        """Keep audio."""
        self._put(Audio(self.samples, data))
        samples = len(data) // self._width
        self.samples += samples
        self.kept += samples

    def put_control(self, message: p.Flush | p.Finish) -> None:
        """Keep a request."""
        self._put(Control(self.samples, message))

    def _put(self, item: Audio | Control) -> None:
        self._items[self.next] = item
        self.next += 1

    def get(self, number: int) -> bytes | str | None:
        """An item as it is sent; None if it was answered."""
        item = self._items.get(number)
        return None if item is None else item.data if isinstance(item, Audio) else item.message.model_dump_json()

    def acknowledge(self, samples: int) -> None:
        """Forget the audio before a sample."""
        self.acknowledged = max(self.acknowledged, samples)
        for number, item in list(self._items.items()):
            if isinstance(item, Audio):
                if item.start >= samples:
                    break
                known = min(samples - item.start, len(item.data) // self._width)
                self.kept -= known
                rest = item.data[known * self._width :]
                if rest:
                    self._items[number] = Audio(item.start + known, rest)
                else:
                    del self._items[number]

    def answered(self, number: int) -> None:
        """Forget a request."""
        self._items.pop(number, None)

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()
        self.kept = 0
