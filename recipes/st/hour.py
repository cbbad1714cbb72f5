"""What a long stream costs, minute by minute: processor time, resident memory, and what the stream remembers.

``cat hour.pcm | python -m riverrun.recipes.st.hour --model riverrun-en-de --policy alignatt:frames=16``: the pipe carries 16 bit samples
(little-endian, mono) at the model's rate, and is read until it ends. A row of CSV is written for each whole minute.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from riverrun.speech import load
from riverrun.streaming import Final, Stream
from riverrun.streaming.policies import parse_policy
from riverrun.streaming.translator import Translator


class Minute(NamedTuple):
    """One minute of audio.

    Attributes:
        minute: its number, from 1.
        cpu_s: processor time of the whole process in it.
        resident_mb: memory of the process at its end, in 10^6 bytes; 0 where the system does not tell.
        saved_kb: the stream as `Stream.save` gives it at its end, in 10^3 bytes.
        words: that became final in it.
    """

    minute: int
    cpu_s: float
    resident_mb: float
    saved_kb: float
    words: int


def watch(translator: Translator, pieces: Iterable[npt.NDArray[np.int16]]) -> Iterator[Minute]:
    """Run one stream over audio, of any length in pieces of any length, and look at it after each minute."""
    stream = Stream(translator)
    minute, words, began = 1, 0, time.process_time()
    for piece in pieces:
        words += sum(len(event.words) for event in stream.push(piece) if isinstance(event, Final))
        if stream.seconds >= 60 * minute:
            spent = time.process_time() - began
            yield Minute(minute, round(spent, 3), _resident_mb(), round(len(stream.save()) / 1e3, 1), words)
            minute, words, began = minute + 1, 0, time.process_time()


def samples(pipe: BinaryIO, count: int) -> Iterator[npt.NDArray[np.int16]]:
    """The samples of a pipe, ``count`` at a time, the last piece shorter; half a sample at the end is left out."""
    while data := pipe.read(2 * count):
        yield np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.int16)


def _resident_mb() -> float:
    status = Path("/proc/self/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return round(int(found[1]) * 1024 / 1e6, 1) if found else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch and print; the exit status is 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="python -m riverrun.recipes.st.hour", description=__doc__)
    parser.add_argument("--model", required=True, help="a translator's name or folder, or hf:FOLDER")
    parser.add_argument("--policy", default="alignatt", help="name or name:option=value,option=value")
    parser.add_argument("--latency", type=int, help="chunk in milliseconds; the model's default if not given")
    parser.add_argument("--silence", type=float, help="pause in seconds that ends a segment; none if not given")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        model = load(given.model)
        if not hasattr(model, "attention_model"):
            raise ValueError(f"{given.model} is a recogniser: give a translator")
        model = model.attention_model(given.latency)
        policy = parse_policy(given.policy, getattr(model, "policy_defaults", None))
        translator = Translator(model, policy, silence_s=given.silence)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(",".join(Minute._fields))
    for row in watch(translator, samples(sys.stdin.buffer, translator.chunk)):
        print(",".join(map(str, row)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
