"""Recordings of any format to checked clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from riverrun.speech.audio import AudioError, open_audio, resampled

from .errors import CorpusError
from .packed import SAMPLE_RATE
from .reader import Limits, Recorded

_TOLERANCE_S, _TOLERANCE = 0.15, 0.02


class Decoder:
    """A `worker.Maker`.

    Args:
        folder: of the corpus.
        sample_rate: that each file must have, in Hz; None for any.
        limits: what is taken.
        scratch: not used.
    """

    def __init__(self, folder: Path, sample_rate: int | None, limits: Limits, scratch: Path):
        self._folder, self._rate, self._limits = folder, sample_rate, limits

    def make(self, task: Recorded) -> tuple[np.ndarray, dict[str, Any]]:
        """See `worker.Maker.make`."""
        path = self._folder / task.audio
        try:
            samples = self._whole(path) if task.start is None else self._segment(path, task.start, task.seconds)
        except (AudioError, soundfile.LibsndfileError) as error:
            raise CorpusError(str(error).replace(f"{path}: ", "")) from None
        seconds = len(samples) / SAMPLE_RATE
        self._check(samples, seconds, task)
        row = {"id": task.id, "text": task.text, "lang": task.lang, "speaker": task.speaker, "duration": round(seconds, 3)}
        return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16), {**task.extra, **row}

    def close(self) -> None:
        """See `worker.Maker.close`."""

    def _whole(self, path: Path) -> NDArray[np.float32]:
        with open_audio(path) as audio:
            self._check_rate(audio.sample_rate)
            if audio.duration is not None and audio.duration > 2 * self._limits.longest_s:  # spares the decoding; claims may be estimates
                raise CorpusError(f"it lasts {audio.duration:.1f} s, more than {self._limits.longest_s:g}")
            samples = np.concatenate(list(audio.blocks(sample_rate=SAMPLE_RATE)))
            if audio.warning:
                raise CorpusError(audio.warning.replace(f"{path}: ", ""))
        return samples

    def _segment(self, path: Path, start: float, seconds: float | None) -> NDArray[np.float32]:
        if not path.is_file():
            raise CorpusError("no such file")
        with soundfile.SoundFile(path) as file:
            self._check_rate(file.samplerate)
            first = round(start * file.samplerate)
            count = file.frames - first if seconds is None else round(seconds * file.samplerate)
            if not 0 <= first < file.frames or first + count > file.frames + _TOLERANCE_S * file.samplerate:
                end = "" if seconds is None else f" to {start + seconds:.2f} s"
                raise CorpusError(f"the file lasts {file.frames / file.samplerate:.2f} s, this is from {start:.2f}{end}")
            if count > self._limits.longest_s * file.samplerate:
                raise CorpusError(f"it lasts {count / file.samplerate:.1f} s, more than {self._limits.longest_s:g}")
            file.seek(first)
            block = file.read(count, dtype="float32", always_2d=True).mean(1, dtype=np.float32)
        return np.concatenate([*resampled([block], file.samplerate, SAMPLE_RATE), np.zeros(0, np.float32)])

    def _check_rate(self, sample_rate: int) -> None:
        if self._rate is not None and sample_rate != self._rate:
            raise CorpusError(f"its sample rate is {sample_rate} Hz, all of the corpus have {self._rate}")

    def _check(self, samples: NDArray[np.float32], seconds: float, task: Recorded) -> None:
        limits = self._limits
        if not limits.shortest_s <= seconds <= limits.longest_s:
            raise CorpusError(f"it lasts {seconds:.2f} s, not {limits.shortest_s:g} to {limits.longest_s:g}")
        if task.seconds is not None and abs(seconds - task.seconds) > max(_TOLERANCE_S, _TOLERANCE * task.seconds):
            raise CorpusError(f"it lasts {seconds:.2f} s, and should {task.seconds:.2f}")
        if len(task.text) > limits.fastest * seconds:
            raise CorpusError(f"{len(task.text)} characters in {seconds:.2f} s: the text is not what is said")
        if not np.isfinite(samples).all():
            raise CorpusError("it has samples that are no finite numbers")
        if not samples.any():
            raise CorpusError("it is silent")
