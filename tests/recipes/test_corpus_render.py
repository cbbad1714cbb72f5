import random

import numpy as np
import pytest

from riverrun.recipes.corpora.synthetic.engine import SynthesisError
from riverrun.recipes.corpora.synthetic.render import SAMPLE_RATE, Rendering, level, render, speech_span, unwrap

from .fake_engine import EDGE_S, RATE, WORD_S, tones

QUIET = Rendering(edge_s=(0.1, 0.1), level_db=(-20, -20), noise_db=(-120, -120))


def test_silence_is_trimmed_to_a_little_around_the_speech() -> None:
    x = np.zeros(10_000)
    x[4000:6000] = 0.5
    assert speech_span(x, 1000) == (3980, 6029)


def test_silence_alone_is_an_error() -> None:
    with pytest.raises(SynthesisError, match="nothing"):
        speech_span(np.full(100, 0.001), 16000)
    with pytest.raises(SynthesisError, match="nothing"):
        speech_span(np.zeros(0), 16000)


def test_integer_overflow_is_undone() -> None:
    wave = 40_000 * np.sin(np.arange(2000) / 20)
    assert np.abs(unwrap(wave.astype(np.int64).astype(np.int16)) * 32768 - wave).max() <= 1


def test_noise_that_no_overflow_explains_is_an_error() -> None:
    with pytest.raises(SynthesisError, match="overflowed"):
        unwrap(np.random.default_rng(0).integers(-32768, 32767, 4000).astype(np.int16))


def test_level_is_reached_unless_it_would_clip() -> None:
    x = 0.01 * np.sin(np.arange(16000))
    assert 20 * np.log10(np.sqrt(np.mean(level(x, -30) ** 2))) == pytest.approx(-30, abs=0.01)
    assert np.abs(level(x, 10)).max() == pytest.approx(0.97, abs=1e-6)


@pytest.mark.parametrize("warp", [0.9, 1.0, 1.13])
def test_a_warp_moves_pitch_and_word_times_together(warp: float) -> None:
    clip, words = render(tones("one two three"), warp, QUIET, random.Random(0))
    assert clip.dtype == np.int16
    for _, start, end in words:
        assert end - start == pytest.approx(WORD_S / warp, abs=2e-3)
        tone = clip[int(start * SAMPLE_RATE) + 400 : int(end * SAMPLE_RATE) - 400].astype(float)
        crossings = np.count_nonzero(np.diff(np.sign(tone)) > 0)
        assert crossings / (len(tone) / SAMPLE_RATE) == pytest.approx(220 * warp, rel=0.02)
        silence = clip[int(end * SAMPLE_RATE) + 160 : int(end * SAMPLE_RATE) + 400]
        assert np.abs(silence).max() < 0.02 * np.abs(tone).max()
    assert words[0].start == pytest.approx(0.1 + 0.02 / warp, abs=3e-3)


def test_a_clip_repeats_with_its_seed() -> None:
    speech = tones("again and again")
    (first, _), (again, _), (other, _) = (render(speech, 1.0, Rendering(), random.Random(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert len(first) != len(other)
    assert first[: int(0.05 * SAMPLE_RATE)].any(), "no digital silence"


def test_made_up_speech_is_as_long_as_it_says() -> None:
    assert len(tones("one").samples) == int(EDGE_S * RATE) * 2 + int(WORD_S * RATE) + int(0.05 * RATE)
