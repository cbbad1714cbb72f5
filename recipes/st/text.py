"""The text-to-text reference: the same decoder over an encoder that reads the transcript instead of hearing speech.

``python -m riverrun.recipes.st.text fit --config recipes/st/conf/text-en-de.yaml``: what it scores, speech translation can hope for.
It reads what the CTC head writes: the transcript's labels, lower case without punctuation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from riverrun.speech.attention import ChunkedAttention, Context, attention_mask
from riverrun.speech.decoders import DecoderConfig, TransformerDecoder
from riverrun.speech.encoders.conformer import FeedForward
from riverrun.speech.models.translator import BOUNDARY
from riverrun.speech.search.attention_beam import AttentionBeamConfig, continue_texts
from riverrun.speech.tokenizer import Tokenizer

from ..asr.__main__ import CommandLine, main
from ..asr.options import Compilation, Optimisation
from ..asr.plan import Plan
from ..corpora.packed import SAMPLE_RATE
from ..corpora.text import transcript
from ..training import AveragedModule, compile_layers
from .data import Slices
from .module import smoothed_cross_entropy, teach
from .pairs import Table, pad
from .tokenizer import read_pairs
from .written import Written


@dataclass(frozen=True)
class TextConfig:
    """Shape of a text translator: vocabularies, encoder layers of size ``dim``, and the decoder."""

    vocabulary: int = 4000
    source_vocabulary: int = 500
    dim: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 768
    dropout: float = 0.2
    decoder: DecoderConfig = field(default_factory=DecoderConfig)


class TextLayer(nn.Module):
    """Self-attention over everything and feed-forward, pre-norm."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.attention = ChunkedAttention(config.dim, config.heads, Context())
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = FeedForward(config.dim, config.feed_forward, config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, dim) under a mask (B, T, T)."""
        x = x + self.dropout(self.attention.whole(self.norm(x), mask))
        return x + self.feed_forward(x)


class TextTranslator(nn.Module):
    """Source labels to encoder states, and a `TransformerDecoder` over them."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.source_vocabulary, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.decoder = TransformerDecoder(config.decoder, config.vocabulary, config.vocabulary, config.dim)

    def encode(self, labels: Tensor, counts: Tensor) -> Tensor:
        """Source labels (B, T), (B,) -> (B, T, dim)."""
        x, mask = self.dropout(self.embedding(labels)), attention_mask(Context(), counts, labels.shape[1])
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class TextBatch(NamedTuple):
    """Source labels (B, T), (B,), target labels (B, W), (B,), and the translations as written where they are to be measured."""

    source: Tensor
    counts: Tensor
    targets: Tensor
    target_counts: Tensor
    references: list[str]


