"""Self-training: texts for recordings that have none, by a model, as a packed corpus.

``python -m riverrun.recipes.asr.label --model default --out pseudo recordings/*.ogg`` hears each recording twice, by the
transducer under full context and by the CTC head, and keeps the stretches between pauses on which the two agree and the first is sure.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from riverrun.speech import SpeechModel, load
from riverrun.speech.audio import AudioError, read_audio
from riverrun.speech.metrics import word_edits
from riverrun.streaming import Word

from ..corpora.packed import SAMPLE_RATE, PackWriter

_MARGIN_S = 0.25  # of audio kept around the words of a stretch


@dataclass(frozen=True)
class Stretch:
    """Words between two pauses, and where their audio lies in the recording, in seconds."""

    words: tuple[Word, ...]
    start: float
    end: float

    @property
    def text(self) -> str:
        """The words, one space between them."""
        return " ".join(word.text for word in self.words)

    @property
    def confidence(self) -> float:
        """Geometric mean of the words' confidences."""
        return math.exp(sum(math.log(max(word.confidence, 1e-6)) for word in self.words) / len(self.words))


def stretches(words: Sequence[Word], duration: float, longest_s: float, pause_s: float) -> list[Stretch]:
    """Cut words at pauses of at least ``pause_s``, and, where a stretch would be longer than ``longest_s``, at its longest pause.

    A stretch reaches at most `_MARGIN_S` beyond its words and never past the middle of the pause to its neighbours.
    """
    groups: list[list[Word]] = []
    for word in words:
        if not groups or word.start - groups[-1][-1].end >= pause_s:
            groups.append([])
        groups[-1].append(word)
    room = longest_s - 2 * _MARGIN_S
    waiting, short = groups[::-1], []
    while waiting:
        group = waiting.pop()
        if group[-1].end - group[0].start <= room or len(group) == 1:
            short.append(group)
            continue
        cut = max(range(1, len(group)), key=lambda i: group[i].start - group[i - 1].end)
        waiting += [group[cut:], group[:cut]]
    cuts = [(a[-1].end + b[0].start) / 2 for a, b in zip(short, short[1:], strict=False)]
    return [
        Stretch(tuple(group), max(group[0].start - _MARGIN_S, low), min(group[-1].end + _MARGIN_S, high))
        for group, low, high in zip(short, [0.0, *cuts], [*cuts, duration], strict=True)
    ]


def label(model: SpeechModel, audio: npt.NDArray[np.float32], longest_s: float, pause_s: float) -> Iterator[tuple[Stretch, float, float]]:
    """Stretches of a recording at 16 kHz, each with its confidence and the word errors of the CTC head against it (0 to 1 and more).

    A model with one head is its own second opinion at 320 ms.
    """
    duration = len(audio) / SAMPLE_RATE
    heard = model.transcribe(audio, latency_ms="full")
    words = [word for segment in heard.segments for word in segment.words]
    network = model.bundle.network
    second: dict[str, Any] = (
        {"head": "ctc", "latency_ms": "full"} if network.joiner is not None and network.ctc is not None else {"latency_ms": 320}
    )
    for stretch in stretches(words, duration, longest_s, pause_s):
        piece = audio[int(stretch.start * SAMPLE_RATE) : int(stretch.end * SAMPLE_RATE)]
        other = model.transcribe(piece, **second).text
        yield stretch, stretch.confidence, word_edits(stretch.text, other).rate


def recordings(given: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Names and files: manifests are read, folders searched through, files taken as they are."""
    for path in given:
        if path.suffix == ".jsonl":
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                try:
                    row = json.loads(line)  # not read_manifest, which asks for texts
                    yield row["id"], path.parent / row["audio"]
                except (ValueError, KeyError, TypeError):
                    raise ValueError(f"{path}, line {number}: a line needs an id and an audio file") from None
        elif path.is_dir():
            yield from (
                (str(file.relative_to(path)), file) for file in sorted(path.rglob("*")) if file.is_file() and file.suffix != ".jsonl"
            )
        else:
            yield path.name, path


def main(arguments: Sequence[str] | None = None) -> int:
    """Label recordings; the exit status is 1 if some could not be read, 2 if nothing was kept."""
    parser = argparse.ArgumentParser(prog="python -m riverrun.recipes.asr.label", description=__doc__)
    parser.add_argument("recordings", nargs="+", type=Path, help="files, folders, or JSON Lines manifests")
    parser.add_argument("--out", type=Path, required=True, help="folder of the packed corpus")
    parser.add_argument("--model", default="default", help="a bundle's name or folder")
    parser.add_argument("--confidence", type=float, default=0.85, help="keep stretches of at least this confidence, 0 to 1")
    parser.add_argument(
        "--disagreement", type=float, default=0.15, help="keep stretches on which the heads differ by at most this word error rate"
    )
    parser.add_argument("--longest", type=float, default=16.0, help="seconds of a stretch at most")
    parser.add_argument("--pause", type=float, default=0.35, help="seconds of a pause that parts stretches")
    given = parser.parse_args(arguments)
    model = load(given.model)
    writer = PackWriter(given.out)
    found = kept = failed = 0
    kept_s = 0.0
    for name, path in recordings(given.recordings):
        try:
            audio = read_audio(path)
        except AudioError as error:
            print(f"skipped: {error}", file=sys.stderr)
            failed += 1
            continue
        for stretch, confidence, disagreement in label(model, audio, given.longest, given.pause):
            found += 1
            if confidence < given.confidence or disagreement > given.disagreement:
                continue
            piece = audio[int(stretch.start * SAMPLE_RATE) : int(stretch.end * SAMPLE_RATE)]
            row = {"id": f"{name}@{stretch.start:.2f}", "text": stretch.text, "confidence": round(confidence, 4)}
            writer.add(
                (piece * 32767).round().clip(-32768, 32767), {**row, "disagreement": round(disagreement, 4), "labelled_by": given.model}
            )
            kept, kept_s = kept + 1, kept_s + len(piece) / SAMPLE_RATE
    writer.close()
    print(f"kept {kept} of {found} stretches, {kept_s / 60:.1f} minutes; {failed} recordings could not be read", file=sys.stderr)
    return 2 if not kept else int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
