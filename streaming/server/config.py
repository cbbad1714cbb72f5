"""What a server serves, and what it allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..events import Transcript
from ..recognizer import Front, Recognizer
from ..scheduler import SchedulerConfig


class Variant(NamedTuple):
    """How a model is run: what streams must have in common to be stepped together.

    Attributes:
        latency_ms: one of the model's.
        language: to translate into; None for a recogniser.
        policy: of translation, as `riverrun.streaming.policies.policy_text` writes it; None for a recogniser.
    """

    latency_ms: int
    language: str | None = None
    policy: str | None = None


@dataclass(frozen=True)
class ServedModel:
    """A model under a name.

    Attributes:
        name: what clients call it.
        languages: that it hears, as far as it says.
        latencies_ms: that it offers.
        default_latency_ms: one of them.
        recognizer: the model under one of its variants; raises ValueError for a policy that it cannot follow.
        translation: languages that it translates into, the default first; none for a recogniser.
        policy: of translation, if a client asks for none.
        transcribes: whether it writes what was said unless it is asked to translate.
    """

    name: str
    languages: tuple[str, ...]
    latencies_ms: tuple[int, ...]
    default_latency_ms: int
    recognizer: Callable[[Variant], Recognizer]
    translation: tuple[str, ...] = ()
    policy: str = "alignatt"
    transcribes: bool = True

    def variant(self, latency_ms: int) -> Variant:
        """What a client gets that asks for nothing but a latency."""
        return Variant(latency_ms) if self.transcribes else Variant(latency_ms, self.translation[0], self.policy)


@dataclass(frozen=True)
class Engine:
    """What the server runs; the first model is the default.

    Attributes:
        models: at least one.
        resampler: ``(source rate, target rate) -> front``; None: audio must come at the models' rate.
        decode: ``(recording, rate) -> blocks`` of mono float32 samples; raises ValueError for what is no audio. None: no recordings.
        formats: of recordings' transcripts, beyond JSON and plain text: ``(transcript, title) -> file``.
    """

    models: tuple[ServedModel, ...]
    resampler: Callable[[int, int], Front] | None = None
    decode: Callable[[BinaryIO, int], Iterable[NDArray[np.float32]]] | None = None
    formats: Mapping[str, Callable[[Transcript, str], str]] = field(default_factory=dict)

    def model(self, name: str | None) -> ServedModel:
        """The model of that name, or the default one.

        Raises:
            KeyError: there is none.
        """
        if name in (None, "default"):
            return self.models[0]
        return next(model for model in self.models if model.name == name) if name in self.names else self._missing(str(name))

    @property
    def names(self) -> list[str]:
        """Of the models."""
        return [model.name for model in self.models]

    def _missing(self, name: str) -> ServedModel:
        raise KeyError(name)


@dataclass(frozen=True)
class ServerConfig:
    """Limits of a server; durations in seconds, sizes in bytes.

    Attributes:
        scheduler: limits of each model's scheduler.
        message_bytes: of one WebSocket message.
        upload_bytes: of one recording.
        session_s: audio of one stream.
        idle_s: without audio, after which a stream is closed; pings do not count.
        start_s: from connection to the first message.
        send_s: for a client to take one message.
        streams_per_token: at a time.
        save_s: audio between snapshots, and so the most that a client keeps to send again.
        keep_s: that snapshots of broken streams are kept.
        drain_s: that streams may go on after the server was asked to stop.
        variants: translations with policies or languages of clients' choice, running at a time.
        vad: whether endpoints go by voice activity where clients do not say; needs the extra ``vad``.
        log_text: whether the log tells what was said.
        origins: web origins whose pages may connect, besides the server's own.
    """

    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    message_bytes: int = 1 << 20
    upload_bytes: int = 200 << 20
    session_s: float = 6 * 3600.0
    idle_s: float = 60.0
    start_s: float = 10.0
    send_s: float = 20.0
    streams_per_token: int = 32
    save_s: float = 4.0
    keep_s: float = 300.0
    drain_s: float = 30.0
    variants: int = 8
    vad: bool = False
    log_text: bool = False
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{f.name} is {value}: it must be positive")
