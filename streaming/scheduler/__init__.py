"""Many live streams over one model: slots in one batched state, stepped together by whoever is due first."""

from ..events import Lag
from .config import Refused, SchedulerConfig
from .live import Flushed, LiveStream, Saved, StreamFailed
from .scheduler import Scheduler, Tick

__all__ = ["Flushed", "Lag", "LiveStream", "Refused", "Saved", "Scheduler", "SchedulerConfig", "StreamFailed", "Tick"]
