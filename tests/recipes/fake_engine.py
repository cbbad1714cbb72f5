"""A synthesiser for tests: a tone for each word, in a process of its own like the real ones; some words make it misbehave."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from riverrun.recipes.corpora.synthetic.engine import Speech, Style, SynthesisError, TimedWord, Voice

RATE = 22050
WORD_S, GAP_S, EDGE_S = 0.3, 0.05, 0.2


class FakeEngine:
    def __init__(self, root: Path, voices: list[Voice], scratch: Path) -> None:
        if not root.is_dir():
            raise SynthesisError(f"{root} has no fake engine")
        self.log = root / "spoken.txt"

    def speak(self, text: str, voice: Voice, style: Style) -> Speech:
        with self.log.open("a") as log:
            log.write(text + "\n")
        if "crash" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in text:
            time.sleep(60)
        if "refuse" in text:
            raise SynthesisError("refused")
        return tones(text, spoken="something else" if "misread" in text else text)

    def close(self) -> None:
        pass


def tones(text: str, spoken: str | None = None) -> Speech:
    parts, words, now = [np.zeros(int(EDGE_S * RATE))], [], EDGE_S
    for word in text.split():
        parts += [0.3 * np.sin(2 * np.pi * 220 * np.arange(int(WORD_S * RATE)) / RATE), np.zeros(int(GAP_S * RATE))]
        words.append(TimedWord(word, now, now + WORD_S))
        now += WORD_S + GAP_S
    samples = (np.concatenate([*parts, np.zeros(int(EDGE_S * RATE))]) * 32767).astype(np.int16)
    return Speech(samples, RATE, words, spoken)
