"""``riverrun serve``: models over the network."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UsageError
from .formats import FORMATS
from .model import load_any
from .options import Beam, Device, Search, SearchOption

if TYPE_CHECKING:
    from riverrun.streaming import Recognizer
    from riverrun.streaming.server import Engine, ServedModel, SessionStore
    from riverrun.streaming.server.config import Variant

#: Source between decisions of models that were not trained for certain latencies, in milliseconds.
_LATENCIES_MS = (500, 1000, 2000)

Models = Annotated[list[str], typer.Option("--models", "-m", help="A model to serve; repeat it for more. The first is the default.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="Bearer tokens, one a line; without it, only this machine is served.", metavar="FILE", show_default=False),
]
Store = Annotated[
    str | None,
    typer.Option(
        help="Redis to keep snapshots in, so that streams outlive this process; in memory if not given.", metavar="URL", show_default=False
    ),
]
Latencies = Annotated[
    list[int],
    typer.Option(
        "--latency",
        "-l",
        help="Offer only this one; repeat it for more. The first is the default.",
        metavar="MS",
        min=1,
        show_default=False,
    ),
]
Pem = Annotated[Path | None, typer.Option(metavar="FILE", show_default=False)]


class Shed(StrEnum):
    """What is given up under overload."""

    newest = "newest"
    none = "none"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    models: Models = ["default"],  # noqa: B006  # only ever read
    max_streams: Annotated[int, typer.Option(help="Streams at a time; fewer if the machine is slow.", metavar="N", min=1)] = 64,
    token_file: TokenFile = None,
    tls_cert: Pem = None,
    tls_key: Pem = None,
    store: Store = None,
    search: SearchOption = Search.greedy,
    beam: Beam = 4,
    device: Device = "cpu",
    latency: Latencies = [],  # noqa: B006  # only ever read
    threads: Annotated[int | None, typer.Option(help="Processor threads.", min=1, max=256, show_default=False)] = None,
    acceptors: Annotated[
        int, typer.Option(help="Processes that speak HTTP, WebSocket and TLS for the one with the models; for hundreds of streams.", min=0)
    ] = 0,
    drain: Annotated[float, typer.Option(help="Seconds that open streams may go on after SIGTERM.", min=0.001)] = 30.0,
    idle: Annotated[float, typer.Option(help="Seconds without audio after which a stream is closed.", min=0.001)] = 60.0,
    save_every: Annotated[float, typer.Option(help="Seconds of audio between snapshots.", min=0.1)] = 4.0,
    vad: Annotated[bool, typer.Option("--vad", help="Let endpoints go by voice activity, unless a client says otherwise.")] = False,
    shed: Annotated[
        Shed, typer.Option(metavar="|".join(Shed), help="Streams to give up when all fall behind real time; their clients can resume.")
    ] = Shed.newest,
    log_text: Annotated[bool, typer.Option("--log-text", help="Write what was said into the log, too.")] = False,
    calibrate: Annotated[bool, typer.Option(help="Measure the model, and refuse streams that it could not keep up with.")] = True,
) -> None:
    """Serve live recognition over WebSocket, recordings over HTTP, and a page for browsers."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _leave)  # a container's process 1 would not hear it until the server listens
    server = server_package()
    if token_file is None and not server.is_loopback(host):
        raise UsageError(f"without --token-file anyone who reaches {host} could use this server; give one, or leave --host out")
    tokens = server.Tokens.from_file(token_file) if token_file else None
    snapshots = _store(store)
    from riverrun.streaming.scheduler import SchedulerConfig

    scheduler = SchedulerConfig(max_streams=max_streams, shed=shed.value)
    if not calibrate:
        scheduler = replace(scheduler, utilisation=float("inf"))
    config = server.ServerConfig(scheduler, drain_s=drain, idle_s=idle, save_s=save_every, vad=vad, log_text=log_text)
    runs = engine(models, device, search.value, beam, latency, threads)
    app = server.create_app(runs, config, tokens, snapshots)
    listening = server.Listening(config.message_bytes, tls_cert=_text(tls_cert), tls_key=_text(tls_key))
    server.serve(app, host, port, listening, acceptors)


def _leave(number: int, frame: object) -> None:
    """End before there is anything to drain, with the status of a program that a signal ended."""
    raise SystemExit(128 + number)


