"""flite through ctypes: voices whose formants, pitch and rate can be moved (flite 2.2, whose cst_cg.h is laid out below)."""

from __future__ import annotations

import ctypes as c
import zlib
from pathlib import Path

import numpy as np

from .engine import Speech, Style, SynthesisError, TimedWord, Voice, declare, find_library

_P, _S, _F, _I = c.c_void_p, c.c_char_p, c.c_float, c.c_int
_VOCODER_GAIN = 0.8
_WORD_START = b"R:SylStructure.daughter1.daughter1.R:Segment.p.end"
_WORD_END = b"R:SylStructure.daughtern.daughtern.R:Segment.end"
_LIBC = c.CDLL(None)


class _Vocoder(c.Structure):
    """``cst_cg_db``, the statistical voice's model; padding stands for members that we leave alone."""

    _fields_ = [
        ("name", _S), ("types", _P), ("num_types", _I), ("sample_rate", _I), ("f0_mean", _F), ("f0_stddev", _F),
        ("f0_models", _I), ("f0_trees", _P), ("param_models", _I), ("pointers", _P * 6), ("spamf0_sizes", _I * 2), ("vectors", _P * 4),
        ("padding", _I), ("frame_advance", _F), ("dur_models", _I), ("durations", _P * 3), ("do_mlpg", _I), ("dynwin", _P),
        ("dynwin_size", _I), ("mlsa_alpha", _F), ("mlsa_beta", _F), ("excitation", _I * 4), ("excitation_filters", _P),
        ("spamf0", _I), ("gain", _F), ("spamf0_pointers", _P * 3), ("freeable", _I),
    ]  # fmt: skip


class _NativeVoice(c.Structure):
    _fields_ = [("name", _S), ("features", _P), ("feature_functions", _P), ("init", _P)]


class _Wave(c.Structure):
    _fields_ = [("type", _S), ("sample_rate", _I), ("samples", _I), ("channels", _I), ("data", c.POINTER(c.c_short))]


class Flite:
    """An `Engine`. The voices' libraries are loaded when first used."""

    def __init__(self, root: Path, voices: list[Voice], scratch: Path) -> None:
        self._root = root
        if (sound := root / "usr/lib/x86_64-linux-gnu/libasound.so.2").exists():
            c.CDLL(str(sound), mode=c.RTLD_GLOBAL)
        self._library = library = self._load("libflite.so.1")
        for name in ("libflite_cmulex.so.1", "libflite_usenglish.so.1"):
            self._load(name)
        declare(library, "flite_synth_text", _P, _S, _P)
        declare(library, "utt_wave", c.POINTER(_Wave), _P)
        declare(library, "delete_utterance", None, _P)
        declare(library, "utt_relation", _P, _P, _S)
        for function in ("relation_head", "item_next", "item_parent"):
            declare(library, function, _P, _P)
        declare(library, "item_as", _P, _P, _S)
        declare(library, "item_feat_string", _S, _P, _S)
        declare(library, "flite_ffeature_float", _F, _P, _S)
        declare(library, "flite_feat_set_float", None, _P, _S, _F)
        declare(library, "feat_present", _I, _P, _S)
        declare(library, "feat_val", _P, _P, _S)
        declare(library, "feat_set", None, _P, _S, _P)
        declare(library, "val_cg_db", c.POINTER(_Vocoder), _P)
        declare(library, "cg_db_val", _P, c.POINTER(_Vocoder))
        library.flite_init()
        self._voices: dict[str, tuple[_NativeVoice, _Vocoder | None, float]] = {}

    def _load(self, name: str) -> c.CDLL:
        return c.CDLL(str(find_library(self._root, name, "flite")), mode=c.RTLD_GLOBAL)

    def _voice(self, name: str) -> tuple[_NativeVoice, _Vocoder | None, float]:
        """The voice, a writable copy of its vocoder model, and the model's own warping."""
        if name not in self._voices:
            register = getattr(self._load(f"libflite_cmu_us_{name}.so.1"), f"register_cmu_us_{name}")
            register.restype, register.argtypes = c.POINTER(_NativeVoice), [_S]
            voice = register(None).contents
            vocoder, alpha = None, 0.0
            if self._library.feat_present(voice.features, b"cg_db"):
                original = self._library.val_cg_db(self._library.feat_val(voice.features, b"cg_db")).contents
                vocoder, alpha = _Vocoder(), original.mlsa_alpha
                c.memmove(c.byref(vocoder), c.byref(original), c.sizeof(_Vocoder))
                # The SPAM model of pitch would ignore the pitch that is asked for.
                vocoder.freeable, vocoder.spamf0, vocoder.gain = 0, 0, _VOCODER_GAIN
                self._library.feat_set(voice.features, b"cg_db", self._library.cg_db_val(c.byref(vocoder)))
            self._voices[name] = voice, vocoder, alpha
        return self._voices[name]

    def speak(self, text: str, voice: Voice, style: Style) -> Speech:
        """See `Engine.speak`. flite reads ASCII only."""
        library = self._library
        native, vocoder, alpha = self._voice(voice.name)
        stretch = (0.95 if vocoder else 1.1) * style.warp / style.rate
        for feature, value in (
            (b"duration_stretch", stretch),
            (b"int_f0_target_mean", voice.pitch * style.pitch / style.warp),
            (b"int_f0_target_stddev", voice.spread * style.range / style.warp),
        ):
            library.flite_feat_set_float(native.features, feature, value)
        if vocoder:
            vocoder.mlsa_alpha = (voice.alpha or alpha) + style.alpha
        _LIBC.srand(zlib.crc32(text.encode()))  # flite's noise: a sentence sounds the same whatever was said before it
        utterance = library.flite_synth_text(text.encode("ascii"), c.addressof(native))
        if not utterance:
            raise SynthesisError("flite refused the text")
        try:
            wave = library.utt_wave(utterance).contents
            samples = np.ctypeslib.as_array(wave.data, (wave.samples * wave.channels,)).copy()
            words, spoken = self._words(utterance)
            return Speech(samples, wave.sample_rate, words, spoken)
        finally:
            library.delete_utterance(utterance)

    def _words(self, utterance: int) -> tuple[list[TimedWord], str]:
        """The text's tokens with their times (several words may come of one token), and the words as read."""
        library = self._library
        words: list[TimedWord] = []
        spoken: list[str] = []
        previous = None
        item = library.relation_head(library.utt_relation(utterance, b"Word"))
        while item:
            start, end = (library.flite_ffeature_float(item, path) for path in (_WORD_START, _WORD_END))
            token = library.item_parent(library.item_as(item, b"Token"))
            spoken.append(library.item_feat_string(item, b"name").decode())
            if words and token == previous:
                words[-1] = words[-1]._replace(end=max(end, words[-1].end))
            else:
                words.append(TimedWord(library.item_feat_string(token, b"name").decode(), start, end))
            previous = token
            item = library.item_next(item)
        return words, " ".join(spoken).replace(" '", "'")

    def close(self) -> None:
        """Nothing to do: the libraries live as long as their process."""
