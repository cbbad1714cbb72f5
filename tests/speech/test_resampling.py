"""The resampler: any cut and any save give the same samples; they are soxr's."""

import math

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from riverrun.speech.audio import AudioError, Resampler, resampled

COMMON = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000]
rates = st.sampled_from(COMMON) | st.integers(1000, 192000)


def noise(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)


def whole(x: NDArray[np.float32], source: int, target: int) -> NDArray[np.float32]:
    stream = Resampler(source, target)
    return np.concatenate([stream.push(x), stream.finish()])


@settings(max_examples=40, deadline=None)
@given(
    source=rates,
    target=rates,
    cuts=st.lists(st.tuples(st.integers(0, 1 << 16), st.booleans()), min_size=1, max_size=12),
    seconds=st.floats(0, 1.5),
)
def test_any_cut_and_any_save_give_the_same_samples(source: int, target: int, cuts: list[tuple[int, bool]], seconds: float) -> None:
    x = noise(round(seconds * source))
    stream, at, got = Resampler(source, target), 0, []
    for size, save in cuts:
        got.append(stream.push(x[at : at + size]))
        at += size
        if save:
            stream = Resampler.from_bytes(stream.to_bytes())
    got += [stream.push(x[at:]), stream.finish()]
    np.testing.assert_array_equal(np.concatenate(got), whole(x, source, target))


@settings(max_examples=60, deadline=None)
@given(source=rates, target=rates, n=st.integers(0, 5000))
def test_length(source: int, target: int, n: int) -> None:
    y = whole(noise(n), source, target)
    assert len(y) == math.floor((2 * n * target + source) / (2 * source))
    assert y.dtype == np.float32


@pytest.mark.parametrize(("source", "target", "n"), [(7194, 82791, 1199), (5374, 119751, 2687), (6340, 64901, 3170)])
def test_length_where_soxr_rounds_half_a_sample_down(source: int, target: int, n: int) -> None:
    assert (2 * n * target) % (2 * source) == source
    assert len(whole(noise(n), source, target)) == math.floor(n * target / source + 0.5)


@pytest.mark.parametrize("source", COMMON)
def test_equals_soxr_over_many_segments(source: int) -> None:
    x = noise(4 * source + 17)
    np.testing.assert_allclose(whole(x, source, 16000), soxr.resample(x, source, 16000), atol=2e-6, rtol=0)


def test_rates_without_a_common_divisor_keep_time() -> None:
    """Soxr's own clock is off after a while; starting afresh keeps a sine in phase."""
    source, target, seconds = 47999, 16000, 60
    x = np.sin(2 * np.pi * 997 * np.arange(seconds * source) / source).astype(np.float32)
    want = np.sin(2 * np.pi * 997 * np.arange(seconds * target) / target)
    inner = slice(target, -target)
    np.testing.assert_allclose(whole(x, source, target)[inner], want[inner], atol=5e-6, rtol=0)


def test_equal_rates_pass_untouched() -> None:
    stream, x = Resampler(16000, 16000), noise(100)
    assert stream.push(x) is x
    stream = Resampler.from_bytes(stream.to_bytes())
    assert stream.push(x) is x
    assert len(stream.finish()) == 0


@pytest.mark.parametrize(("source", "most"), [(8000, 0.8), (44100, 0.7), (48000, 0.7), (47999, 2.5)])
def test_state_stays_bounded(source: int, most: float) -> None:
    stream, x = Resampler(source, 16000), noise(source // 10)
    sizes = []
    for _ in range(100):
        stream.push(x)
        sizes.append(len(stream.to_bytes()))
    assert max(sizes) < most * source * 4
    assert max(sizes[70:]) <= max(sizes[:70])


def test_live_audio_is_kept_back_for_a_short_while() -> None:
    for source, most in ((48000, 0.06), (44100, 0.06), (8000, 0.13)):
        stream, heard, given_out = Resampler(source, 16000), 0, 0
        for _ in range(200):
            given_out += len(stream.push(noise(source // 50)))
            heard += source // 50
            assert heard / source - given_out / 16000 < most + 0.02


def test_blocks() -> None:
    x = noise(20000)
    got = list(resampled(iter(np.split(x, 20)), 8000, 16000))
    np.testing.assert_array_equal(np.concatenate(got), whole(x, 8000, 16000))
    assert all(len(block) for block in got)
    assert list(resampled([], 8000, 16000)) == []


@pytest.mark.parametrize("rate", [0, -16000, 999, 768001, 16000.5])
def test_impossible_rates(rate: int) -> None:
    with pytest.raises(AudioError) as error:
        Resampler(rate, 16000)
    assert str(error.value) == f"a sample rate of {rate} Hz; it must be a whole number from 1000 to 768000"


def test_damaged_state() -> None:
    stream = Resampler(48000, 16000)
    stream.push(noise(48000))
    good = stream.to_bytes()
    zero_rate = good[:4] + bytes(4) + good[8:]
    for bad in (b"", good[:10], good[:-4], good[:-1], good + bytes(4), b"none" + good[4:], zero_rate):
        with pytest.raises(AudioError, match="^saved state of a resampler is damaged$"):
            Resampler.from_bytes(bad)


def test_a_finished_stream_is_over() -> None:
    stream = Resampler(48000, 16000)
    stream.finish()
    with pytest.raises(ValueError, match="this stream was finished"):
        stream.push(noise(10))
    with pytest.raises(ValueError, match="this stream was finished"):
        stream.to_bytes()
