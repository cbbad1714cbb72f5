"""What can be set of the application."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Arguments of `application`.

    Attributes:
        engine: ``module:function`` that makes a `riverrun.streaming.server.Engine` in each replica.
        options: the function's arguments.
        store: ``redis://…`` for snapshots. Without it, streams do not outlive their replica.
        token_file: bearer tokens, one a line, at this path on every node; without it, everyone is served.
        origins: web origins whose pages may connect, besides the server's own.
        max_streams: of one replica; it takes fewer if it measures that it could not keep up.
        utilisation: part of the time that steps may take; infinite: as many streams as ``max_streams`` says.
        busy: part of ``max_streams`` that a replica should hold on average; another is started when they hold more.
        replicas: fewest and most.
        fronts: processes that pass messages on.
        cpus: that Ray reserves for a replica.
        gpus: likewise.
        save_s: seconds of audio between snapshots.
        keep_s: seconds that snapshots of broken streams are kept.
        start_s: seconds that a client may take for its first message.
        place_s: seconds that a stream waits for a replica.
        patience_s: seconds that streams may go on in a replica that is to be stopped; then they resume in another.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str = "riverrun.cli.deploy:engine"
    options: dict[str, Any] = {}
    store: str | None = None
    token_file: str | None = None
    origins: tuple[str, ...] = ()
    max_streams: Annotated[int, Field(ge=1)] = 64
    utilisation: Annotated[float, Field(gt=0)] = 0.5
    busy: Annotated[float, Field(gt=0, le=1)] = 0.7
    replicas: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 4)
    fronts: Annotated[int, Field(ge=1)] = 1
    cpus: Annotated[float, Field(ge=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0
    save_s: Annotated[float, Field(gt=0)] = 4.0
    keep_s: Annotated[float, Field(gt=0)] = 300.0
    start_s: Annotated[float, Field(gt=0)] = 10.0
    place_s: Annotated[float, Field(gt=0)] = 10.0
    patience_s: Annotated[float, Field(gt=0)] = 60.0
