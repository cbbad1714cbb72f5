"""What was written in a pass over a development set, on all ranks, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as lightning
import torch.distributed

from riverrun.speech.scoring import TranslationScores, score_translations


class Written:
    """Translations and their references, gathered batch by batch."""

    def __init__(self) -> None:
        self._pairs: list[tuple[str, str]] = []

    def add(self, texts: Sequence[str], references: Sequence[str]) -> None:
        """Keep the translations of one batch."""
        self._pairs += zip(texts, references, strict=True)

    def log(self, module: lightning.LightningModule, name: str, language: str) -> TranslationScores | None:
        """Log ``NAME/bleu`` and ``NAME/chrf`` of all ranks' translations and begin anew; None where nothing was written."""
        pairs, self._pairs = self._pairs, []
        if module.trainer.world_size > 1:
            shares: list[list[tuple[str, str]]] = [[] for _ in range(module.trainer.world_size)]
            torch.distributed.all_gather_object(shares, pairs)
            pairs = [pair for share in shares for pair in share]
        if not pairs:
            return None
        scores = score_translations([text for text, _ in pairs], [reference for _, reference in pairs], language)
        module.log(f"{name}/bleu", scores.bleu, prog_bar=True, rank_zero_only=True)
        module.log(f"{name}/chrf", scores.chrf, rank_zero_only=True)
        return scores
