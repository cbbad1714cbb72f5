"""Augmentation of training audio and features, batched and on the device of its input.

Waveform functions take audio (B, N) at 16 kHz and, some of them, real lengths (B,); feature functions take log-mel frames
(B, T, bins). Every function draws anew for each utterance from PyTorch's generator of the device, so `torch.manual_seed`
makes it repeatable, and none waits for the device.
"""

from .codec import perceptual, quantise
from .draw import altered, chance, uniform
from .features import scale_contrast, spec_augment, warp_frequency
from .spectrum import channel, fast_size
from .waveform import add_babble, add_noise, clip, random_gain, reverberate

__all__ = [
    "add_babble",
    "add_noise",
    "altered",
    "chance",
    "channel",
    "clip",
    "fast_size",
    "perceptual",
    "quantise",
    "random_gain",
    "reverberate",
    "scale_contrast",
    "spec_augment",
    "uniform",
    "warp_frequency",
]
