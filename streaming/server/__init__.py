"""The server: live recognition over WebSocket, recordings over HTTP, for whatever implements `riverrun.streaming.Recognizer`.

Names are imported on first use, as in `riverrun.streaming`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import create_app
    from .config import Engine, ServedModel, ServerConfig
    from .listening import Listening
    from .run import ServeError, is_loopback, serve
    from .store import MemoryStore, RedisStore, SessionStore
    from .tokens import Tokens

_HOMES = {
    "app": ("create_app",),
    "config": ("Engine", "ServedModel", "ServerConfig"),
    "listening": ("Listening",),
    "run": ("ServeError", "is_loopback", "serve"),
    "store": ("MemoryStore", "RedisStore", "SessionStore"),
    "tokens": ("Tokens",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Engine",
    "Listening",
    "MemoryStore",
    "RedisStore",
    "ServeError",
    "ServedModel",
    "ServerConfig",
    "SessionStore",
    "Tokens",
    "create_app",
    "is_loopback",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
