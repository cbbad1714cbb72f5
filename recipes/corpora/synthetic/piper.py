"""Piper's voices (after VITS, Kim et al. 2021): one network each, of one speaker or many."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from .engine import Speech, Style, SynthesisError, Voice
from .neural import model_file, open_network, pcm
from .phonemes import Phonemes

_PAD, _BEGIN, _END = "_", "^", "$"


class Piper:
    """An `Engine`. Neither pitch nor its range can be set.

    A voice is named by its file, ``en_US-joe-medium``, with ``#17`` after it for one of many speakers.

    Under ``root``: ``piper/NAME.onnx`` and ``piper/NAME.onnx.json``.
    """

    def __init__(self, root: Path, voices: list[Voice], scratch: Path) -> None:
        files = sorted({voice.name.partition("#")[0] for voice in voices})
        configs = {name: model_file(root, "piper", f"{name}.onnx.json") for name in files}
        self._configs: dict[str, dict[str, Any]] = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in configs.items()}
        networks = {name: model_file(root, "piper", f"{name}.onnx") for name in files}
        for voice in voices:
            self._speaker(voice)
        self._phonemes = Phonemes(root, scratch)
        self._networks = {name: open_network(path) for name, path in networks.items()}

    def speak(self, text: str, voice: Voice, style: Style) -> Speech:
        """See `Engine.speak`."""
        name = voice.name.partition("#")[0]
        config = self._configs[name]
        phonemes = self._phonemes.of(text, config["espeak"]["voice"])
        tokens = token_ids(phonemes, config["phoneme_id_map"])
        asked = config["inference"]
        inputs = {
            "input": np.array([tokens], np.int64),
            "input_lengths": np.array([len(tokens)], np.int64),
            "scales": np.array([asked["noise_scale"], asked["length_scale"] * style.warp / style.rate, asked["noise_w"]], np.float32),
        }
        if (speaker := self._speaker(voice)) is not None:
            inputs["sid"] = np.array([speaker], np.int64)
        return Speech(pcm(self._networks[name].run(None, inputs)[0]), config["audio"]["sample_rate"], None)

    def _speaker(self, voice: Voice) -> int | None:
        """Which of a network's speakers; None where it has one."""
        name, _, number = voice.name.partition("#")
        speakers = self._configs[name].get("num_speakers", 1)
        if speakers == 1 and not number:
            return None
        if not number.isdecimal() or int(number) >= speakers or speakers == 1:
            last = "which has one: leave out #" if speakers == 1 else f"which has #0 to #{speakers - 1}"
            raise SynthesisError(f'the voice "{voice.id}" has the name "{voice.name}", {last}')
        return int(number)

    def close(self) -> None:
        """Nothing to do: networks go with their process."""


def token_ids(phonemes: str, ids: dict[str, list[int]]) -> list[int]:
    """The network's input: begin, each known symbol with padding after it, end."""
    tokens = [*ids[_BEGIN], *ids[_PAD]]
    for symbol in unicodedata.normalize("NFD", phonemes):
        if symbol in ids and symbol not in (_PAD, _BEGIN, _END):
            tokens += [*ids[symbol], *ids[_PAD]]
    return [*tokens, *ids[_END]]
