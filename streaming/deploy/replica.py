"""A replica: one server with its models, that fronts lease places in."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator

import ray
from ray import serve

from ..scheduler import SchedulerConfig
from ..server import Engine, RedisStore, ServerConfig, Tokens, create_app
from .gateway import Answer, Gateway, ask
from .settings import Settings


class Replica:
    """Holds models and streams. Every stream holds a `lease`, so that Ray Serve knows how many there are.

    Args:
        settings: of the application.
        key: secret of its fronts.
    """

    async def __init__(self, settings: Settings, key: str):  # type: ignore[misc]  # Ray Serve awaits it
        scheduler = SchedulerConfig(max_streams=settings.max_streams, utilisation=settings.utilisation)
        config = ServerConfig(
            scheduler,
            message_bytes=settings.message_bytes,
            upload_bytes=settings.upload_bytes,
            save_s=settings.save_s,
            keep_s=settings.keep_s,
        )
        tokens = Tokens.from_file(settings.token_file) if settings.token_file else None
        store = RedisStore(settings.store) if settings.store else None
        engine = await asyncio.to_thread(_engine, settings)
        self._app = create_app(engine, config, tokens, store)
        self._gateway = Gateway(self._app, key, _own_address(), config.message_bytes)
        await self._gateway.start()
        self._name = serve.get_replica_context().replica_id.unique_id

    async def lease(self) -> AsyncIterator[tuple[str, str]]:
        """A place for one stream: this replica's name and address, held until the caller goes."""
        yield self._name, self._gateway.address
        await asyncio.Event().wait()

    async def answer(self, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
        """Answer one HTTP request."""
        return await ask(self._app, method, path, query, headers, body)

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces a replica that raises.

        Raises:
            RuntimeError: the server has stopped.
        """
        self._gateway.check()


def _own_address() -> str:
    """Of this node, as the cluster knows it."""
    own = ray.get_runtime_context().get_node_id()
    return next(str(node["NodeManagerAddress"]) for node in ray.nodes() if node["NodeID"] == own)


def _engine(settings: Settings) -> Engine:
    """What ``module:function`` makes of the options."""
    module, _, function = settings.engine.partition(":")
    engine = getattr(importlib.import_module(module), function)(**settings.options)
    if not isinstance(engine, Engine):
        raise TypeError(f"{settings.engine} gave {type(engine).__name__}, no riverrun.streaming.server.Engine")
    return engine
