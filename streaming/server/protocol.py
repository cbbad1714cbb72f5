"""The messages of ``/v1/stream``, version 1: JSON in text frames, audio in binary frames.

A client sends `Start`, then audio, `Flush` and `Finish`. The server answers `Ready` or `Error`, then the rest as it comes,
`Finished` last. ``final`` and ``endpoint`` carry sequence numbers that depend on the audio alone, so that a client that has
resumed can tell what it has already seen. Positions of audio are in milliseconds, exact to the sample:
``round(audio_ms · sample_rate / 1000)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from ..events import Endpoint, Event, Final, Partial, Word

Encoding = Literal["pcm_s16le", "pcm_f32le", "opus"]
Option = Annotated[str, Field(max_length=64)] | int | float


class Message(BaseModel):
    """Base of all messages: unknown fields are errors, numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Resume(Message):
    """Go on with a stream whose connection broke."""

    token: Annotated[str, Field(min_length=16, max_length=128)]
    seq: Annotated[int, Field(ge=0, description="sequence number of the last final or endpoint that arrived; 0 for none")] = 0


class Start(Message):
    """The first message of a client."""

    type: Literal["start"] = "start"
    model: Annotated[str, Field(max_length=128)] | None = None
    sample_rate: Annotated[int, Field(ge=1000, le=768000)] = 16000
    encoding: Annotated[Encoding, Field(description="opus: one raw packet a message, and a sample_rate of 48000")] = "pcm_s16le"
    latency_ms: Annotated[int, Field(gt=0, le=60000)] | None = None
    language: Annotated[str, Field(max_length=35, description="that is spoken")] | None = None
    translate_to: Annotated[str, Field(max_length=35)] | None = None
    policy: Annotated[str, Field(max_length=64, description="when a translation is written")] | None = None
    policy_options: Annotated[dict[Annotated[str, Field(max_length=64)], Option], Field(max_length=16)] | None = None
    vad: Annotated[bool, Field(description="whether endpoints go by voice activity")] | None = None
    hotwords: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=1000)] | None = None
    resume: Resume | None = None


class Flush(Message):
    """Ask for all words so far; the stream goes on."""

    type: Literal["flush"] = "flush"
    id: Annotated[str, Field(max_length=128)]


class Finish(Message):
    """End of the audio."""

    type: Literal["finish"] = "finish"


class Capabilities(Message):
    """What a model can do."""

    model: str
    languages: list[str]
    latency_ms: int
    latencies_ms: list[int]
    sample_rate: int
    encodings: list[Encoding] = ["pcm_s16le", "pcm_f32le"]
    hotwords: bool = False
    translation: Annotated[list[str], Field(description="languages that it translates into")] = []
    policies: list[str] = []
    vad: bool = False


class Ready(Message):
    """The stream is open; audio is awaited from ``audio_ms`` on, 0 unless it was resumed."""

    type: Literal["ready"] = "ready"
    session: str
    resume_token: str
    capabilities: Capabilities
    audio_ms: float = 0.0


class WordMessage(Message):
    """A word; times in seconds since the stream began. Of translations, see `riverrun.streaming.Word`."""

    text: str
    start: float
    end: float
    confidence: float
    emitted_ms: float | None = None
    source_ms: float | None = None


class PartialMessage(Message):
    """Text of the running segment so far, or after a flush of everything since the last final."""

    type: Literal["partial"] = "partial"
    segment: int
    text: str
    words: list[WordMessage]
    stable: Annotated[int, Field(description="characters of the text that no later message revises")] = 0


class FinalMessage(Message):
    """Text of a finished segment."""

    type: Literal["final"] = "final"
    seq: int
    segment: int
    text: str
    words: list[WordMessage]
    start: float
    end: float


class EndpointMessage(Message):
    """A segment ended."""

    type: Literal["endpoint"] = "endpoint"
    seq: int
    segment: int
    time: float
    rule: str


class Ack(Message):
    """Audio before ``audio_ms`` need not be sent again, whatever happens to the connection or the server."""

    type: Literal["ack"] = "ack"
    audio_ms: float


class FlushedMessage(Message):
    """Everything before the flush of this name was decoded; its text is the partial before."""

    type: Literal["flushed"] = "flushed"
    id: str


