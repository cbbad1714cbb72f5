"""Training of a streaming recogniser: hybrid CTC/transducer loss under dynamic chunk sizes."""

from __future__ import annotations

import logging

import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from riverrun.speech.bundle import load_any
from riverrun.speech.losses.pruned import SimpleJoiner, implementation
from riverrun.speech.models import Recogniser, RecogniserConfig, Translator

from ..sharding import is_sharded, local, whole
from ..training import SpeechModule
from .corpus import Batch
from .data import AsrData
from .dev import DevBatch, Heard, Measuring, hear, text_of, word_errors
from .errors import TrainingError
from .growth import Growth
from .objective import losses_of
from .options import Augmentation, Compilation, Contexts, Objective, Optimisation
from .pictures import alignment
from .sigma import plain, reparametrise

log = logging.getLogger(__name__)

# what a configuration does not mention; immutable, and no Optional, for whose parts the command line could not say what is wrong
_OPTIMISATION, _AUGMENTATION, _OBJECTIVE, _CONTEXTS = Optimisation(), Augmentation(), Objective(), Contexts()
_COMPILATION, _MEASURING, _GROWTH = Compilation(), Measuring(), Growth()


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
        growth: how the encoder grows.
        sigma_reparam: put the encoder's linear layers under `riverrun.recipes.asr.sigma.SigmaReparam`.
        init: a bundle whose weights training begins with: its name or folder.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        model: RecogniserConfig,
        optimisation: Optimisation = _OPTIMISATION,
        augmentation: Augmentation = _AUGMENTATION,
        objective: Objective = _OBJECTIVE,
        contexts: Contexts = _CONTEXTS,
        compilation: Compilation = _COMPILATION,
        measuring: Measuring = _MEASURING,
        growth: Growth = _GROWTH,
        sigma_reparam: bool = False,
        init: str | None = None,
        seed: int = 1,
    ):
        if beyond := [n for n in objective.intermediate if not 1 <= n < model.encoder.layers]:
            raise TrainingError(
                f"objective.intermediate names layer {beyond[0]}; the encoder's inner layers are 1 to {model.encoder.layers - 1}"
            )
        if objective.intermediate and not model.ctc:
            raise TrainingError("objective.intermediate needs a CTC head: set model.ctc to true")
        if objective.transducer != "full" and model.transducer is None:
            raise TrainingError(
                f"objective.transducer is {objective.transducer}, but the network has no transducer: give it model.transducer"
            )
        network = Recogniser(model)
        if init is not None:
            begin_with(network, init)
        average = Recogniser(model)
        if sigma_reparam:
            reparametrise(network.encoder.layers, keep=init is not None)
            reparametrise(average.encoder.layers)
        super().__init__(network, average, optimisation, augmentation, contexts, compilation, init is not None, seed)
        self.objective, self.measuring, self.growth = objective, measuring, growth
        self.sigma_reparam = sigma_reparam
        self.simple: SimpleJoiner | None = None
        if objective.transducer != "full" and model.transducer is not None:
            implementation(objective.transducer if objective.transducer == "k2" else "own")  # if it is missing, say so now
            self.simple = SimpleJoiner(model.encoder.dim, model.transducer.dim, model.vocabulary)
        self._errors: dict[tuple[str, str], Tensor] = {}

    def on_fit_start(self) -> None:
        if (pieces := len(self.data.tokenizer)) != self.model.config.vocabulary:
            raise TrainingError(
                f"the tokenizer has {pieces} pieces, the network {self.model.config.vocabulary}: set model.model.vocabulary to {pieces}"
            )
        super().on_fit_start()

    def learned(self) -> list[tuple[str, nn.Parameter]]:
        return super().learned() + ([] if self.simple is None else list(self.simple.named_parameters("simple")))

    def on_train_batch_end(self, *_: object) -> None:
        super().on_train_batch_end()
        if self.sigma_reparam:  # an average of weights has nearly their singular vectors
            torch._foreach_copy_(local(self.averaged.encoder.buffers()), local(self.model.encoder.buffers()))

    def finished(self) -> Recogniser:
        """The averaged network as it is shipped, whole, and without what only training needs. All ranks must call it together."""
        if not self.sigma_reparam and not is_sharded(self.averaged.parameters()):
            return self.averaged
        network = Recogniser(self.averaged.config).eval()
        network.load_state_dict(plain(whole(self.averaged.state_dict())))
        return network

    def training_step(self, batch: Batch, _: int) -> dict[str, Tensor]:
        self.seed_step()
        features, frames = self.prepare(batch)
        inner: list[Tensor] = []

        def keep(number: int, x: Tensor) -> None:
            if number in self.objective.intermediate:
                inner.append(x)

        depth, pool = self.growth.at(self.global_step)
        dense = not self.compilation.window_kernel
        encoded, lengths = self.model.encoder(features, frames, self.draw_context(), keep, depth, pool, dense)
        losses = losses_of(self.model, self.simple, self.objective, encoded, inner, lengths, batch, self.global_step)
        for name, value in losses.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name != "loss")
        return losses

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
            heard = hear(self.averaged, batch, self.measuring, latency, *self.growth.at(self.global_step))
            texts = [text_of(labels, self.data.tokenizer) for labels in heard.labels]
            counts = torch.tensor([word_errors(wanted, said) for wanted, said in zip(batch.texts, texts, strict=True)], dtype=torch.long)
            counts = counts.reshape(-1, 2).sum(0)
            self._errors[name, latency] = self._errors.get((name, latency), torch.zeros_like(counts)) + counts
            if picture and batch.names and latency == self.measuring.latencies[-1] and self.trainer.is_global_zero:
                self._show(f"{name}/{latency} ms", heard, batch.texts[-1], texts[-1])

    def _show(self, tag: str, heard: Heard, wanted: str, said: str) -> None:
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                features = heard.features[-1, : int(heard.frames[-1])]
                pool = self.growth.at(self.global_step)[1]
                figure = alignment(features, heard.labels[-1], self.data.tokenizer, f"{wanted}\n{said}", pool)
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
