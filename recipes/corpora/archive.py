"""Archives of corpora: compared with their publisher's digest, and unpacked."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import CorpusError
from .files import write_json

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_BLOCK = 1 << 20


def is_archive(path: Path) -> bool:
    """Whether a path names an archive (tar, plain or compressed, or zip)."""
    return path.name.lower().endswith(_SUFFIXES)


def unpack(archives: Sequence[Path], folder: Path, published: Mapping[str, str]) -> list[dict[str, Any]]:
    """Unpack archives into one folder; those that an earlier run unpacked whole are left as they are.

    Args:
        archives: what to unpack.
        folder: where to.
        published: digests by file name, such as "md5:0123…".

    Returns:
        For each archive ``file``, ``bytes``, ``sha256`` and ``verified``: the published digest that it agrees with, or None.

    Raises:
        CorpusError: an archive is missing or damaged, or is not what was published.
    """
    return [_unpack(archive, folder, published.get(archive.name)) for archive in archives]


def _unpack(archive: Path, folder: Path, published: str | None) -> dict[str, Any]:
    note = folder / f".{archive.name}.json"
    try:
        stamp = [archive.stat().st_size, archive.stat().st_mtime_ns]
        if note.exists() and (known := json.loads(note.read_text(encoding="utf-8")))["stamp"] == stamp:
            return known["record"]
        record = {"file": archive.name, "bytes": stamp[0], **verify(archive, published)}
        folder.mkdir(parents=True, exist_ok=True)
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(folder)  # noqa: S202  # zipfile keeps members within the folder
        else:
            with tarfile.open(archive) as tape:
                tape.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise CorpusError(f"{archive}: damaged ({error}); fetch it again") from None
    except OSError as error:
        raise CorpusError(f"{archive}: {(error.strerror or str(error)).lower()}") from None
    write_json(note, {"stamp": stamp, "record": record})
    return record


def verify(archive: Path, published: str | None) -> dict[str, Any]:
    """An archive's SHA-256, and the published digest if it has that one.

    Raises:
        CorpusError: it has another, or the digest's algorithm is unknown.
    """
    kind, _, wanted = (published or "sha256:").partition(":")
    if kind not in ("md5", "sha1", "sha256", "sha512") or (published and not wanted):
        raise CorpusError(f'a digest is to read "sha256:…", "sha512:…", "sha1:…" or "md5:…", not "{published}"')
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", kind}}
    with archive.open("rb") as file:
        while block := file.read(_BLOCK):
            for digest in digests.values():
                digest.update(block)
    if published and digests[kind].hexdigest() != wanted.lower():
        raise CorpusError(f"{archive}: its {kind.upper()} is {digests[kind].hexdigest()}, not {wanted}; fetch it again")
    return {"sha256": digests["sha256"].hexdigest(), "verified": published}


def discard(folder: Path) -> None:
    """Delete what was unpacked."""
    shutil.rmtree(folder, ignore_errors=True)