def engine(
    models: Sequence[str] = ("default",),
    device: str = "cpu",
    search: str = "greedy",
    beam: int = 4,
    latencies: Sequence[int] = (),
    threads: int | None = None,
) -> Engine:
    """What a server runs, and a replica of `riverrun.streaming.deploy`: models by name; the arguments are options of the command.

    Raises:
        UsageError: there is no such model, device or latency.
    """
    import torch

    from riverrun.speech.audio import Resampler, open_audio
    from riverrun.streaming.server import Engine

    if threads:
        torch.set_num_threads(threads)
    return Engine(
        served([load_any(name, device) for name in models], search, beam, latencies),
        Resampler,
        lambda recording, rate: open_audio(recording).blocks(sample_rate=rate),
        {name: FORMATS[name].render for name in ("srt", "vtt")},
    )


def server_package() -> Any:
    """`riverrun.streaming.server`, if what it needs is installed."""
    try:
        from riverrun.streaming import server
        from riverrun.streaming.server import run  # noqa: F401  # names are imported on first use: missing packages show here
    except ImportError as error:
        raise UsageError(f"serving needs the package {error.name}; pip install 'riverrun[serve]'") from None
    return server


def served(models: Sequence[Any], search: str = "greedy", beam: int = 4, latencies: Sequence[int] = ()) -> tuple[ServedModel, ...]:
    """Loaded models as the server takes them, under the latencies given or all of theirs.

    Raises:
        UsageError: two have one name, or one does not offer such a latency.
    """
    names = [model.info["name"] for model in models]
    if len(set(names)) < len(names):
        raise UsageError(f"two models have one name ({', '.join(names)}); serve each once")
    return tuple(_served(model, search, beam, latencies) for model in models)


def _served(model: Any, search: str, beam: int, latencies: Sequence[int]) -> ServedModel:
    from riverrun.streaming.server import ServedModel

    info = model.info
    offered = info.get("latencies_ms", _LATENCIES_MS)
    if missing := set(latencies) - set(offered):
        raise UsageError(f"model {info['name']} has no latency of {min(missing)} ms; choose from {', '.join(map(str, offered))}")
    recognizer = partial(_recognizer, model, search, beam)
    translation = tuple(info.get("target_languages", ()))
    policy = _policy(model) if translation else ""
    found = ServedModel(
        info["name"], tuple(info.get("languages", ())), (), 0, recognizer, translation, policy, hasattr(model, "recognizer")
    )
    possible, problem = [], ""
    for latency_ms in latencies or offered:
        try:
            recognizer(found.variant(latency_ms))
            possible.append(latency_ms)
        except ValueError as error:  # what is offered to any checkpoint may be more than this one can hear at a time
            problem = f"model {info['name']} cannot be served at {latency_ms} ms: {error}"
    if not possible or (latencies and problem):
        raise UsageError(problem)
    usual = info.get("default_latency_ms")
    default = usual if usual in possible and not latencies else possible[0]
    return replace(found, latencies_ms=tuple(possible), default_latency_ms=default)


def _policy(model: Any) -> str:
    """The policy of a translator, if a client asks for none: one that goes with it, as suits it."""
    from riverrun.streaming.attention_model import attends
    from riverrun.streaming.policies import policy_text

    from .translation import Translating

    hears = model.attention_model()
    return policy_text(Translating().policy(hears, "alignatt" if attends(hears) else "local-agreement"))


def _recognizer(model: Any, search: str, beam: int, variant: Variant) -> Recognizer:
    """A recogniser, or a translator as one."""
    if variant.policy is None:
        recognizer: Recognizer = model.recognizer(variant.latency_ms, search, beam)
        return recognizer
    from riverrun.streaming.policies import parse_policy

    from .translation import PAUSE_S, Translating

    how = Translating(to=variant.language, latency=variant.latency_ms, beam=beam if search == "beam" else 1, silence_s=PAUSE_S)
    return how.translator(how.attention_model(model, variant.policy), parse_policy(variant.policy))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _store(url: str | None) -> SessionStore | None:
    if url is None:
        return None
    from riverrun.streaming.server import RedisStore

    try:
        return RedisStore(os.path.expandvars(url))
    except ValueError as error:
        raise UsageError(f"--store: {error}") from None
