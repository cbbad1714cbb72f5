"""Development sets: recordings with texts, heard as a whole at several latencies while training runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torchaudio
from torch import Tensor
from torch.utils.data import IterableDataset

from riverrun.speech.attention import Context
from riverrun.speech.losses.attention import text_log_probs
from riverrun.speech.models import Recogniser
from riverrun.speech.recognizer import make_search
from riverrun.speech.search import BeamSearch
from riverrun.speech.search.base import Committed, Label, read_labels
from riverrun.speech.text import normalise
from riverrun.speech.tokenizer import Tokenizer

from ..corpora.packed import SAMPLE_RATE
from .errors import TrainingError
from .recordings import open_corpus

_SIZE_STEP = 0.64  # seconds; batches are padded to a multiple of it


class DevBatch(NamedTuple):
    """Audio (B, N) float32 in [-1, 1], samples (B,), and for each recording its name and its text as it stands in the manifest."""

    audio: Tensor
    samples: Tensor
    names: list[str]
    texts: list[str]


@dataclass(frozen=True)
class Measuring:
    """How development sets are heard.

    Attributes:
        latencies: chunk lengths in ms, or "full".
        left_ms: past that attention keeps.
        search: "greedy", "beam", or "rescored": the attention decoder chooses among the texts of a beam.
        beam: hypotheses of a beam search.
        rescore: the decoder's share of the log-probability by which it chooses.
        head: "transducer" or "ctc"; None for the transducer if there is one.
    """

    latencies: tuple[str, ...] = ("full", "640", "320")
    left_ms: int = 2560
    search: str = "greedy"
    beam: int = 4
    rescore: float = 0.5
    head: str | None = None

    def __post_init__(self) -> None:
        if self.search not in ("greedy", "beam", "rescored"):
            raise TrainingError(f"measuring.search must be greedy, beam or rescored, not {self.search!r}")
        for latency in self.latencies:
            if latency != "full" and not (latency.isdigit() and int(latency) > 0 and int(latency) % 40 == 0):
                raise TrainingError(f"measuring.latencies are 'full' or multiples of 40 ms, not {latency!r}")

    def context(self, latency: str) -> Context:
        """What attention sees at a latency, in encoder frames of 40 ms."""
        return Context() if latency == "full" else Context(int(latency) // 40, self.left_ms // 40)


class DevSet(IterableDataset):
    """One set in batches, longest first; of ``world`` ranks, ``rank`` has every ``world``-th.

    All ranks have as many batches, for they may have to meet at each: the last may be of silence that has no name and no text.

    Args:
        path: a packed corpus or a JSON Lines manifest.
        budget_s: seconds of audio in a batch, padding included.
        rank: whose batches these are.
        world: number of ranks.

    Raises:
        ValueError: it cannot be read; subclasses say why.
    """

    def __init__(self, path: str, budget_s: float, rank: int = 0, world: int = 1):
        corpus = open_corpus(path)
        self.skipped = tuple(corpus.skipped)
        self.utterances = sorted(corpus, key=lambda utterance: -utterance.samples)
        self._audio = [corpus.samples_of(utterance) for utterance in self.utterances]
        self._batches: list[range] = []
        while (begin := self._batches[-1].stop if self._batches else 0) < len(self.utterances):
            size = max(1, int(budget_s * SAMPLE_RATE / self._padded(begin)))
            self._batches.append(range(begin, min(begin + size, len(self.utterances))))
        turns = math.ceil(len(self._batches) / world)
        self._batches = self._batches[rank::world]
        self._idle = turns - len(self._batches)
        self._stem = Path(path).stem

    def _padded(self, first: int) -> int:
        step = round(_SIZE_STEP * SAMPLE_RATE)
        return math.ceil(self.utterances[first].samples / step) * step

    def __iter__(self) -> Iterator[DevBatch]:
        for batch in self._batches:
            audio: npt.NDArray[np.float32] = np.zeros((len(batch), self._padded(batch.start)), np.float32)
            for row, i in enumerate(batch):
                audio[row, : len(self._audio[i])] = self._audio[i] / 32768
            utterances = [self.utterances[i] for i in batch]
            names = [str(u.row.get("id", f"{self._stem}-{i}")) for i, u in zip(batch, utterances, strict=True)]
            samples = torch.tensor([u.samples for u in utterances])
            yield DevBatch(torch.from_numpy(audio), samples, names, [u.text or "" for u in utterances])
        for _ in range(self._idle):
            size = round(_SIZE_STEP * SAMPLE_RATE)
            yield DevBatch(torch.zeros(1, size), torch.tensor([size]), [], [])


class Heard(NamedTuple):
    """What a model made of a batch: labels of each recording, and the features (B, T, bins) and their lengths (B,) it heard."""

    labels: list[list[Label]]
    features: Tensor
    frames: Tensor


@torch.no_grad()
def hear(model: Recogniser, batch: DevBatch, measuring: Measuring, latency: str, depth: int | None = None, pool: int = 1) -> Heard:
    """Recognise a batch in float32, each recording as a whole under the context of ``latency``.

    ``depth`` and ``pool`` are those of an encoder that is still growing; frames of labels then count pooled frames.
    """
    with torch.autocast(batch.audio.device.type, enabled=False):
        features, frames = model.normalise(*model.features(batch.audio, batch.samples))
        encoded, lengths = model.encoder(features, frames, measuring.context(latency), depth=depth, pool=pool)
        if measuring.search == "rescored":
            output, counts = rescored(model, encoded, lengths, measuring)
        else:
            output, counts = make_search(model, measuring.search, measuring.beam, measuring.head, never_settle=True)(encoded, lengths)
    output, counts = type(output)(*(field.cpu() for field in output)), counts.cpu()
    return Heard([read_labels(output, counts, i) for i in range(len(batch.names))], features, frames)


def rescored(model: Recogniser, encoded: Tensor, lengths: Tensor, measuring: Measuring) -> tuple[Committed, Tensor]:
    """Of each beam's texts the one that search and attention decoder together find likeliest.

    Raises:
        TrainingError: the model has no attention decoder.
    """
    if model.decoder is None:
        raise TrainingError("measuring.search is rescored, but the network has no attention decoder: set model.model.decoder")
    search = make_search(model, "beam", measuring.beam, measuring.head, never_settle=True)
    if not isinstance(search, BeamSearch):
        raise TypeError("a beam is what is rescored")
    _, _, state = search.step(encoded, lengths, search.init_state(len(encoded), encoded))
    found = search.nbest(state)
    most = max(int(found.lengths.max()), 1)
    judged = text_log_probs(model.decoder, encoded, lengths, found.ids[..., :most], found.lengths)
    score = (1 - measuring.rescore) * found.log_probs + measuring.rescore * judged
    best = torch.where(found.log_probs.isfinite(), score, -torch.inf).argmax(1)
    row = torch.arange(len(best), device=best.device)
    return Committed(found.ids[row, best], found.frames[row, best], found.scores[row, best]), found.lengths[row, best]


def text_of(labels: Sequence[Label], tokenizer: Tokenizer) -> str:
    """The text that labels spell."""
    return tokenizer.decode([label.id for label in labels])


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Edits between two texts after `riverrun.speech.text.normalise`, and words of the reference."""
    wanted, said = normalise(reference).split(), normalise(hypothesis).split()
    return torchaudio.functional.edit_distance(wanted, said), len(wanted)


__all__ = ["DevBatch", "DevSet", "Heard", "Measuring", "hear", "text_of", "word_errors"]
