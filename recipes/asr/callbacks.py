"""What happens beside the optimisation: the averaged model is kept as a bundle."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as lightning

from riverrun.speech.bundle import FORMAT, BundleConfig, save_bundle
from riverrun.speech.tokenizer import Tokenizer

from .module import AsrModule


class KeepBundle(lightning.Callback):
    """Write the averaged weights as a bundle every ``every`` steps and at the end.

    Args:
        folder: where the bundle goes.
        tokenizer: path of the sentencepiece model.
        name: the bundle's name.
        every: optimiser steps between two writes.
        languages: what the model hears.
        licence: of the weights.
    """

    def __init__(
        self, folder: str, tokenizer: str, name: str, every: int = 1000, languages: tuple[str, ...] = ("en",), licence: str = "Apache-2.0"
    ):
        self.folder, self.tokenizer, self.every = Path(folder), Tokenizer.from_file(Path(tokenizer)), every
        self.name, self.languages, self.licence = name, languages, licence

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: object) -> None:
        if trainer.global_step % self.every == 0 and trainer.is_global_zero:
            self.write(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            self.write(trainer, pl_module)

    def write(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write the bundle as the averaged weights stand now."""
        if not isinstance(module, AsrModule):
            raise TypeError(f"KeepBundle keeps models of AsrModule, not of {type(module).__name__}")
        model = module.averaged
        config = BundleConfig(
            format=FORMAT,
            name=self.name,
            description=f"after {trainer.global_step} steps",
            languages=self.languages,
            licence=self.licence,
            model=model.config,
        )
        save_bundle(self.folder, config, model, self.tokenizer, f"# {self.name}\n\nAfter {trainer.global_step} steps; not yet measured.\n")
