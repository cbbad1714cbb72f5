"""What can be set of the application."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Arguments of `application`.

    Attributes:
        engine: ``module:function`` that makes a `riverrun.streaming.server.Engine` in each replica.
        options: the function's arguments.
        store: ``redis://…`` for snapshots. Without it, streams do not outlive their replica.
        token_file: bearer tokens, one a line, at this path on every node.
        anyone: serve everyone who reaches the cluster, without tokens.
        origins: web origins whose pages may connect, besides the server's own.
        max_streams: of one replica; it takes fewer if it measures that it could not keep up.
        utilisation: part of the time that steps may take; infinite: as many streams as ``max_streams`` says.
        busy: part of ``max_streams`` that a replica should hold on average; another is started when they hold more.
        replicas: fewest and most.
        fronts: processes that pass messages on.
        port: that fronts listen on themselves, those of a node together; clients that use it spare Ray Serve's proxy, which has no
            time for more than some 80 streams a node.
        host: address for that port.
        tls: PEM files of a certificate and its key, on every node, for that port.
        message_bytes: the longest WebSocket message on that port.
        upload_bytes: of a request.
        cpus: that Ray reserves for a replica.
        gpus: likewise.
        save_s: seconds of audio between snapshots.
        keep_s: seconds that snapshots of broken streams are kept.
        start_s: seconds that a client may take for its first message.
        place_s: seconds that a stream waits for a replica.
        patience_s: seconds that streams may go on in a replica that is to be stopped; then they resume in another.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str = "riverrun.cli.serve:engine"
    options: dict[str, Any] = {}
    store: str | None = None
    token_file: str | None = None
    anyone: bool = False
    origins: tuple[str, ...] = ()
    max_streams: Annotated[int, Field(ge=1)] = 64
    utilisation: Annotated[float, Field(gt=0)] = 0.75
    busy: Annotated[float, Field(gt=0, le=1)] = 0.7
    replicas: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 4)
    fronts: Annotated[int, Field(ge=1)] = 1
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    host: str = "0.0.0.0"  # noqa: S104  # fronts are there to be reached
    tls: tuple[str, str] | None = None
    message_bytes: Annotated[int, Field(ge=1)] = 1 << 20
    upload_bytes: Annotated[int, Field(ge=1)] = 200 << 20
    cpus: Annotated[float, Field(ge=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0
    save_s: Annotated[float, Field(gt=0)] = 4.0
    keep_s: Annotated[float, Field(gt=0)] = 300.0
    start_s: Annotated[float, Field(gt=0)] = 10.0
    place_s: Annotated[float, Field(gt=0)] = 10.0
    patience_s: Annotated[float, Field(gt=0)] = 60.0

    @model_validator(mode="after")
    def _closed(self) -> Self:
        if (self.token_file is None) != self.anyone:
            raise ValueError("give a token_file, or say that anyone may use the server")
        return self
