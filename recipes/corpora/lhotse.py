"""Anything that lhotse has manifests of: ``python -m riverrun.recipes.corpora.lhotse --source data/manifests --out corpus``.

Layout: a file of cuts; or a folder with such a file, or with one of recordings and one of supervisions (see
`riverrun.speech.manifest.lhotse_cuts`). Each supervision becomes an utterance, whether it is a whole recording or a part of one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from riverrun.speech.manifest import ManifestError, lhotse_cuts, lhotse_source, lhotse_texts

from .errors import CorpusError
from .reader import Reader, Recorded, Skipped


class Lhotse(Reader):
    """See the module."""

    name = "lhotse"
    title = "lhotse manifests"
    licence = "see its source"
    url = "its source"
    splits = ("all",)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """See `Reader.add_options`."""
        parser.add_argument("--lang", default="en", help="language of supervisions that do not say it (default: %(default)s)")

    def read(self, split: str) -> Iterator[Recorded | Skipped]:
        """See `Reader.read`."""
        try:
            for cut in lhotse_cuts(self.folder):
                segment, source = cut.supervisions[0], lhotse_source(cut)
                if isinstance(source, str):
                    yield Skipped(segment.id, source)
                    continue
                text, extra = lhotse_texts(cut)
                lang, speaker = extra.pop("lang", None) or self.options.lang, extra.pop("speaker", None)
                whole = cut.start == 0 and abs(cut.duration - cut.recording.duration) < 0.01
                start = None if whole else cut.start
                yield Recorded(segment.id, str(source.resolve()), text, lang, speaker, start, cut.duration, extra)
        except ManifestError as error:
            raise CorpusError(str(error)) from None


if __name__ == "__main__":
    from .command import main

    sys.exit(main(Lhotse))
