"""Training of a speech translator: label-smoothed cross-entropy and CTC on the source, under dynamic chunk sizes."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riverrun.speech.losses import ctc_loss
from riverrun.speech.models import Translator, TranslatorConfig
from riverrun.speech.models.translator import BOUNDARY
from riverrun.speech.search.attention_beam import AttentionBeamConfig, continue_texts
from riverrun.speech.translation import SearchConfig
from riverrun.streaming import within

from ..asr.module import begin_with
from ..asr.options import Augmentation, Compilation, Contexts, Optimisation
from ..training import SpeechModule
from .data import DevPairs, StData
from .pairs import PairBatch
from .written import Written

IGNORED = -100  #: an answer that is not asked for


@dataclass(frozen=True)
class StObjective:
    """The losses and their weights.

    Attributes:
        ctc: weight of CTC on the source text; the translation's cross-entropy has 1.
        smoothing: label smoothing of the cross-entropy.
        prefixes: share of steps in which every utterance is cut short, and of its translation only as large a share is asked for
            (Niehues et al. 2018, "Low-latency neural speech translation"). CTC rests in these steps.
        shortest: least share that is left of an utterance then.
    """

    ctc: float = 0.3
    smoothing: float = 0.1
    prefixes: float = 0.0
    shortest: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.prefixes <= 1 or not 0 < self.shortest <= 1:
            raise ValueError(f"objective.prefixes and .shortest are shares of 1, not {self.prefixes} and {self.shortest}")


class StModule(SpeechModule[Translator]):
    """A `Translator` in training.

    Args:
        model: shape of the network.
        optimisation: optimiser and schedule.
        augmentation: what is done to audio and features.
        objective: losses and weights.
        contexts: chunk sizes and left contexts that are drawn from.
        compilation: what is compiled.
        init: a bundle whose weights training begins with, a recogniser's encoder and CTC head or a translator's: its name or folder.
        beam: hypotheses in `test` and `predict`; validation is greedy.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        model: TranslatorConfig,
        optimisation: Optimisation | None = None,
        augmentation: Augmentation | None = None,
        objective: StObjective | None = None,
        contexts: Contexts | None = None,
        compilation: Compilation | None = None,
        init: str | None = None,
        beam: int = 4,
        seed: int = 1,
    ):
        network = Translator(model)
        if init is not None:
            begin_with(network, init)
        super().__init__(network, Translator(model), optimisation, augmentation, contexts, compilation, init is not None, seed)
        self.objective, self.beam = objective or StObjective(), beam
        self._written = Written()

    def compiled_layers(self) -> list[nn.Module]:
        return [*super().compiled_layers(), *self.model.decoder.layers]

    def training_step(self, batch: PairBatch, _: int) -> Tensor:
        self.seed_step()
        kept = None
        if random.Random(f"{self.seed} prefix {self.global_step}").random() < self.objective.prefixes:  # noqa: S311 (no secret)
            batch, kept = shorten(batch, self.objective.shortest)
        features, frames = self.prepare(batch.heard)
        encoded, lengths = self.model.encoder(features, frames, self.draw_context(), dense=not self.compilation.window_kernel)
        losses = self.losses(encoded, lengths, batch, kept)
        for name, value in losses.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name != "loss")
        return losses["loss"]

    def losses(self, encoded: Tensor, lengths: Tensor, batch: PairBatch, kept: Tensor | None = None) -> dict[str, Tensor]:
        """Each loss by name, and their weighted sum ``loss``.

        Args:
            encoded: (B, T, dim) the encoder's output.
            lengths: (B,) real frames.
            batch: both texts.
            kept: (B,) target labels that are asked for, without an end, where utterances were cut short.
        """
        config = self.model.config
        tags = config.vocabulary + batch.languages if len(config.languages) > 1 else None
        inputs, answers, counts = teach(batch.targets, batch.target_counts, tags, kept)
        scores = self.model.decoder(inputs, counts, encoded, lengths)
        loss = smoothed_cross_entropy(scores, answers, self.objective.smoothing)
        losses = {"translation": loss}
        if self.model.ctc is not None and self.objective.ctc and kept is None:
            losses["ctc"] = ctc_loss(self.model.ctc(encoded), lengths, batch.labels, batch.counts)
            loss = loss + self.objective.ctc * losses["ctc"]
        return {**losses, "loss": loss}

    @torch.no_grad()
    def translate(self, batch: PairBatch, beam: int) -> list[tuple[int, ...]]:
        """Target labels of each utterance, by the averaged network under full context."""
        model = self.averaged
        with torch.autocast(batch.audio.device.type, enabled=False):
            encoded, lengths = model.encoder(*model.normalise(*model.features(batch.audio, batch.samples)))
            names = model.config.languages
            begin = [model.config.begin(names[i] if names else None) for i in batch.languages.tolist()]
            longest = [SearchConfig().longest(n / model.config.features.sample_rate) for n in batch.samples.tolist()]
            found = continue_texts(model.decoder, encoded, lengths, begin, longest, AttentionBeamConfig(beam), BOUNDARY)
        return [text.labels for text in found]

    def _data(self) -> StData:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, StData):
            raise TypeError(f"StModule works with StData, not with {type(data).__name__}")
        return data

    def validation_step(self, batch: DevPairs, _: int) -> None:
        self._write(batch, 1)

    def test_step(self, batch: DevPairs, _: int) -> None:
        self._write(batch, self.beam)

    def predict_step(self, batch: DevPairs, _: int) -> list[str]:
        """The translations of the batch."""
        return [self._data().target.decode(labels) for labels in self.translate(batch.pairs, self.beam)]

    def _write(self, batch: DevPairs, beam: int) -> None:
        texts = [self._data().target.decode(labels) for labels in self.translate(batch.pairs, beam)]
        self._written.add(texts, batch.references)

    def on_validation_epoch_end(self) -> None:
        self._written.log(self, "val", self._data().languages[0])

    def on_test_epoch_end(self) -> None:
        self._written.log(self, "test", self._data().languages[0])


