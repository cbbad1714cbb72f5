"""Training of a streaming recogniser: hybrid CTC/transducer loss under dynamic chunk sizes."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from riverrun.speech.bundle import load_any
from riverrun.speech.losses import ctc_loss, transducer_loss
from riverrun.speech.losses.smoothing import uniform_divergence
from riverrun.speech.models import Recogniser, RecogniserConfig, Translator

from ..training import SpeechModule
from .corpus import Batch
from .errors import TrainingError
from .options import Augmentation, Compilation, Contexts, Objective, Optimisation

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
        self.objective = objective

    def training_step(self, batch: Batch, _: int) -> Tensor:
        self.seed_step()
        features, frames = self.prepare(batch)
        inner: list[Tensor] = []

        def keep(number: int, x: Tensor) -> None:
            if number in self.objective.intermediate:
                inner.append(x)

        encoded, lengths = self.model.encoder(features, frames, self.draw_context(), keep)
        losses = self.losses(encoded, inner, lengths, batch)
        for name, value in losses.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name != "loss")
        return losses["loss"]

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
