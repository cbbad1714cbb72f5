"""``/sherpa``, and ``/`` for WebSocket: what clients of sherpa-onnx's streaming servers speak.

A client sends mono float32 samples at 16 kHz in binary frames, and the text ``Done``; it gets JSON objects with at least
``text`` and ``segment`` for each change, and the text ``Done!`` at the end.
"""

from __future__ import annotations

import json

from ..events import Final, Partial
from ..scheduler import LiveStream
from ..scheduler.live import Output
from .connection import Connection
from .protocol import ProtocolError


class SherpaConnection(Connection):
    """A connection of such a client, to the default model."""

    kind = "sherpa"

    async def begin(self) -> LiveStream:
        """Open the stream at once: this protocol has no greeting."""
        scheduler = await self.hub.scheduler(*self.hub.choose(None, None))
        front = self.hub.front(self.sample_rate, scheduler.recognizer.sample_rate)
        return scheduler.open(front, vad=self.hub.config.vad and scheduler.vad)

    async def hear(self, stream: LiveStream, text: str) -> None:
        """``Done``."""
        if text.strip() != "Done" or self.finishing:
            raise ProtocolError("bad-message", "the only text of this protocol is Done, at the end")
        self.finishing = True
        await stream.finish()

    async def say(self, item: Output) -> None:
        """Partial and final text."""
        if isinstance(item, Partial | Final):
            final = isinstance(item, Final)
            words = {"tokens": [w.text for w in item.words], "timestamps": [w.start for w in item.words]}
            start = item.words[0].start if item.words else 0.0
            await self.send(json.dumps({"text": item.text, **words, "segment": item.segment, "start_time": start, "is_final": final}))

    async def end(self) -> None:
        """Say so."""
        await self.send("Done!")

    async def refuse(self, code: str, message: str) -> None:
        """The protocol knows no errors: the close code says it, and this text those who look."""
        await self.send(json.dumps({"error": code, "message": message}))
