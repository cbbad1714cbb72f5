"""LibriSpeech: ``python -m riverrun.recipes.corpora.librispeech --source LibriSpeech --split dev-clean --out corpus``.

Layout (Panayotov et al. 2015): ``<split>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac`` at 16 kHz, the chapter's texts in
``<speaker>-<chapter>.trans.txt`` beside them, and ``SPEAKERS.TXT``, whose second column is the reader's sex.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from .errors import CorpusError
from .files import read_lines
from .reader import Reader, Recorded, Skipped


class LibriSpeech(Reader):
    """See the module."""

    name = "librispeech"
    title = "LibriSpeech"
    licence = "CC-BY 4.0"
    url = "https://www.openslr.org/12"
    splits = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other")
    sample_rate = 16000
    digests = {
        "train-clean-100.tar.gz": "md5:2a93770f6d5c6c964bc36631d331a522",
        "train-clean-360.tar.gz": "md5:c0e676e450a7ff2f54aeade5171606fa",
        "train-other-500.tar.gz": "md5:d1a0fd59409feb2c614ce4d30c387708",
        "dev-clean.tar.gz": "md5:42e2234ba48799c1f50f24a7926300a1",
        "dev-other.tar.gz": "md5:c8d0bcc9cca99d4f8b62fcc847357931",
        "test-clean.tar.gz": "md5:32fa31d27d2e1cad72775fee3f4849a9",
        "test-other.tar.gz": "md5:fb5a50374b501bb3bac4815ee91d3135",
    }

    def read(self, split: str) -> Iterator[Recorded | Skipped]:
        """See `Reader.read`."""
        folder = self.find(split, "folder of the split")
        genders = self._genders()
        tables = sorted(folder.glob("*/*/*.trans.txt"))
        if not tables:
            raise CorpusError(f"{folder} has no <speaker>/<chapter>/<speaker>-<chapter>.trans.txt")
        for table in tables:
            speaker = table.parent.parent.name
            extra = {"chapter": table.parent.name} | ({"gender": genders[speaker]} if speaker in genders else {})
            texts = dict(line.partition(" ")[::2] for line in read_lines(table))
            for id, text in texts.items():
                yield Recorded(id, self.relative(table.with_name(f"{id}.flac")), text, "en", speaker, extra=extra)
            for audio in sorted(table.parent.glob("*.flac")):
                if audio.stem not in texts:
                    yield Skipped(audio.stem, f"{table.name} has no text for it")

    def _genders(self) -> dict[str, str]:
        try:
            lines = read_lines(self.find("SPEAKERS.TXT", "table of speakers"))
        except CorpusError:
            return {}  # archives of single splits unpacked elsewhere may lack it
        columns = [[column.strip() for column in line.split("|")] for line in lines if not line.startswith(";")]
        return {row[0]: {"F": "female", "M": "male"}[row[1]] for row in columns if len(row) > 1 and row[1] in ("F", "M")}


if __name__ == "__main__":
    from .command import main

    sys.exit(main(LibriSpeech))
