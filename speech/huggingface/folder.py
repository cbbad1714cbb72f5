"""Where a checkpoint lies: a folder, the local cache, or, the first time, the hub. Weights are safetensors; nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import HuggingFaceError

#: What is fetched of a repository: weights that cannot run code, and plain text.
_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


def find(name: str) -> Path:
    """The folder of ``name``: a folder's path, or a repository "owner/name", which is fetched into the local cache if it is not there.

    Raises:
        HuggingFaceError: there is no such model, or no way to it, or it has no safetensors weights.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _cached(name)
    if not (folder / "config.json").is_file():
        raise HuggingFaceError(f"hf:{name} is no model of transformers: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise HuggingFaceError(
            f"hf:{name} has no weights in safetensors, and other formats can run code when they are read: convert them first"
        )
    return folder


def configuration(name: str, folder: Path) -> dict[str, Any]:
    """The contents of ``config.json``.

    Raises:
        HuggingFaceError: it cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HuggingFaceError(f"hf:{name}: its config.json cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise HuggingFaceError(f"hf:{name}: its config.json names no model_type")
    return config


def _cached(name: str) -> Path:
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or name.startswith((".", "~")):
        raise HuggingFaceError(f"hf:{name}: no such folder, and no repository, which would be hf:owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(name, local_files_only=True, allow_patterns=_FILES))
        if any(cached.glob("*.safetensors")):
            return cached
    except HFValidationError as error:
        raise HuggingFaceError(f"hf:{name} cannot be the name of a repository: {' '.join(str(error).split())}") from None
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403, 404):
            raise HuggingFaceError(f"hf:{name}: there is no such repository, or it needs an access token (hf auth login)") from None
        raise HuggingFaceError(f"hf:{name} cannot be fetched: the hub answered with status {status}; try again") from None
    except OSError:
        raise HuggingFaceError(
            f"hf:{name} is not in the local cache, and the hub cannot be reached: fetch it where there is a network "
            f"(hf download {name}), or give hf:FOLDER"
        ) from None
