"""The server: live recognition over WebSocket, recordings over HTTP, for whatever implements `riverrun.streaming.Recognizer`."""

from .app import create_app
from .config import Engine, ServedModel, ServerConfig
from .run import ServeError, is_loopback, serve
from .store import MemoryStore, RedisStore, SessionStore
from .tokens import Tokens

__all__ = [
    "Engine",
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
