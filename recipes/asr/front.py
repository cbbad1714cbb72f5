"""From a batch of audio to augmented, normalised features."""

from __future__ import annotations

from torch import Tensor

from riverrun.speech import augment
from riverrun.speech.models import Recogniser, Translator
from riverrun.streaming import within

from .corpus import Batch
from .options import Augmentation


def altered_audio(audio: Tensor, samples: Tensor, a: Augmentation, strength: float) -> Tensor:
    """Audio (B, N) in a random room (echo, noise, voices, an overdriven recorder) and through a random line (filter, codec)."""
    audio = augment.random_gain(audio)
    if not strength:
        return audio
    if a.reverberation:
        audio = augment.reverberate(audio, a.reverberation * strength)
    if a.noise:
        audio = augment.add_noise(audio, samples, a.noise * strength)
    if a.babble:
        audio = augment.add_babble(audio, samples, a.babble * strength)
    if a.clipping:
        audio = augment.clip(audio, a.clipping * strength)
    if a.telephone or a.narrow or a.equaliser:
        audio = augment.channel(audio, a.telephone * strength, a.equaliser * strength, a.narrow * strength)
    if a.quantisation:
        audio = augment.quantise(audio, a.quantisation * strength)
    if a.codec:
        audio = augment.perceptual(audio, a.codec * strength)
    return audio * within(samples, audio.shape[1])


def features_of(model: Recogniser | Translator, batch: Batch, a: Augmentation, strength: float, measure: bool) -> tuple[Tensor, Tensor]:
    """Features (B, T, bins) and their lengths (B,), in float32; call it outside of autocast.

    Args:
        model: whose features and normalisation they are.
        batch: the audio.
        a: what is done to it.
        strength: how far augmentation has risen, 0 to 1.
        measure: set the model's normalisation by this batch.
    """
    features, frames = model.features(altered_audio(batch.audio, batch.samples, a, strength), batch.samples)
    if measure:
        model.normalise.measure(features, within(frames, features.shape[1]))
    if strength and a.warp:
        features = augment.warp_frequency(features, a.warp * strength, a.warp_limit, a.bend)
    if strength and a.contrast:
        features = augment.scale_contrast(features, a.contrast * strength)
    features, frames = model.normalise(features, frames)
    if strength:
        features = augment.spec_augment(features, frames, a.bands, int(a.widest_band * strength), a.gaps, a.widest_gap * strength)
    return features, frames
