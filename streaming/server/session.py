"""``/v1/stream``: a stream that outlives its connection.

What is needed to go on is kept under a secret resume token: the stream's snapshot, where it stands in the client's audio,
and the latest final messages, in case they did not arrive. Each connection gets a new token; the old one stays good for a
client to which the new one did not come through.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import struct
from base64 import b64decode, b64encode
from collections import deque
from dataclasses import dataclass, fields, replace
from typing import Any

from ..events import Endpoint, Final, Partial
from ..policies import POLICIES, PolicyError, make_policy, policy_text
from ..scheduler import Flushed, Lag, LiveStream, Saved, Scheduler
from ..scheduler.live import Output
from ..state import StateError
from .config import ServedModel, Variant
from .connection import Connection
from .hub import log
from .opus import SAMPLE_RATE as OPUS_RATE
from .opus import OpusDecoder
from .opus import available as opus_available
from .protocol import (
    Ack,
    Capabilities,
    Error,
    Finish,
    Finished,
    Flush,
    FlushedMessage,
    LagMessage,
    Message,
    Partials,
    ProtocolError,
    Ready,
    Resume,
    Start,
    encode,
    parse_client,
)

#: Errors after which a stream cannot go on, whoever resumes it.
_SPOILT = frozenset({"bad-message", "bad-audio", "too-large", "too-long", "unsupported"})
#: Final messages that are kept for a client that resumes: more than fit into any network's buffers.
_KEPT = 256


@dataclass(frozen=True)
class Record:
    """What is kept of a stream.

    Attributes:
        model, variant, sample_rate, encoding, vad: of its start.
        samples: of the client's audio behind the snapshot.
        seq: number of the last final message before it.
        messages: the last of these, ``[seq, JSON]``.
        packets: the last Opus packets before it, in base 64: a decoder's memory.
        data: the snapshot; empty at a stream's beginning.
    """

    model: str
    variant: Variant
    sample_rate: int
    encoding: str
    vad: bool = False
    samples: int = 0
    seq: int = 0
    messages: tuple[tuple[int, str], ...] = ()
    packets: tuple[str, ...] = ()
    data: bytes | memoryview = b""

    def pieces(self) -> tuple[bytes, bytes | memoryview]:
        """A JSON head, its length before it, and the snapshot, which stands behind it and is not copied."""
        head = json.dumps({f.name: getattr(self, f.name) for f in fields(self) if f.name != "data"}).encode()
        return struct.pack("<I", len(head)) + head, self.data

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """What `pieces` gave, one behind the other.

        Raises:
            StateError: it is damaged.
        """
        try:
            size = struct.unpack_from("<I", data)[0]
            head: dict[str, Any] = json.loads(data[4 : 4 + size])
            messages = tuple((int(seq), str(text)) for seq, text in head.pop("messages"))
            variant = Variant(*head.pop("variant"))
            packets = tuple(map(str, head.pop("packets")))
            return cls(**head, variant=variant, messages=messages, packets=packets, data=data[4 + size :])
        except (struct.error, ValueError, TypeError, KeyError) as error:
            raise StateError(f"the kept stream is damaged: {error}") from None


class Session(Connection):
    """A connection of protocol version 1."""

    kind = "stream"

    async def begin(self) -> LiveStream:
        """Take the start message, and open or resume."""
        try:
            async with asyncio.timeout(self.hub.config.start_s):
                first = await self.receive()
        except TimeoutError:
            raise ProtocolError("idle", "no start message") from None
        if isinstance(first, bytes):
            raise ProtocolError("bad-message", "audio before the start message")
        start = parse_client(first)
        if not isinstance(start, Start):
            raise ProtocolError("bad-message", f"{start.type} before the start message")
        model, variant = self._choose(start)
        self.encoding, self.sample_rate = start.encoding, start.sample_rate
        scheduler = await self.hub.scheduler(model, variant)
        vad = self.hub.config.vad and scheduler.vad if start.vad is None else start.vad
        if vad and not scheduler.vad:
            raise ProtocolError("unsupported", "endpoints cannot go by voice activity here; leave vad out")
        record = Record(model.name, variant, start.sample_rate, start.encoding, vad)
        if start.resume:
            record = await self._kept(start.resume, record)
        try:
            front = self.hub.front(start.sample_rate, scheduler.recognizer.sample_rate)
            stream = scheduler.open(front, self.hub.config.save_s, record.data or None, vad)
        except StateError as error:
            raise ProtocolError("resume-mismatch", f"{error}; start anew") from None
        if start.encoding == "opus":
            self.opus = OpusDecoder(tuple(map(b64decode, record.packets)))
        self._record, self._seq, self.base = record, record.seq, record.samples
        self._messages, self._partials = deque(record.messages, _KEPT), Partials()
        self._arrived = start.resume.seq if start.resume else 0
        self._resume_token = secrets.token_urlsafe(32)
        self.hub.by_token[self._resume_token] = self
        try:
            await self._greet(model, scheduler)
        except BaseException:
            stream.close()
            self.hub.by_token.pop(self._resume_token, None)
            raise
        return stream

    def _choose(self, start: Start) -> tuple[ServedModel, Variant]:
        """What the client wants, if it can be had."""
        model, variant = self.hub.choose(start.model, start.latency_ms)
        if start.hotwords:
            raise ProtocolError("unsupported", "this model takes no hotwords")
        if start.language and start.language not in model.languages:
            raise ProtocolError("unsupported", f"no language {start.language}; choose from {', '.join(model.languages) or 'none'}")
        if start.encoding == "opus" and not opus_available():
            raise ProtocolError("unsupported", "this server decodes no Opus; send PCM")
        if start.encoding == "opus" and start.sample_rate != OPUS_RATE:
            raise ProtocolError("unsupported", f"Opus counts at {OPUS_RATE} Hz; say so in sample_rate")
        if start.policy_options and not start.policy:
            raise ProtocolError("bad-message", "policy_options without a policy")
        if not model.translation and (start.translate_to or start.policy):
            raise ProtocolError("unsupported", "this model does not translate; leave translate_to and policy out")
        if start.translate_to and start.translate_to not in model.translation:
            raise ProtocolError("unsupported", f"no translation into {start.translate_to}; choose from {', '.join(model.translation)}")
        if start.translate_to or start.policy:
            variant = Variant(variant.latency_ms, start.translate_to or model.translation[0], model.policy)
        if start.policy:
            try:
                policy = make_policy(start.policy, **(start.policy_options or {}))
            except PolicyError as error:
                raise ProtocolError("unsupported", str(error)) from None
            variant = variant._replace(policy=policy_text(policy))
        return model, variant

    async def _kept(self, resume: Resume, wanted: Record) -> Record:
        """The kept stream; whoever still holds it here lets go, lest two connections feed one stream."""
        if old := self.hub.by_token.get(resume.token):
            old.abort("resumed", "the stream goes on in another connection")
        data = await self.hub.store.load(resume.token)
        if data is None:
            raise ProtocolError("resume-unknown", "no such stream is kept; start anew")
        try:
            record = Record.from_bytes(data)
        except StateError as error:
            raise ProtocolError("resume-mismatch", f"{error}; start anew") from None
        bare = replace(record, samples=0, seq=0, messages=(), packets=(), data=b"")
        if bare != wanted:
            raise ProtocolError("resume-mismatch", "the stream began otherwise; repeat the start message as it was")
        if resume.seq < record.seq and record.messages[0][0] > resume.seq + 1:
            raise ProtocolError("resume-gap", "final messages that did not arrive are no longer kept; start anew")
        self.hub.metrics.resumed.inc()
        return record

    async def _greet(self, model: ServedModel, scheduler: Scheduler) -> None:
        record = self._record
        await self._keep(record)
        capabilities = Capabilities(
            model=model.name,
            languages=list(model.languages),
            latency_ms=record.variant.latency_ms,
            latencies_ms=list(model.latencies_ms),
            sample_rate=scheduler.recognizer.sample_rate,
            encodings=["pcm_s16le", "pcm_f32le", "opus"] if opus_available() else ["pcm_s16le", "pcm_f32le"],
            translation=list(model.translation),
            policies=list(POLICIES) if model.translation else [],
            vad=scheduler.vad,
        )
        self._session = session = secrets.token_hex(8)
        audio_ms = self._ms(record.samples)
        await self._message(Ready(session=session, resume_token=self._resume_token, capabilities=capabilities, audio_ms=audio_ms))
        about = record.variant._asdict()
        log("start", session=session, model=record.model, **about, encoding=record.encoding, vad=record.vad, resumed_at_ms=audio_ms)
        for seq, text in record.messages:
            if seq > self._arrived:
                await self.send(text)

    async def hear(self, stream: LiveStream, text: str) -> None:
        """Flush or finish; to repeat them does no harm, as a client may after a broken connection."""
        message = parse_client(text)
        if isinstance(message, Start):
            raise ProtocolError("bad-message", "the stream has started already")
        if isinstance(message, Flush) and self.finishing:
            raise ProtocolError("bad-message", "flush after finish")
        if isinstance(message, Flush):
            await stream.flush(message.id)
        elif isinstance(message, Finish) and not self.finishing:
            self.finishing = True
            await stream.finish()

    async def say(self, item: Output) -> None:
        """Number what is final, and acknowledge what is saved."""
        if isinstance(item, Final | Endpoint):
            self._seq += 1
            text = encode(item, self._seq)
            self._messages.append((self._seq, text))
            if self._seq > self._arrived:
                await self.send(text)
            if self.hub.config.log_text and isinstance(item, Final):
                log("final", session=self._session, seq=self._seq, text=item.text)
        elif isinstance(item, Saved):
            samples = self.base + item.samples
            packets = tuple(b64encode(packet).decode() for packet in self.opus.packets(item.samples)) if self.opus else ()
            record = replace(self._record, samples=samples, seq=self._seq, messages=tuple(self._messages), packets=packets, data=item.data)
            if await self._keep(record):
                await self._message(Ack(audio_ms=self._ms(samples)))
        elif isinstance(item, Flushed):
            await self._message(FlushedMessage(id=item.id))
        elif isinstance(item, Lag):
            await self._message(LagMessage(ms=round(item.seconds * 1000, 1)))
        elif isinstance(item, Partial):
            await self.send(self._partials.encode(item))
        else:
            await self.send(encode(item, 0))

    async def end(self) -> None:
        """Say so."""
        await self._message(Finished())

    async def refuse(self, code: str, message: str) -> None:
        """Say why. A stream that its client has spoilt is not kept."""
        if code in _SPOILT:
            await self._forget()
        await self.send(Error(code=code, message=message).model_dump_json())

    async def left(self, code: int) -> None:
        """Who leaves in good order does not come back."""
        if code == 1000:
            await self._forget()

    async def run(self) -> None:
        """See `Connection.run`."""
        try:
            await super().run()
        finally:
            self.hub.by_token.pop(getattr(self, "_resume_token", ""), None)

    async def _keep(self, record: Record) -> bool:
        """Whether the store took the stream; one that cannot only costs the client memory."""
        pieces = record.pieces()
        try:
            async with asyncio.timeout(10.0):
                await self.hub.store.save(self._resume_token, pieces, self.hub.config.keep_s)
        except Exception as error:  # a store has errors of its own
            self.hub.metrics.unsaved.inc()
            log("unsaved", error=type(error).__name__)
            return False
        self.hub.metrics.saved.inc(sum(map(len, pieces)))
        return True

    async def _forget(self) -> None:
        """Keep the stream no longer; a store that cannot be reached forgets it by itself in time."""
        if not hasattr(self, "_resume_token"):
            return
        try:
            async with asyncio.timeout(10.0):
                await self.hub.store.delete(self._resume_token)
        except Exception as error:  # a store has errors of its own
            log("unforgotten", error=type(error).__name__)

    async def _message(self, message: Message) -> None:
        await self.send(message.model_dump_json())

    def _ms(self, samples: int) -> float:
        return samples * 1000 / self.sample_rate
