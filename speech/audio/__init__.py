"""Audio in and out: files, pipes, resampling. Works on the host, in numpy."""

from .errors import AudioError
from .pcm import pcm_blocks
from .reading import AudioSource, open_audio, read_audio
from .resampling import Resampler, resampled
from .writing import write_audio

__all__ = ["AudioError", "AudioSource", "Resampler", "open_audio", "pcm_blocks", "read_audio", "resampled", "write_audio"]
