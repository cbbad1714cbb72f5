"""Kokoro-82M (hexgrad 2025, after StyleTTS 2, Li et al. 2023): one network, 24 kHz, and a style for each of its speakers.

A voice may also blend two styles, which gives a speaker that no one has recorded: the cheapest way to more of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from .engine import Speech, Style, SynthesisError, Voice
from .neural import model_file, open_network, pcm
from .phonemes import Phonemes

_SAMPLE_RATE, _STYLE, _LONGEST = 24000, 256, 509
_SPEED = (0.5, 2.0)
_BLEND = re.compile(r"(?P<first>\w+)(?:\+(?P<second>\w+)\*(?P<share>0\.\d+))?")
# espeak's symbols to those that the network was trained on; the length mark goes with the vowels that have a letter of their own.
_LETTERS = {
    "aɪ": "I", "aʊ": "W", "eɪ": "A", "ɔɪ": "Y", "dʒ": "ʤ", "tʃ": "ʧ", "ɐ": "ə", "ɚ": "əɹ", "r": "ɹ", "x": "k", "ç": "k", "ɬ": "l",
}  # fmt: skip
_AMERICAN = {"oʊ": "O", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ɾ": "T", "ː": ""}
_BRITISH = {"əʊ": "Q", "eə": "ɛː"}


class Kokoro:
    """An `Engine`. Neither pitch nor its range can be set.

    Voices are named by the publisher's, ``af_heart``, or by two, ``af_heart+bm_lewis*0.4``, of which the second has that share.

    Under ``root``: ``kokoro/model.onnx``, ``kokoro/config.json`` with the vocabulary, ``kokoro/voices/NAME.bin``.
    """

    def __init__(self, root: Path, voices: list[Voice], scratch: Path) -> None:
        network, config = model_file(root, "kokoro", "model.onnx"), model_file(root, "kokoro", "config.json")
        self._vocabulary: dict[str, int] = json.loads(config.read_text(encoding="utf-8"))["vocab"]
        self._styles = {voice.name: _style(root, voice.name) for voice in voices}
        self._phonemes = Phonemes(root, scratch)
        self._network = open_network(network)
        self._tokens = next(x.name for x in self._network.get_inputs() if x.name not in ("style", "speed"))

    def speak(self, text: str, voice: Voice, style: Style) -> Speech:
        """See `Engine.speak`."""
        british = voice.name.startswith("b")
        phonemes = letters(self._phonemes.of(text, "en-gb" if british else "en-us"), british)
        tokens = [self._vocabulary[symbol] for symbol in phonemes if symbol in self._vocabulary]
        if not 0 < len(tokens) <= _LONGEST:
            raise SynthesisError(f"{len(tokens)} phonemes, of which Kokoro takes 1 to {_LONGEST}")
        inputs = {
            self._tokens: np.array([[0, *tokens, 0]], np.int64),
            "style": self._styles[voice.name][len(tokens)][None],
            "speed": np.array([np.clip(style.rate / style.warp, *_SPEED)], np.float32),
        }
        return Speech(pcm(self._network.run(None, inputs)[0]), _SAMPLE_RATE, None)

    def close(self) -> None:
        """Nothing to do: the network goes with its process."""


def letters(phonemes: str, british: bool) -> str:
    """Espeak's phonemes in the network's alphabet."""
    for symbols, letter in (_LETTERS | (_BRITISH if british else _AMERICAN)).items():
        phonemes = phonemes.replace(symbols, letter)
    return phonemes


def _style(root: Path, name: str) -> np.ndarray:
    """(510, 256) float32: the style for each number of phonemes."""
    blend = _BLEND.fullmatch(name)
    if blend is None:
        raise SynthesisError(f'the name "{name}" is neither a style of Kokoro nor two, such as af_heart+bm_lewis*0.4')
    first = _read_style(root, blend["first"])
    if blend["second"] is None:
        return first
    share = np.float32(blend["share"])
    return (1 - share) * first + share * _read_style(root, blend["second"])


def _read_style(root: Path, name: str) -> np.ndarray:
    path = model_file(root, "kokoro", f"voices/{name}.bin")
    values = np.fromfile(path, np.float32)
    if len(values) != (_LONGEST + 1) * _STYLE:
        raise SynthesisError(f"{path} is no style of Kokoro: it holds {len(values)} numbers, not {_LONGEST + 1} × {_STYLE}")
    return values.reshape(_LONGEST + 1, _STYLE)
