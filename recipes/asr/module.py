"""Training of a streaming recogniser: hybrid CTC/transducer loss under dynamic chunk sizes."""

from __future__ import annotations

import logging

import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from riverrun.speech.bundle import load_any
from riverrun.speech.losses import ctc_loss, transducer_loss
from riverrun.speech.losses.smoothing import uniform_divergence
from riverrun.speech.models import Recogniser, RecogniserConfig, Translator

from ..training import SpeechModule
from .corpus import Batch
from .data import AsrData
from .dev import DevBatch, Heard, Measuring, hear, text_of, word_errors
from .errors import TrainingError
from .options import Augmentation, Compilation, Contexts, Objective, Optimisation
from .pictures import alignment

log = logging.getLogger(__name__)


class AsrModule(SpeechModule[Recogniser]):
    """A `Recogniser` in training.

    Args:
        model: shape of the network.
        optimisation: optimiser and schedule.
        augmentation: what is done to audio and features.
        objective: losses and weights.
        contexts: chunk sizes and left contexts that are drawn from.
        compilation: what is compiled.
        measuring: how development sets are heard.
        init: a bundle whose weights training begins with: its name or folder.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        model: RecogniserConfig,
        optimisation: Optimisation | None = None,
        augmentation: Augmentation | None = None,
        objective: Objective | None = None,
        contexts: Contexts | None = None,
        compilation: Compilation | None = None,
        measuring: Measuring | None = None,
        init: str | None = None,
        seed: int = 1,
    ):
        objective = objective or Objective()
        if beyond := [n for n in objective.intermediate if not 1 <= n < model.encoder.layers]:
            raise TrainingError(
                f"objective.intermediate names layer {beyond[0]}; the encoder's inner layers are 1 to {model.encoder.layers - 1}"
            )
        if objective.intermediate and not model.ctc:
            raise TrainingError("objective.intermediate needs a CTC head: set model.ctc to true")
        network = Recogniser(model)
        if init is not None:
            begin_with(network, init)
        super().__init__(network, Recogniser(model), optimisation, augmentation, contexts, compilation, init is not None, seed)
        self.objective, self.measuring = objective, measuring or Measuring()
        self._errors: dict[tuple[str, str], Tensor] = {}

    def training_step(self, batch: Batch, _: int) -> dict[str, Tensor]:
        self.seed_step()
        features, frames = self.prepare(batch)
        inner: list[Tensor] = []

        def keep(number: int, x: Tensor) -> None:
            if number in self.objective.intermediate:
                inner.append(x)

        encoded, lengths = self.model.encoder(features, frames, self.draw_context(), keep, dense=not self.compilation.window_kernel)
        losses = self.losses(encoded, inner, lengths, batch)
        for name, value in losses.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name != "loss")
        return losses

    def losses(self, encoded: Tensor, inner: list[Tensor], lengths: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Each loss by name, and their weighted sum ``loss``.

        Args:
            encoded: (B, T, dim) the encoder's output.
            inner: outputs (B, T, dim) of inner layers.
            lengths: (B,) real frames.
            batch: labels and their counts.
        """
        o, model = self.objective, self.model
        losses: dict[str, Tensor] = {}
        total = encoded.new_zeros((), dtype=torch.float32)
        if model.ctc is not None:
            logits = model.ctc(encoded)
            losses["ctc"] = ctc = ctc_loss(logits, lengths, batch.labels, batch.counts)
            if inner:
                n = len(inner)
                losses["intermediate"] = ctc_loss(
                    model.ctc(torch.cat(inner)), lengths.repeat(n), batch.labels.repeat(n, 1), batch.counts.repeat(n)
                )
                ctc = (1 - o.intermediate_share) * ctc + o.intermediate_share * losses["intermediate"]
            if o.smoothing:
                ctc = ctc + o.smoothing * uniform_divergence(logits, lengths)
            total = total + (ctc if model.joiner is None else o.ctc * ctc)
        if model.joiner is not None:
            heard = batch.labels
            if o.label_dropout:
                heard = heard.masked_fill(torch.rand(heard.shape, device=heard.device) < o.label_dropout, 0)
            predicted = model.predict(heard, batch.counts)
            losses["transducer"] = transducer_loss(
                model.joiner, encoded, predicted, lengths, batch.labels, batch.counts, fastemit=o.fastemit
            )
            total = total + losses["transducer"]
        return {**losses, "loss": total}

    def validation_step(self, batch: DevBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._measure(batch, list(self.data.dev_sets)[dataloader_idx], picture=batch_idx == 0)

    def test_step(self, batch: DevBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._measure(batch, list(self.data.test_sets)[dataloader_idx], picture=batch_idx == 0)

    def on_validation_epoch_end(self) -> None:
        self._log_errors("dev", list(self.data.dev_sets))

    def on_test_epoch_end(self) -> None:
        self._log_errors("test", list(self.data.test_sets))

    def predict_step(self, batch: DevBatch, batch_idx: int, dataloader_idx: int = 0) -> list[dict[str, str]]:
        """Name and text of each recording of the batch, at the first latency of ``measuring``."""
        heard = hear(self.averaged, batch, self.measuring, self.measuring.latencies[0])
        texts = [text_of(labels, self.data.tokenizer) for labels in heard.labels]
        return [{"id": name, "text": text} for name, text in zip(batch.names, texts, strict=True)]

    @property
    def data(self) -> AsrData:
        """The trainer's data module.

        Raises:
            TypeError: it is another one.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, AsrData):
            raise TypeError(f"AsrModule is measured on the sets of AsrData, not of {type(data).__name__}")
        return data

    def _measure(self, batch: DevBatch, name: str, picture: bool) -> None:
        for latency in self.measuring.latencies:
            heard = hear(self.averaged, batch, self.measuring, latency)
            texts = [text_of(labels, self.data.tokenizer) for labels in heard.labels]
            counts = torch.tensor([word_errors(wanted, said) for wanted, said in zip(batch.texts, texts, strict=True)]).sum(0)
            self._errors[name, latency] = self._errors.get((name, latency), torch.zeros_like(counts)) + counts
            if picture and latency == self.measuring.latencies[-1] and self.trainer.is_global_zero:
                self._show(f"{name}/{latency} ms", heard, batch.texts[-1], texts[-1])

    def _show(self, tag: str, heard: Heard, wanted: str, said: str) -> None:
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                features = heard.features[-1, : int(heard.frames[-1])]
                figure = alignment(features, heard.labels[-1], self.data.tokenizer, f"{wanted}\n{said}")
                logger.experiment.add_figure(f"alignment/{tag}", figure, self.global_step)

    def _log_errors(self, stage: str, sets: list[str]) -> None:
        """Word error rate of each set at each latency: ``dev/wer/<set>/<latency>``."""
        for name in sets:
            for latency in self.measuring.latencies:
                counts = self._errors.pop((name, latency), torch.zeros(2, dtype=torch.long)).to(self.device)
                errors, words = self.trainer.strategy.reduce(counts, reduce_op="sum").tolist()
                self.log(f"{stage}/wer/{name}/{latency}", errors / max(words, 1), rank_zero_only=True)


def begin_with(model: Recogniser | Translator, bundle: str) -> None:
    """Take all weights of a bundle that fit ``model`` by name and shape; heads of another vocabulary stay as they are, and are named.

    Raises:
        TrainingError: there is no such bundle, or its encoder is another one.
    """
    given, own = load_any(bundle).network.state_dict(), model.state_dict()
    fit = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    if unlike := sorted(name for name in own.keys() - fit.keys() if name.startswith("encoder.")):
        raise TrainingError(
            f"the encoder of {bundle} is not that of model.encoder: {unlike[0]} differs; copy its config.yaml's encoder section"
        )
    if fresh := sorted({name.partition(".")[0] for name in own.keys() - fit.keys()}):
        log.warning("%s has nothing for %s: trained from scratch", bundle, ", ".join(fresh))
    model.load_state_dict({**own, **fit})


__all__ = ["AsrModule", "Augmentation", "Compilation", "Contexts", "Objective", "Optimisation", "begin_with"]
