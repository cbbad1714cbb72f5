"""festival behind a pipe: diphone and HTS voices of another family than flite's, good as an independent development voice."""

from __future__ import annotations

import os
import select
import subprocess
import wave
from pathlib import Path

import numpy as np

from .engine import Speech, Style, SynthesisError, TimedWord, Voice, find_file, find_library

_SCHEME = r"""
(define (riverrun_speak voice pitch spread stretch text wav times)
  (if (not (string-equal current-voice voice)) (eval (list (intern (string-append "voice_" voice)))))
  (Parameter.set 'Duration_Stretch stretch)
  (if (string-matches voice ".*diphone")
    (set! int_lr_params (list (list 'target_f0_mean pitch) (list 'target_f0_std spread) '(model_f0_mean 170) '(model_f0_std 34)))
    (set! hts_engine_params (append (list (list "-r" (/ 1.0 stretch))) cmu_us_slt_arctic_hts::hts_engine_params)))
  (set! utterance (utt.synth (eval (list 'Utterance 'Text text))))
  (utt.save.wave utterance wav 'riff)
  (set! file (fopen times "w"))
  (mapcar (lambda (w) (format file "%s\t%s\t%f\t%f\n" (item.name w) (item.feat w "R:Token.parent.name")
                              (item.feat w "word_start") (item.feat w "word_end")))
          (utt.relation.items utterance 'Word))
  (fclose file))
"""
_TIMEOUT_S = 30.0
_SENTENCES_PER_PROCESS = 300  # its Lisp heap grows with every sentence


class Festival:
    """An `Engine`."""

    def __init__(self, root: Path, voices: list[Voice], scratch: Path) -> None:
        self._root = root
        self._program = find_file(root, "usr/bin/festival", "festival")
        self._wav, self._times = scratch / "festival.wav", scratch / "festival.times"
        self._process: subprocess.Popen[bytes] | None = None
        self._said = 0

    def _start(self) -> subprocess.Popen[bytes]:
        data = self._root / "usr/share/festival"
        libraries = [self._root / "stub", find_library(self._root, "libestools.so.2.5", "festival").parent]
        process = subprocess.Popen(  # noqa: S603
            [self._program, "--libdir", data, "--datadir", data, "--pipe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))},
        )
        self._process, self._said = process, 0
        self._tell(process, _SCHEME)
        return process

    @staticmethod
    def _tell(process: subprocess.Popen[bytes], scheme: str) -> None:
        assert process.stdin is not None  # noqa: S101
        process.stdin.write(scheme.encode())
        process.stdin.flush()

    def speak(self, text: str, voice: Voice, style: Style) -> Speech:
        """See `Engine.speak`. festival reads ASCII only; its HTS voices keep their own pitch."""
        if self._process is None or self._said >= _SENTENCES_PER_PROCESS:
            self.close()
        process = self._process or self._start()
        self._said += 1
        for file in (self._wav, self._times):
            file.unlink(missing_ok=True)
        stretch = (1.1 if voice.name.endswith("diphone") else 1.0) * style.warp / style.rate
        pitch, spread = voice.pitch * style.pitch / style.warp, voice.spread * style.range / style.warp
        safe = text.encode("ascii").decode().replace("\\", " ").replace('"', " ")
        arguments = f'"{voice.name}" {pitch:.1f} {spread:.1f} {stretch:.3f} "{safe}" "{self._wav}" "{self._times}"'
        try:
            self._tell(process, f'(riverrun_speak {arguments})\n(begin (format t "DONE\\n") (fflush nil))\n')
        except BrokenPipeError:
            self._fail("died")
        self._wait(process)
        if not (self._wav.exists() and self._times.exists()):
            raise SynthesisError("festival wrote no audio")
        with wave.open(str(self._wav)) as file:
            rate, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), np.int16)
        words, spoken = read_times(self._times.read_text(encoding="latin1"))
        return Speech(samples, rate, words, spoken)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101
        answer = b""
        while b"DONE" not in answer:
            if not select.select([process.stdout], [], [], _TIMEOUT_S)[0]:
                self._fail("gave no answer")
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                self._fail("died")
            answer += piece

    def _fail(self, how: str) -> None:
        self.close()
        raise SynthesisError(f"festival {how}")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def read_times(table: str) -> tuple[list[TimedWord], str]:
    """Words with times, and the words as read, from lines of ``word TAB token TAB start TAB end``.

    Words that one token was read as ("o'clock" as two) become one entry.
    """
    words: list[TimedWord] = []
    spoken: list[str] = []
    previous = ""
    for line in table.splitlines():
        word, token, start, end = line.split("\t")
        spoken.append(word)
        if words and token == previous and token.lower() != word.lower():
            words[-1] = words[-1]._replace(end=float(end))
        else:
            words.append(TimedWord(token, float(start), float(end)))
        previous = token
    return words, " ".join(spoken).replace(" '", "'")
