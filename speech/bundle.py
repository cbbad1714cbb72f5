"""Bundles: one folder is one model.

``config.yaml`` says what the model is, ``model.safetensors`` holds its weights, ``tokenizer.model`` the labels that it writes, and
``card.md`` where it comes from and how well it does. A bundle's ``kind`` is "recogniser" (also where none is given) or "translator";
a translator with a CTC head has ``source.model``, the labels of that head. Nothing in a bundle is ever executed or unpickled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from . import storage
from .attention import Context
from .configuration import ConfigurationError, from_dict, to_dict
from .models import Recogniser, RecogniserConfig, Translator, TranslatorConfig
from .tokenizer import Tokenizer

Latency = int | Literal["full"] | None

FORMAT = 1
SHIPPED = Path(__file__).parent / "pretrained"
DEFAULT = "riverrun-en-small"


class BundleError(ValueError):
    """A bundle that cannot be found or used: one line says what is wrong."""


@dataclass(frozen=True)
class StreamingConfig:
    """How a model is meant to be streamed.

    Attributes:
        latencies_ms: chunk lengths that it was trained for.
        default_ms: the one used when none is asked for.
        left_ms: past that attention keeps.
        full_ms: chunk length that stands for full context: longer audio is heard in pieces of this length.
        word_start_delay_ms: how long after a word's beginning the model says its first label; word times are corrected by it.
        word_end_delay_ms: how long after a word's end the frame of its last label ends; likewise.
    """

    latencies_ms: tuple[int, ...] = (160, 320, 640, 1280)
    default_ms: int = 640
    left_ms: int = 2560
    full_ms: int = 30000
    word_start_delay_ms: int = 0
    word_end_delay_ms: int = 0

    def context(self, latency_ms: Latency, frame_ms: float) -> Context:
        """Attention context for a latency: a chunk length in ms, "full", or None for the default; ``frame_ms`` is the encoder's.

        Raises:
            ValueError: no positive whole number of encoder frames.
        """
        ms = self.default_ms if latency_ms is None else self.full_ms if latency_ms == "full" else latency_ms
        if isinstance(ms, str) or ms < frame_ms or ms % frame_ms:
            raise ValueError(f"latency must be a multiple of {frame_ms:g} ms, or 'full', not {latency_ms!r}")
        return Context(int(ms / frame_ms), int(self.left_ms / frame_ms))


@dataclass(frozen=True)
class _Description:
    format: int
    name: str
    description: str
    languages: tuple[str, ...]  #: what the model hears
    licence: str

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format {self.format} is not known to this riverrun, which reads format {FORMAT}")


@dataclass(frozen=True)
class BundleConfig(_Description):
    """Contents of a recogniser's ``config.yaml``."""

    model: RecogniserConfig
    streaming: StreamingConfig = field(default_factory=StreamingConfig)
    kind: str = "recogniser"


@dataclass(frozen=True)
class TranslatorBundleConfig(_Description):
    """Contents of a translator's ``config.yaml``."""

    model: TranslatorConfig
    streaming: StreamingConfig = field(default_factory=StreamingConfig)
    kind: str = "translator"


@dataclass(frozen=True)
class Bundle:
    """A loaded recogniser; the network is in float32, for evaluation."""

    folder: Path
    config: BundleConfig
    network: Recogniser
    tokenizer: Tokenizer
    card: str


@dataclass(frozen=True)
class TranslatorBundle:
    """A loaded translator; the network is in float32, for evaluation. ``source`` holds the labels of its CTC head, if there is one."""

    folder: Path
    config: TranslatorBundleConfig
    network: Translator
    tokenizer: Tokenizer
    source: Tokenizer | None
    card: str


_KINDS: dict[str, type[BundleConfig] | type[TranslatorBundleConfig]] = {
    "recogniser": BundleConfig,
    "translator": TranslatorBundleConfig,
}


def available() -> list[tuple[str, Path, str]]:
    """Bundles that come with riverrun: name, folder, one-line description."""
    folders = [config.parent for config in sorted(SHIPPED.glob("*/config.yaml"))]
    return [(folder.name, folder, _read_config(folder).description) for folder in folders]


def translates_into(folder: Path) -> tuple[str, ...] | None:
    """Target languages of a translator's bundle (empty for a single, unnamed one), or None for a recogniser's.

    Raises:
        BundleError: it is no bundle.
    """
    config = _read_config(folder)
    return config.model.languages if isinstance(config, TranslatorBundleConfig) else None


def find(name: str) -> Path:
    """The folder of a bundle given by name ("default" is the shipped default) or as a folder.

    Raises:
        BundleError: there is neither.
    """
    shipped = SHIPPED / (DEFAULT if name == "default" else name)
    if Path(name).name == name and (shipped / "config.yaml").is_file():
        return shipped
    if Path(name).is_dir():
        return Path(name)
    names = ", ".join(["default", *(n for n, _, _ in available())])
    raise BundleError(f"unknown model {name!r}: give a bundle's folder or one of {names}")


