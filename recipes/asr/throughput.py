"""How fast a configuration trains on this machine: steps and hours of audio a minute, and how busy the GPUs are.

``python -m riverrun.recipes.asr.throughput --config recipes/asr/conf/small.yaml`` trains on noise made on the spot. Under
``torchrun --nproc-per-node 2 -m riverrun.recipes.asr.throughput --devices 2 …`` all ranks train together, and the first one reports.
Arguments after ``--`` go to the training command: ``-- --data.budget_s 2400 --model.compilation.mode reduce-overhead``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch

from riverrun.speech.bundle import DEFAULT, find

from ..corpora.packed import PackWriter
from .__main__ import command_line


class Meter(lightning.Callback):
    """Counts steps and audio for some seconds, once ``warmup`` steps of every shape are over.

    Args:
        seconds: how long to count.
        warmup: steps before.
        profile: after counting, print where the time of so many steps goes.
    """

    def __init__(self, seconds: float, warmup: int, profile: int = 0):
        self.seconds, self.warmup, self.profile = seconds, warmup, profile
        self.steps, self.audio_s, self.began, self.took = 0, 0.0, 0.0, 0.0
        self.busy: list[float] = []
        self.table = ""
        self._over = threading.Event()
        self._profiler: Any = None

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step < self.warmup:
            return
        if trainer.global_step == self.warmup:
            wait(trainer)
            self.began = time.perf_counter()
            if torch.cuda.is_available():
                threading.Thread(target=self._watch, args=(trainer.strategy.root_device,), daemon=True).start()
            return
        if self._profiler is not None:
            self.profile -= 1
            self._profiler.step()
            if not self.profile:
                wait(trainer)
                self._profiler.__exit__(None, None, None)
                sort = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
                self.table = self._profiler.key_averages().table(sort_by=sort, row_limit=40, max_name_column_width=70)
                trainer.should_stop = True
            return
        self.steps += 1
        self.audio_s += batch.audio.numel() / 16000
        over = time.perf_counter() - self.began > self.seconds
        if trainer.strategy.broadcast(over) if self.steps % 20 == 0 and trainer.world_size > 1 else over and trainer.world_size == 1:
            wait(trainer)
            self.took = time.perf_counter() - self.began
            self._over.set()
            if self.profile:
                self._profiler = torch.profiler.profile()
                self._profiler.__enter__()
            else:
                trainer.should_stop = True

    def _watch(self, device: torch.device) -> None:
        while not self._over.wait(0.1):
            self.busy.append(torch.cuda.utilization(device))


def wait(trainer: lightning.Trainer) -> None:
    """Until the device has done what it was told."""
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize(trainer.strategy.root_device)


def noise_corpus(folder: Path, seconds: float, lengths: Sequence[float], tokenizer: Path) -> None:
    """A packed corpus of noise, with texts of about three labels a second."""
    from riverrun.speech.tokenizer import Tokenizer

    pieces = Tokenizer.from_file(tokenizer)
    words = [pieces.surface(i) for i in range(2, len(pieces)) if pieces.surface(i).isalpha()]
    draw = np.random.default_rng(1)
    sound = draw.normal(0, 2000, int(max(lengths) * 16000) + 1).astype(np.int16)
    writer = PackWriter(folder)
    for i in range(int(seconds / float(np.mean(lengths)))):
        length = lengths[i % len(lengths)] * draw.uniform(0.9, 0.97)
        text = " ".join(draw.choice(words, int(length * 1.5) + 1))
        writer.add(sound[: int(length * 16000)], {"text": text})
    writer.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m riverrun.recipes.asr.throughput", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--buckets", type=float, nargs="+", default=[8.0], help="batch lengths in seconds; each is compiled in the warm-up")
    parser.add_argument("--seconds", type=float, default=12.0, help="how long to count")
    parser.add_argument("--warmup", type=int, default=30, help="steps before")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--hours", type=float, default=6.0, help="noise to train on")
    parser.add_argument(
        "--profile", type=int, default=0, metavar="STEPS", help="then print where the time of so many steps goes (one device)"
    )
    parser.add_argument("training", nargs="*", help="arguments of the training command, after --")
    given = parser.parse_args(arguments)
    tokenizer = find(DEFAULT) / "tokenizer.model"
    meter = Meter(given.seconds, given.warmup, given.profile if given.devices == 1 else 0)
    rank = int(os.environ.get("RANK", "0"))
    with tempfile.TemporaryDirectory() as temporary:
        noise_corpus(Path(temporary) / "noise", given.hours * 3600, given.buckets, tokenizer)
        cli = command_line(
            [
                *("--config", str(given.config), "--data.sources", json.dumps([{"path": f"{temporary}/noise"}])),
                *("--data.tokenizer", str(tokenizer), "--data.buckets", json.dumps(given.buckets), "--data.short_epochs", "0"),
                *("--trainer.devices", str(given.devices), "--trainer.logger", "false", "--trainer.callbacks", "null"),
                *("--trainer.max_steps", "1000000", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
                *("--model.augmentation.begin", "-1", "--model.augmentation.full", "0"),
                *(["--trainer.strategy", "ddp"] if given.devices > 1 else []),
                *given.training,
            ],
            run=False,
        )
        cli.trainer.callbacks.append(meter)  # type: ignore[attr-defined]
        cli.trainer.fit(cli.model, cli.datamodule)
    if rank:
        return
    per_minute = meter.audio_s * given.devices / 3600 / meter.took * 60
    on_gpu = torch.cuda.is_available()
    result = {
        "config": given.config.name,
        "arguments": given.training,
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
        "devices": given.devices,
        "parameters": sum(p.numel() for p in cli.model.model.parameters()),
        "steps_per_second": round(meter.steps / meter.took, 2),
        "audio_s_per_step": round(meter.audio_s / meter.steps, 1),
        "hours_per_minute": round(per_minute, 1),
        "hours_per_minute_per_gpu": round(per_minute / given.devices, 1),
        "times_real_time_per_gpu": round(per_minute / given.devices * 60),
        "gpu_utilisation": round(float(np.mean(meter.busy)), 1) if meter.busy else None,
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if on_gpu else None,
        "torch": torch.__version__,
    }
    if meter.table:
        print(meter.table, file=sys.stderr)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
