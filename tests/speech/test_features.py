"""Log-mel features against Kaldi's own code, and what the law test does not see."""

import io
import math
from typing import Any

import kaldi_native_fbank as knf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from riverrun.speech.features import LogMel, LogMelConfig, mel_filters

SECONDS = np.arange(32000) / 16000
NOISE = np.random.default_rng(0).standard_normal(32000)
PITCH = np.sin(2 * np.pi * 120 * SECONDS + 3 * np.sin(2 * np.pi * 5 * SECONDS))
SIGNALS = {
    "noise": 0.3 * NOISE.clip(-3, 3),
    "faint noise": 1e-3 * NOISE,
    "sine": 0.5 * np.sin(2 * np.pi * 440 * SECONDS),
    "offset": 0.1 + 0.01 * NOISE,  # at 40 dB and more, Kaldi's own rounding passes the tolerance
    "voice": 0.2 * np.sign(PITCH) * (1 + np.sin(2 * np.pi * 3 * SECONDS)) * (SECONDS < 1.5) + 3e-3 * NOISE,
    "silence": np.zeros(32000),
}


def kaldi(samples: NDArray[np.float32], config: LogMelConfig) -> NDArray[np.float32]:
    options = knf.FbankOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.samp_freq, frame.dither, frame.snip_edges = config.sample_rate, 0.0, config.snip_edges
    frame.frame_shift_ms, frame.frame_length_ms = config.frame_shift_ms, config.frame_length_ms
    mel.num_bins, mel.low_freq, mel.high_freq = config.bins, config.low, config.high
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(config.sample_rate, samples.tolist())
    fbank.input_finished()
    return np.array([fbank.get_frame(i) for i in range(fbank.num_frames_ready)], np.float32).reshape(-1, config.bins)


def ours(samples: NDArray[np.float32], config: LogMelConfig, dtype: torch.dtype = torch.float32) -> NDArray[np.float32]:
    y, lengths = LogMel(config).to(dtype)(torch.tensor(samples, dtype=dtype)[None], torch.tensor([len(samples)]))
    assert y.shape == (1, int(lengths[0]), config.bins)
    return y[0].numpy()


@pytest.mark.parametrize("snip_edges", [False, True])
@pytest.mark.parametrize("signal", SIGNALS)
def test_equals_kaldi(signal: str, snip_edges: bool) -> None:
    samples, config = SIGNALS[signal].astype(np.float32), LogMelConfig(snip_edges=snip_edges)
    want = kaldi(samples, config)
    np.testing.assert_allclose(ours(samples, config), want, atol=1e-3, rtol=0)
    np.testing.assert_allclose(ours(samples, config, torch.float64), want, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "config",
    [
        LogMelConfig(sample_rate=8000, bins=40),
        LogMelConfig(sample_rate=22050, high=0.0),
        LogMelConfig(sample_rate=44100, bins=64, low=60.0, high=7600.0),
        LogMelConfig(frame_shift_ms=12.5, frame_length_ms=50.0),
        LogMelConfig(frame_shift_ms=10.0, frame_length_ms=10.0, bins=23),
    ],
    ids=["8 kHz", "22.05 kHz", "44.1 kHz", "long frames", "frames that touch"],
)
def test_equals_kaldi_at_other_settings(config: LogMelConfig) -> None:
    samples = SIGNALS["voice"].astype(np.float32)
    np.testing.assert_allclose(ours(samples, config), kaldi(samples, config), atol=1e-3, rtol=0)


@pytest.mark.parametrize("snip_edges", [False, True])
@pytest.mark.parametrize("samples", [0, 1, 79, 80, 100, 239, 240, 279, 280, 399, 400, 401, 560, 720])
def test_short_inputs_equal_kaldi(samples: int, snip_edges: bool) -> None:
    x, config = SIGNALS["noise"][:samples].astype(np.float32), LogMelConfig(snip_edges=snip_edges)
    want = kaldi(x, config)
    assert len(want) == (max(0, 1 + (samples - 400) // 160) if snip_edges else (samples + 80) // 160)
    np.testing.assert_allclose(ours(x, config), want, atol=1e-3, rtol=0)


def test_live_pieces_of_the_real_size_equal_kaldi() -> None:
    samples, config = SIGNALS["voice"].astype(np.float32), LogMelConfig()
    part = LogMel(config)
    state, got = part.init_state(1, torch.zeros(0)), []
    for piece in torch.tensor(samples)[None].split(1237, dim=1):
        y, lengths, state = part.step(piece, torch.tensor([piece.shape[1]]), state)
        got.append(y[0, : lengths[0]])
    tail = part.flush(state)
    assert tail is not None
    got.append(tail[0][0, : tail[1][0]])
    np.testing.assert_allclose(torch.cat(got).numpy(), kaldi(samples, config), atol=1e-3, rtol=0)
    assert state.bytes_per_stream == 399 * 4 + 8


def test_declares_its_context() -> None:
    mirrored, snipped = LogMel(), LogMel(LogMelConfig(snip_edges=True))
    assert (mirrored.stride, mirrored.left, mirrored.lookahead, mirrored.unit) == (160, 120, 120, 1)
    assert (snipped.stride, snipped.left, snipped.lookahead, snipped.unit) == (160, 0, 240, 1)
    assert snipped.flush(snipped.init_state(2, torch.zeros(0))) is None


def test_silence_is_the_floor_and_has_a_gradient_of_zero() -> None:
    x = torch.zeros(1, 1600, requires_grad=True)
    y, _ = LogMel()(x, torch.tensor([1600]))
    torch.testing.assert_close(y, torch.full_like(y, math.log(torch.finfo(torch.float32).eps)))
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_gradients_are_those_of_finite_differences() -> None:
    part = LogMel(LogMelConfig(sample_rate=1000, bins=3, high=0.0, frame_shift_ms=4, frame_length_ms=11)).double()
    x = torch.randn(2, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: part(x, torch.tensor([20, 20]))[0], x)


def test_autocast_leaves_it_in_single_precision() -> None:
    x, lengths = torch.tensor(SIGNALS["voice"], dtype=torch.float32)[None], torch.tensor([32000])
    part = LogMel()
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = part(x, lengths)
    assert torch.equal(y, part(x, lengths)[0])


def test_nothing_is_saved_with_a_model() -> None:
    assert not LogMel().state_dict()
    torch.save(LogMel(), io.BytesIO())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_shift_ms": 30.0}, "a frame shift of 480 samples needs a frame length of at least as many, and 2; got 400"),
        ({"high": 9000.0}, "80 mel bins from 20 to 9000 Hz do not fit below half of 16000 Hz"),
        ({"low": 5000.0, "high": 4000.0}, "80 mel bins from 5000 to 4000 Hz do not fit below half of 16000 Hz"),
        ({"bins": 400}, "400 mel bins are too many for spectra of 512 points: some would be empty"),
    ],
)
def test_impossible_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        mel_filters(LogMelConfig(**options))
    assert str(error.value) == message