def load_any(name: str, device: str | torch.device = "cpu") -> Bundle | TranslatorBundle:
    """Load a bundle of any kind by name or folder.

    Raises:
        BundleError: not found, incomplete, or its parts do not fit together.
    """
    folder = find(name)
    config = _read_config(folder)
    for part in ("model.safetensors", "tokenizer.model", "card.md"):
        if not (folder / part).is_file():
            raise BundleError(f"the bundle {folder} has no {part}")
    tokenizer = _read_tokenizer(folder, "tokenizer.model", config.model.vocabulary)
    card = (folder / "card.md").read_text(encoding="utf-8")
    if isinstance(config, BundleConfig):
        recogniser = Recogniser(config.model, Context())
        _load_weights(recogniser, folder)
        return Bundle(folder, config, recogniser.eval().to(device), tokenizer, card)
    source = None if (heard := config.model.source_vocabulary) is None else _read_tokenizer(folder, "source.model", heard)
    translator = Translator(config.model, Context())
    _load_weights(translator, folder)
    return TranslatorBundle(folder, config, translator.eval().to(device), tokenizer, source, card)


def load_bundle(name: str, device: str | torch.device = "cpu") -> Bundle:
    """Load a recogniser by name or folder.

    Raises:
        BundleError: not found, incomplete, its parts do not fit together, or a translator.
    """
    bundle = load_any(name, device)
    if not isinstance(bundle, Bundle):
        raise BundleError(f"the bundle {bundle.folder} is a translator, where a recogniser is needed")
    return bundle


def load_translator(name: str, device: str | torch.device = "cpu") -> TranslatorBundle:
    """Load a translator by name or folder.

    Raises:
        BundleError: not found, incomplete, its parts do not fit together, or a recogniser.
    """
    bundle = load_any(name, device)
    if not isinstance(bundle, TranslatorBundle):
        raise BundleError(f"the bundle {bundle.folder} is a recogniser, where a translator is needed")
    return bundle


def save_bundle(
    folder: Path,
    config: BundleConfig | TranslatorBundleConfig,
    network: Recogniser | Translator,
    tokenizer: Tokenizer,
    card: str,
    *,
    source: Tokenizer | None = None,
    weights: str = "float16",
) -> None:
    """Write a bundle; each file appears whole or not at all.

    Args:
        folder: where it goes.
        config: what the model is.
        network: its weights.
        tokenizer: the labels that it writes.
        card: Markdown.
        source: the labels of a translator's CTC head.
        weights: how they are stored: "float16", or "int8" for half the size (see `riverrun.speech.storage`).
    """
    packed = storage.pack(network.state_dict(), weights)
    folder.mkdir(parents=True, exist_ok=True)
    # as bytes: safetensors' own files can be read by their owner alone, and bundles are shared
    _replace(folder / "model.safetensors", lambda path: path.write_bytes(save(packed)))
    for name, labels in (("tokenizer.model", tokenizer), ("source.model", source)):
        if labels is not None:
            data = labels.data
            _replace(folder / name, lambda path, data=data: path.write_bytes(data))  # type: ignore[misc]
    _replace(folder / "card.md", lambda path: path.write_text(card, encoding="utf-8"))
    text = yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)
    _replace(folder / "config.yaml", lambda path: path.write_text(text, encoding="utf-8"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    temporary.replace(path)


def _read_tokenizer(folder: Path, name: str, size: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(folder / name)
    except FileNotFoundError:
        raise BundleError(f"the bundle {folder} has no {name}") from None
    except ValueError as error:
        raise BundleError(f"the bundle {folder} is broken: {error}") from None
    if len(tokenizer) != size:
        whose = "tokenizer" if name == "tokenizer.model" else "source tokenizer"
        raise BundleError(f"the bundle {folder} is broken: its {whose} has {len(tokenizer)} pieces, its model {size}")
    return tokenizer


def _read_config(folder: Path) -> BundleConfig | TranslatorBundleConfig:
    path = folder / "config.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        kind = data.get("kind", "recogniser") if isinstance(data, dict) else "recogniser"
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ConfigurationError(f"unknown kind {kind!r} of bundle: this riverrun knows {' and '.join(_KINDS)}")
        return from_dict(_KINDS[kind], data)
    except FileNotFoundError:
        raise BundleError(f"{folder} is no bundle: it has no config.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise BundleError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ConfigurationError as error:
        raise BundleError(f"{path}: {error}") from None


def _load_weights(network: nn.Module, folder: Path) -> None:
    path = folder / "model.safetensors"
    try:
        path.open("rb").close()  # safetensors says "no such file" of one that may not be read
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    try:
        weights = storage.unpack(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{path} is damaged: {error}") from None
    expected = network.state_dict()
    for name in expected.keys() - weights.keys():
        raise BundleError(f"{path} lacks {name}: weights and config.yaml do not belong together")
    for name in weights.keys() - expected.keys():
        raise BundleError(f"{path} holds {name}, which config.yaml has no place for")
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise BundleError(f"{path}: {name} has shape {tuple(weights[name].shape)}, config.yaml says {tuple(tensor.shape)}")
    network.load_state_dict(weights)
