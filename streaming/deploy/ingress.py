"""The front as Ray Serve runs it: behind its proxy, and on a port of its own."""

# Annotations are evaluated, not postponed: Ray Serve ships this class without the names that FastAPI would look them up by.

from typing import Any

from fastapi import FastAPI, Response, WebSocket
from ray import serve
from ray.serve.handle import DeploymentHandle

from .front import Front
from .gateway import Gateway
from .settings import Settings

routes = FastAPI(title="riverrun", docs_url=None, redoc_url=None, openapi_url=None)


class _By(Response):
    """A response that an ASGI application writes."""

    def __init__(self, app: Any):
        super().__init__()
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


@serve.deployment
@serve.ingress(routes)
class Ingress:
    """A front, to which Ray Serve's proxy passes everything; with ``settings.port`` clients reach it without the proxy, too.

    Args:
        replicas: handle of the replicas.
        settings: of the application.
        key: secret of the replicas.
    """

    async def __init__(self, replicas: DeploymentHandle[Any], settings: Settings, key: str):  # type: ignore[misc]  # Ray Serve awaits it
        self._front = Front(replicas, settings, key)
        self._gateway: Gateway | None = None
        if settings.port:
            self._gateway = Gateway(self._front.app, None, settings.host, settings.message_bytes, settings.port, settings.tls)
            await self._gateway.start()

    @routes.websocket("/{path:path}")
    async def connection(self, socket: WebSocket) -> None:
        """A stream."""
        await self._front.app(socket.scope, socket.receive, socket.send)

    @routes.api_route("/{path:path}", methods=["GET", "HEAD", "POST"])
    async def request(self) -> Response:
        """Anything else."""
        return _By(self._front.app)

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces a front that raises.

        Raises:
            RuntimeError: its port has been closed.
        """
        if self._gateway:
            self._gateway.check()