class TextModule(AveragedModule[TextTranslator]):
    """A `TextTranslator` in training.

    Args:
        model: shape of the network.
        optimisation: optimiser and schedule.
        smoothing: of labels.
        beam: hypotheses in `test`; validation is greedy.
        compilation: what is compiled; there is no front.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        model: TextConfig,
        optimisation: Optimisation | None = None,
        smoothing: float = 0.1,
        beam: int = 4,
        compilation: Compilation | None = None,
        seed: int = 1,
    ):
        super().__init__(TextTranslator(model), TextTranslator(model), optimisation or Optimisation(), seed)
        self.smoothing, self.beam, self.compilation = smoothing, beam, compilation or Compilation()
        self._written = Written()

    def on_fit_start(self) -> None:
        if self.compilation.layers:
            compile_layers([*self.model.layers, *self.model.decoder.layers], self.compilation.mode)

    def training_step(self, batch: TextBatch, _: int) -> Tensor:
        self.seed_step()
        inputs, answers, lengths = teach(batch.targets, batch.target_counts)
        scores = self.model.decoder(inputs, lengths, self.model.encode(batch.source, batch.counts), batch.counts)
        loss = smoothed_cross_entropy(scores, answers, self.smoothing)
        self.log("train/translation", loss.detach(), prog_bar=True)
        return loss

    @torch.no_grad()
    def translate(self, source: Tensor, counts: Tensor, beam: int) -> list[tuple[int, ...]]:
        """Target labels for source labels (B, T), (B,), by the averaged network."""
        model = self.averaged
        with torch.autocast(source.device.type, enabled=False):
            longest = [2 * n + 10 for n in counts.tolist()]
            begin = [[BOUNDARY]] * len(source)
            found = continue_texts(model.decoder, model.encode(source, counts), counts, begin, longest, AttentionBeamConfig(beam), BOUNDARY)
        return [text.labels for text in found]

    def validation_step(self, batch: TextBatch, _: int) -> None:
        self._write(batch, 1)

    def test_step(self, batch: TextBatch, _: int) -> None:
        self._write(batch, self.beam)

    def on_validation_epoch_end(self) -> None:
        self._score("val")

    def on_test_epoch_end(self) -> None:
        self._score("test")

    def _data(self) -> TextData:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, TextData):
            raise TypeError(f"TextModule works with TextData, not with {type(data).__name__}")
        return data

    def _write(self, batch: TextBatch, beam: int) -> None:
        texts = [self._data().target.decode(labels) for labels in self.translate(batch.source, batch.counts, beam)]
        self._written.add(texts, batch.references)

    def _score(self, name: str) -> None:
        if scores := self._written.log(self, name, self._data().language):
            self.print(json.dumps({"set": name, **vars(scores)}))


class TextData(lightning.LightningDataModule):
    """Pairs of texts on the accelerator, batched by length.

    Args:
        files: pairs to train on, ``.tsv`` or JSON lines.
        tokenizer: path of the target's sentencepiece model.
        source_tokenizer: path of the source's.
        dev: pairs to validate on.
        test: pairs to test on.
        widths: batches are padded to one of these numbers of labels, on both sides.
        budget: labels in a batch, on either side, padding included.
        language: of the targets.
        dev_batch: texts of ``dev`` and ``test`` that are translated together.
        seed: order of everything.
    """

    def __init__(
        self,
        files: list[str],
        tokenizer: str,
        source_tokenizer: str,
        dev: str | None = None,
        test: str | None = None,
        widths: tuple[int, ...] = (16, 32, 64),
        budget: int = 16000,
        language: str = "de",
        dev_batch: int = 256,
        seed: int = 1,
    ):
        super().__init__()
        self.source, self.target = (Tokenizer.from_file(Path(path)) for path in (source_tokenizer, tokenizer))
        self.files, self.dev, self.test, self.widths, self.budget = files, dev, test, sorted(widths), budget
        self.language, self.dev_batch, self.seed = language, dev_batch, seed
        self._splits: dict[str, Split] = {}

    def _read(self, name: str, files: Sequence[str], longest: int | None = None) -> Split:
        if self.trainer is None:
            raise ValueError("TextData needs a trainer")
        device = self.trainer.strategy.root_device
        pairs = [
            (self.source.encode(transcript(source)), self.target.encode(target), target)
            for path in files
            for source, target in read_pairs(Path(path))
        ]
        kept = [p for p in pairs if p[0] and (longest is None or (p[1] and max(len(p[0]), len(p[1])) < longest))]
        if not kept:
            raise ValueError(f"there is no pair in {', '.join(files) or 'no files'} that can be used")
        self._splits[name] = Split(
            Table([pad([p[0] for p in kept])], device), Table([pad([p[1] for p in kept])], device), [p[2] for p in kept]
        )
        return self._splits[name]

    def train_dataloader(self) -> DataLoader:
        split = self._read("train", self.files, self.widths[-1])
        lengths = np.maximum(split.sources.lengths, split.targets.lengths + 1).astype(float)
        none = np.zeros(len(lengths), int)
        rank = self.trainer.global_rank if self.trainer else 0
        # a plan counts in seconds; here a label stands for one; every rank holds all texts and draws its own order
        return DataLoader(Plan(lengths, none + 1.0, none, self.widths, self.budget, 0.0, (self.seed, rank)), batch_size=None)

    def _measured(self, path: str | None) -> DataLoader | list[DataLoader]:
        if path is None:
            return []
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(Slices(len(self._read("measured", [path]).references), self.dev_batch, rank, world), batch_size=None)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        return self._measured(self.dev)

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        return self._measured(self.test)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor, int] | Tensor, dataloader_idx: int) -> TextBatch:
        if isinstance(batch, Tensor):
            split, index = self._splits["measured"], batch
            at = index.cpu().numpy()
            widths = (int(split.sources.lengths[at].max()), int(split.targets.lengths[at].max()))
            references = [split.references[i] for i in at]
        else:
            split, (index, _, samples) = self._splits["train"], batch
            width = samples // SAMPLE_RATE
            widths, references = (width, width - 1), []
        return TextBatch(*split.sources.rows(index, widths[0]), *split.targets.rows(index, widths[1]), references)


@dataclass(frozen=True)
class Split:
    """Texts of one use: labels of both sides, and the translations as written."""

    sources: Table
    targets: Table
    references: list[str]


def command_line(arguments: Sequence[str] | None = None, run: bool = True) -> CommandLine:
    """Lightning's command line over `TextModule` and `TextData`; without ``run`` it only builds them and the trainer."""
    given = None if arguments is None else list(arguments)
    return CommandLine(TextModule, TextData, args=given, run=run, save_config_kwargs={"overwrite": True})


if __name__ == "__main__":
    main(command_line)
