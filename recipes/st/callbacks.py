"""The averaged translator is kept as a bundle."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as lightning

from riverrun.speech.bundle import FORMAT, TranslatorBundleConfig, save_bundle
from riverrun.speech.tokenizer import Tokenizer

from ..asr.callbacks import KeepBundle
from .module import StModule


class KeepTranslator(KeepBundle):
    """Write the averaged weights as a translator's bundle every ``every`` steps and at the end.

    Args:
        folder: where the bundle goes.
        tokenizer: path of the target's sentencepiece model.
        source_tokenizer: path of the source's.
        name: the bundle's name.
        every: optimiser steps between two writes.
        languages: what the model hears.
        licence: of the weights.
        weights: how they are stored, "float16" or "int8".
    """

    def __init__(
        self,
        folder: str,
        tokenizer: str,
        source_tokenizer: str,
        name: str,
        every: int = 1000,
        languages: tuple[str, ...] = ("en",),
        licence: str = "Apache-2.0",
        weights: str = "float16",
    ):
        super().__init__(folder, tokenizer, name, every, languages, licence)
        self.source, self.weights = Tokenizer.from_file(Path(source_tokenizer)), weights

    def write(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write the bundle as the averaged weights stand now."""
        if not isinstance(module, StModule):
            raise TypeError(f"KeepTranslator keeps models of StModule, not of {type(module).__name__}")
        model = module.averaged
        about = f"after {trainer.global_step} steps"
        config = TranslatorBundleConfig(FORMAT, self.name, about, self.languages, self.licence, model.config)
        card = f"# {self.name}\n\n{about.capitalize()}; not yet measured.\n"
        source = self.source if model.ctc is not None else None
        save_bundle(self.folder, config, model, self.tokenizer, card, source=source, weights=self.weights)