class LagMessage(Message):
    """The server is this much behind real time; 0 when it has caught up."""

    type: Literal["lag"] = "lag"
    ms: float


class Finished(Message):
    """Nothing more comes."""

    type: Literal["finished"] = "finished"


class Error(Message):
    """The stream ends here. ``busy``, ``full``, ``draining`` and ``failed`` may go better at another time or place.

    Codes: ``unauthorized``, ``limit``, ``full``, ``busy``, ``draining``, ``bad-message``, ``bad-audio``, ``unsupported``,
    ``too-large``, ``idle``, ``too-long``, ``slow-reader``, ``resume-unknown``, ``resume-mismatch``, ``resume-gap``, ``failed``.
    """

    type: Literal["error"] = "error"
    code: str
    message: str


ClientMessage = Annotated[Start | Flush | Finish, Field(discriminator="type")]
ServerMessage = Annotated[
    Ready | PartialMessage | FinalMessage | EndpointMessage | Ack | FlushedMessage | LagMessage | Finished | Error,
    Field(discriminator="type"),
]

_CLIENT: TypeAdapter[Start | Flush | Finish] = TypeAdapter(ClientMessage)
_SERVER: TypeAdapter[Any] = TypeAdapter(ServerMessage)


class ProtocolError(ValueError):
    """A stream that must end; ``code`` is one of those of `Error`."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


def parse_client(text: str) -> Start | Flush | Finish:
    """Read a client's message.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return _CLIENT.validate_json(text)
    except (ValidationError, RecursionError) as error:
        raise ProtocolError("bad-message", _brief(error)) from None


def parse_server(text: str | bytes) -> Any:
    """Read a server's message.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return _SERVER.validate_json(text)
    except ValidationError as error:
        raise ProtocolError("bad-message", _brief(error)) from None


def schema() -> dict[str, Any]:
    """JSON schemas of both directions."""
    return {"client": _CLIENT.json_schema(), "server": _SERVER.json_schema()}


def encode(event: Event, seq: int) -> str:
    """An event as a message in JSON; ``seq`` is not used for partial text.

    Written straight from the event: to make the message's model first would take several times as long.
    """
    if isinstance(event, Partial):
        return _json({"type": "partial", "segment": event.segment, "text": event.text, "words": event.words, "stable": event.stable})
    if isinstance(event, Final):
        about = {"type": "final", "seq": seq, "segment": event.segment, "text": event.text, "words": event.words}
        return _json({**about, "start": event.start, "end": event.end})
    if isinstance(event, Endpoint):
        return _json({"type": "endpoint", "seq": seq, "segment": event.segment, "time": event.time, "rule": event.rule})
    raise TypeError(f"no message for {type(event).__name__}")


class Partials:
    """Encodes the partial texts of one stream: each has all words of its segment, and those of the one before are not written anew."""

    def __init__(self) -> None:
        self._words: Sequence[Word] = ()
        self._written: list[str] = []

    def encode(self, event: Partial) -> str:
        """What `encode` would give."""
        same = 0
        for before, word in zip(self._words, event.words, strict=False):
            if before is not word:
                break
            same += 1
        self._written[same:] = map(_json, event.words[same:])
        self._words = event.words
        words = ",".join(self._written)
        return f'{{"type":"partial","segment":{event.segment},"text":{_json(event.text)},"words":[{words}],"stable":{event.stable}}}'


def _json(value: Any) -> str:
    return to_json(value, exclude_none=True).decode()


def event_of(message: PartialMessage | FinalMessage | EndpointMessage) -> Event:
    """A message as the event it was made of."""
    if isinstance(message, EndpointMessage):
        return Endpoint(message.segment, message.time, message.rule)
    words = tuple(Word(w.text, w.start, w.end, w.confidence, w.emitted_ms, w.source_ms) for w in message.words)
    if isinstance(message, PartialMessage):
        return Partial(message.segment, message.text, words, message.stable)
    return Final(message.segment, message.text, words, message.start, message.end)


def _brief(error: ValidationError | RecursionError) -> str:
    """What was wrong, without what was sent."""
    if isinstance(error, RecursionError):
        return "the message is nested too deeply"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:100]
    return f"{place}: {first['msg']}"[:300] if place else first["msg"][:300]
