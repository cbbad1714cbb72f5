"""From an engine's samples to a training clip: overflow undone, silence trimmed, formants warped, resampled, levelled, faint noise."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import soxr

from .engine import Speech, SynthesisError, TimedWord

SAMPLE_RATE = 16000
_STEP_OF_WRAP = 45000  # no speech jumps this far between two samples: the engine's int16 overflowed
_KEPT_BEFORE_S, _KEPT_AFTER_S = 0.02, 0.03
_PEAK = 0.97


@dataclass(frozen=True)
class Rendering:
    """Ranges that each clip draws from: silence at either edge in seconds; speech level and noise floor in dB of full scale (RMS)."""

    edge_s: tuple[float, float] = (0.08, 0.5)
    level_db: tuple[float, float] = (-30.0, -18.0)
    noise_db: tuple[float, float] = (-80.0, -62.0)


def unwrap(samples: np.ndarray) -> np.ndarray:
    """int16 samples as float32 in units of full scale, integer overflow undone.

    Raises:
        SynthesisError: the samples jump in a way that no single overflow explains.
    """
    x: np.ndarray = samples.astype(np.float32)
    if len(x) and int(samples.max()) - int(samples.min()) > _STEP_OF_WRAP and np.abs(np.diff(x)).max(initial=0) > _STEP_OF_WRAP:
        x = np.unwrap(samples.astype(np.float64), period=65536).astype(np.float32)
        if abs(x[-1] - samples[-1]) > 1 or np.abs(x).max() > 60000:
            raise SynthesisError("the engine overflowed")
    x *= np.float32(1 / 32768)
    return x


def speech_span(x: np.ndarray, sample_rate: int) -> tuple[int, int]:
    """First and last sample (exclusive) of what is not silence, with a little kept around it.

    Raises:
        SynthesisError: all of it is silence.
    """
    magnitude = np.abs(x)
    peak = magnitude.max(initial=0.0)
    if peak < 0.005:
        raise SynthesisError("the engine said nothing")
    loud = np.flatnonzero(magnitude > 0.004 * peak + 1e-4)
    return max(0, int(loud[0]) - int(_KEPT_BEFORE_S * sample_rate)), min(len(x), int(loud[-1]) + int(_KEPT_AFTER_S * sample_rate))


def level(x: np.ndarray, rms_db: float) -> np.ndarray:
    """Scale to a level in dB of full scale, or to just below clipping where that is less."""
    gain = 10 ** (rms_db / 20) / (math.sqrt(float(np.dot(x, x)) / len(x)) + 1e-9)
    return x * np.float32(min(gain, _PEAK / (float(np.abs(x).max()) + 1e-9)))


def render(speech: Speech, warp: float, rendering: Rendering, rng: random.Random) -> tuple[np.ndarray, list[TimedWord] | None]:
    """The clip, int16 at 16 kHz, and its word times in seconds of the clip.

    ``warp`` above 1 raises formants and pitch and shortens the speech by that factor, as a tape played faster does.

    Raises:
        SynthesisError: the speech is silent or broken.
    """
    x = unwrap(speech.samples)
    begin, end = speech_span(x, speech.sample_rate)
    x = level(soxr.resample(x[begin:end], speech.sample_rate * warp, SAMPLE_RATE), rng.uniform(*rendering.level_db))
    before, after = (int(rng.uniform(*rendering.edge_s) * SAMPLE_RATE) for _ in range(2))
    noise = np.random.default_rng(rng.getrandbits(32))  # no microphone gives digital zeros
    clip = noise.standard_normal(before + len(x) + after, np.float32)
    clip *= np.float32(10 ** (rng.uniform(*rendering.noise_db) / 20))
    clip[before : before + len(x)] += x
    duration = len(clip) / SAMPLE_RATE

    def moved(seconds: float) -> float:
        return round(min(max((seconds - begin / speech.sample_rate) / warp + before / SAMPLE_RATE, 0.0), duration), 3)

    words = None if speech.words is None else [TimedWord(word, moved(start), moved(stop)) for word, start, stop in speech.words]
    clip *= np.float32(32767)
    np.clip(np.rint(clip, out=clip), -32768, 32767, out=clip)
    return clip.astype(np.int16), words
