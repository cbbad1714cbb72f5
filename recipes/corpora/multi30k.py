"""Multi30k, spoken: ``python -m riverrun.recipes.corpora.multi30k --source multi30k --target de --split train --out corpus``.

Image captions in English with translations (Elliott et al. 2016, "Multi30K: Multilingual English-German Image Descriptions"). Layout:
``train.en``, ``train.de``, ``val.en`` … in step, plain or gzipped, in the folder itself or in ``data/task1/raw`` as the publisher's
repository has them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from .errors import CorpusError
from .files import read_lines
from .pair_source import Pair, PairSource


class Multi30k(PairSource):
    """See the module."""

    name = "multi30k"
    title = "Multi30k"
    licence = "research use only: the captions describe Flickr30k images, whose owners keep their rights"
    url = "https://github.com/multi30k/dataset"
    layout = "folder with train.en, train.de, val.en …, plain or gzipped"
    splits = ("train", "val", "test_2016_flickr", "test_2017_flickr")

    def pairs(self, split: str) -> Iterator[Pair]:
        """See `PairSource.pairs`."""
        sources, targets = (self._read(split, language) for language in ("en", self.target))
        if len(sources) != len(targets):
            raise CorpusError(f"{self.source}: {split}.en has {len(sources)} lines and {split}.{self.target} has {len(targets)}")
        for number, (source, target) in enumerate(zip(sources, targets, strict=True), 1):
            yield Pair(f"{split}/{number}", source, target)

    def _read(self, split: str, language: str) -> list[str]:
        for place in (self.source, self.source / "data/task1/raw"):
            for file in (place / f"{split}.{language}", place / f"{split}.{language}.gz"):
                if file.is_file():
                    return read_lines(file)
        raise CorpusError(f"{self.source} has no {split}.{language} (nor {split}.{language}.gz), itself or in data/task1/raw")


if __name__ == "__main__":
    from .spoken import main

    sys.exit(main(Multi30k))
