"""Augmentation: repeatable, only where chance says so, and each alteration does to a signal what its name says."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from riverrun.recipes.asr.front import altered_audio
from riverrun.recipes.asr.options import Augmentation
from riverrun.speech import augment
from riverrun.speech.augment import spectrum

N = 16000
LENGTHS = torch.tensor([N, N // 2, N, 100])


def speechlike() -> Tensor:
    torch.manual_seed(1)
    audio = torch.randn(4, N) * 0.1 * (1 + torch.sin(torch.arange(N) / 800))
    return audio * (torch.arange(N) < LENGTHS[:, None])


ALTERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "noise": lambda x, p: augment.add_noise(x, LENGTHS, p),
    "babble": lambda x, p: augment.add_babble(x, LENGTHS, p),
    "reverberation": lambda x, p: augment.reverberate(x, p),
    "clipping": lambda x, p: augment.clip(x, p),
    "telephone": lambda x, p: augment.channel(x, telephone=p),
    "equaliser": lambda x, p: augment.channel(x, equaliser=p),
    "narrow": lambda x, p: augment.channel(x, narrow=p),
    "quantisation": lambda x, p: augment.quantise(x, p),
    "codec": lambda x, p: augment.perceptual(x, p),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_alterations_are_repeatable_and_leave_alone_whom_chance_spares(name: str) -> None:
    audio = speechlike()
    torch.manual_seed(5)
    first = ALTERATIONS[name](audio, 0.5)
    torch.manual_seed(5)
    assert torch.equal(ALTERATIONS[name](audio, 0.5), first)
    assert first.shape == audio.shape and first.isfinite().all()
    torch.testing.assert_close(ALTERATIONS[name](audio, 0.0), audio, rtol=1e-5, atol=1e-6)
    changed = (ALTERATIONS[name](audio, 1.0) - audio).abs().amax(1) > 1e-4
    assert changed.all()


def test_all_of_them_together_are_repeatable_and_keep_padding_silent() -> None:
    names = ("noise", "babble", "reverberation", "clipping", "telephone", "narrow", "quantisation", "codec")
    every = Augmentation(**dict.fromkeys(names, 1.0))
    audio = speechlike()
    torch.manual_seed(3)
    first = altered_audio(audio, LENGTHS, every, 1.0)
    torch.manual_seed(3)
    assert torch.equal(altered_audio(audio, LENGTHS, every, 1.0), first)
    assert first.isfinite().all() and all(not first[i, n:].any() for i, n in enumerate(LENGTHS.tolist()))


def tone(hertz: float) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(N) / 16000)[None].expand(8, -1)


def gain_db(before: Tensor, after: Tensor) -> Tensor:
    return 20 * (after[:, 2000:-2000].norm(dim=1) / before[:, 2000:-2000].norm(dim=1)).log10()


def test_a_telephone_passes_the_middle_of_speech_alone() -> None:
    torch.manual_seed(0)
    assert (gain_db(tone(1000), augment.channel(tone(1000), telephone=1.0)).abs() < 1).all()
    for hertz in (50, 5000, 7000):
        assert (gain_db(tone(hertz), augment.channel(tone(hertz), telephone=1.0)) < -10).all()


def test_a_low_pass_has_its_edge_between_2500_and_7500_hertz() -> None:
    torch.manual_seed(0)
    assert (gain_db(tone(1500), augment.channel(tone(1500), narrow=1.0)).abs() < 1).all()
    assert (gain_db(tone(7900), augment.channel(tone(7900), narrow=1.0)) < -20).all()


def test_an_equaliser_is_smooth_and_moderate() -> None:
    torch.manual_seed(0)
    hertz = torch.linspace(0, 8000, 4001)
    curve = 20 * spectrum.random_curve(torch.zeros(200, 1), hertz).log10()
    assert curve.abs().max() < 30 and curve.std() > 1
    assert curve[:, 50:].diff(dim=1).abs().max() < 0.5  # dB between neighbours 2 Hz apart


def test_quantisation_is_mu_law() -> None:
    audio = torch.linspace(-1, 1, N)[None]
    eight = augment.quantise(audio, 1.0, 8.0, 8.0)
    assert eight.unique().numel() == 257 and (eight - audio).abs().max() < 0.025 and torch.equal(eight, -eight.flip(1))
    assert augment.quantise(audio, 1.0, 4.0, 4.0).unique().numel() == 17


def test_a_perceptual_codec_keeps_what_is_loud() -> None:
    loud, soft = tone(1000), tone(1219) * 0.01
    kept = augment.perceptual(loud + soft, 1.0, 0.3, 0.3)
    assert (gain_db(loud, kept).abs() < 0.5).all()
    probe = torch.exp(-2j * math.pi * 1219 * torch.arange(N) / 16000)
    before, after = (((x + 0j) @ probe).abs() for x in (loud + soft, kept))
    assert (after < before * 0.3).all()
    torch.testing.assert_close(augment.perceptual(loud, 1.0, 1e-6, 1e-6), loud, rtol=1e-4, atol=1e-4)


def test_clipping_keeps_the_peak() -> None:
    audio = speechlike()
    clipped = augment.clip(audio, 1.0, 0.3, 0.3)
    peak = audio.abs().amax(1)
    torch.testing.assert_close(clipped.abs().amax(1), peak)
    assert ((clipped.abs() >= peak[:, None] * 0.9999).sum(1)[:3] > 3).all()


def test_noise_comes_at_the_level_that_was_asked_for() -> None:
    torch.manual_seed(0)
    audio = speechlike()
    added = augment.add_noise(audio, LENGTHS, 1.0, 10.0, 10.0) - audio
    ratio = 20 * (audio.norm(dim=1) / added.norm(dim=1)).log10()
    torch.testing.assert_close(ratio, torch.full((4,), 10.0), rtol=0.05, atol=0.5)


def test_a_warp_moves_a_formant() -> None:
    torch.manual_seed(0)
    features = torch.zeros(32, 5, 80)
    features[:, :, 40] = 1
    peaks = augment.warp_frequency(features, 1.0, 0.2).argmax(2)[:, 0]
    assert peaks.min() >= 33 and peaks.max() <= 50 and peaks.unique().numel() > 5


def test_a_bent_warp_moves_formants_apart_and_keeps_their_order() -> None:
    torch.manual_seed(0)
    features = torch.zeros(64, 2, 80)
    features[:, :, [20, 50]] = 1
    bent = augment.warp_frequency(features, 1.0, 0.0, bend=0.3)[:, 0]
    first, second = bent[:, :35].argmax(1), 35 + bent[:, 35:].argmax(1)
    assert (second - first).unique().numel() > 5 and bent.amax() <= 1
    assert torch.equal(augment.warp_frequency(features, 0.0, 0.2, bend=0.3), features)
    ramp = torch.arange(80.0).expand(64, 1, 80)
    assert (augment.warp_frequency(ramp, 1.0, 0.2, bend=0.49).diff(dim=2) >= -1e-4).all()


def test_contrast_changes_differences_of_neighbours_and_nothing_else() -> None:
    torch.manual_seed(0)
    assert torch.allclose(augment.scale_contrast(torch.full((8, 3, 80), 2.5), 1.0), torch.full((8, 3, 80), 2.5))
    features = torch.zeros(32, 1, 80)
    features[:, :, 40] = 15.0
    height = augment.scale_contrast(features, 1.0, 0.35, width=15)[:, 0, 40]
    assert height.min() >= 15 - 0.35 * 14 - 1e-4 and height.max() <= 15 + 0.35 * 14 + 1e-4 and height.unique().numel() > 20
    assert torch.equal(augment.scale_contrast(features, 0.0), features)


def test_masks_cover_no_more_than_they_may() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([100, 60])
    masked = augment.spec_augment(torch.ones(2, 100, 80), lengths, bands=2, widest_band=10, gaps=3, widest_gap=0.1)
    for row, n in enumerate(lengths.tolist()):
        frames = masked[row].amax(1) == 0
        assert frames.sum() <= 3 * 0.1 * n and not frames[n:].any()
        assert (masked[row].amax(0) == 0).sum() <= 20


def test_fast_sizes_are_products_of_small_primes() -> None:
    for n in (1, 7, 1000, 12345, 163840):
        size = augment.fast_size(n)
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        assert n <= size <= 1.2 * n + 1 and rest == 1