def shorten(batch: PairBatch, shortest: float) -> tuple[PairBatch, Tensor]:
    """Cut every utterance to a random share of at least ``shortest``; also how many target labels (B,) that share amounts to."""
    share = torch.empty(len(batch.samples), device=batch.samples.device).uniform_(shortest, 1.0)
    samples = (batch.samples * share).long().clamp(min=1)
    audio = batch.audio * within(samples, batch.audio.shape[1])
    return batch._replace(audio=audio, samples=samples), (batch.target_counts * share).long()


def teach(targets: Tensor, counts: Tensor, tags: Tensor | None = None, kept: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """What a decoder reads, what it should answer after each label, and how much it reads.

    Args:
        targets: (B, W) labels, padded.
        counts: (B,) real ones.
        tags: (B,) language tags that follow the beginning, or None.
        kept: (B,) labels that are asked for; the end is not asked for then.

    Returns:
        Labels (B, P + W) that begin with a boundary and the tag; answers (B, P + W), `IGNORED` where none is asked for; lengths (B,).
    """
    before = [torch.full_like(counts, BOUNDARY)[:, None], *([] if tags is None else [tags[:, None]])]
    inputs = torch.cat([*before, targets], 1)
    place = torch.arange(targets.shape[1] + 1, device=targets.device)
    following = F.pad(targets, (0, 1), value=BOUNDARY)
    following = torch.where(place < counts[:, None], following, BOUNDARY)
    asked = place <= counts[:, None] if kept is None else place < kept[:, None]
    answers = torch.where(asked, following, IGNORED)
    return inputs, F.pad(answers, (len(before) - 1, 0), value=IGNORED), counts + len(before)


def smoothed_cross_entropy(scores: Tensor, answers: Tensor, smoothing: float) -> Tensor:
    """Mean over the answers asked for; ``scores`` (B, U, V), ``answers`` (B, U). Label smoothing: Szegedy et al. 2016."""
    return F.cross_entropy(scores.float().flatten(0, 1), answers.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)
