"""What Prometheus sees of the server."""

from __future__ import annotations

import time

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from ..scheduler import Tick

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.5, 5.0, 10.0)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.streams = Gauge("riverrun_streams", "Streams that are open.", ["kind"], registry=r)
        self.opened = Counter("riverrun_streams_opened", "Streams taken in.", ["kind"], registry=r)
        self.ended = Counter("riverrun_streams_ended", "Streams ended, by what ended them.", ["kind", "code"], registry=r)
        self.resumed = Counter("riverrun_streams_resumed", "Streams that went on after a broken connection.", registry=r)
        self.audio = Counter("riverrun_audio_seconds", "Audio taken in.", registry=r)
        self.saved = Counter("riverrun_snapshot_bytes", "Bytes of snapshots written.", registry=r)
        self.unsaved = Counter("riverrun_snapshot_failures", "Snapshots that the store did not take.", registry=r)
        self.step = Histogram("riverrun_step_seconds", "Time of a step.", buckets=_SECONDS, registry=r)
        self.batch = Histogram("riverrun_step_streams", "Streams in a step.", buckets=[2**i for i in range(13)], registry=r)
        self.loop = Histogram("riverrun_loop_delay_seconds", "Lateness of the event loop.", buckets=_SECONDS, registry=r)
        self.spent = Counter("riverrun_tick_seconds", "Time of ticks, by what it went into.", ["part"], registry=r)
        self.thread = Gauge(
            "riverrun_thread_seconds", "Processor time of a thread: of the event loop, of the models.", ["thread"], registry=r
        )
        self.state = Gauge("riverrun_state_bytes", "State of one stream.", ["model", "latency_ms"], registry=r)
        ProcessCollector(registry=r)
        Gauge("riverrun_accelerator_bytes", "Memory of tensors on the accelerator.", registry=r).set_function(_accelerator_bytes)
        self.delay = Histogram("riverrun_delay_seconds", "From spoken audio to its events.", buckets=_SECONDS, registry=r)

    def tick(self, tick: Tick) -> None:
        """Count a tick of a scheduler."""
        self.step.observe(tick.seconds)
        self.batch.observe(tick.streams)
        for delay in tick.delays:
            self.delay.observe(delay)
        for part, seconds in tick.spent.items():
            self.spent.labels(part).inc(max(seconds, 0.0))

    def watch_thread(self, name: str, ident: int) -> None:
        """Tell the processor time of a thread of this process, where the system does."""
        if hasattr(time, "pthread_getcpuclockid"):
            clock = time.pthread_getcpuclockid(ident)
            self.thread.labels(name).set_function(lambda: _seconds(clock))

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


def _seconds(clock: int) -> float:
    try:
        return time.clock_gettime(clock)
    except OSError:  # its thread has ended
        return 0.0


def _accelerator_bytes() -> float:
    return float(torch.cuda.memory_allocated()) if torch.cuda.is_initialized() else 0.0
