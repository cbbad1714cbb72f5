"""The law with kernels on, at the sizes of real models, and the default model's text on both devices."""

from pathlib import Path

import numpy as np
import pytest
import torch

from riverrun import cli
from riverrun.speech import load
from riverrun.speech.attention import ChunkedAttention, Context
from riverrun.speech.audio import read_audio
from riverrun.speech.encoders import ConformerConfig, ConformerEncoder
from riverrun.speech.encoders.conformer import CausalConvolution
from riverrun.streaming import Final

from ..interpreted.law import check_law

SHAPES = [
    ("rope", 192, 4, 16, 64),
    ("rope", 512, 8, 4, 40),
    ("transformer_xl", 256, 4, 8, 32),
    ("rope", 320, 4, 16, 70),
    ("rope", 192, 2, 3, 7),
]


@pytest.fixture(autouse=True)
def _exact_products():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("position", "dim", "heads", "chunk", "left"), SHAPES)
def test_attention(position, dim, heads, chunk, left, dtype):
    torch.manual_seed(0)
    module = ChunkedAttention(dim, heads, Context(chunk, left), position)
    for parameter in module.position.parameters():
        torch.nn.init.normal_(parameter, std=dim**-0.5)
    check_law(module, (dim,), [173, 0, 64, 90, 5], 3, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_convolution(dtype):
    check_law(CausalConvolution(512, 31, 0.0), (512,), [173, 0, 64, 90, 5], 9, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_encoder(dtype):
    torch.manual_seed(0)
    check_law(ConformerEncoder(ConformerConfig(layers=4), Context(16, 64)), (80,), [700, 0, 64, 333, 5], 2, dtype)


def heard(model, recording):
    events = []
    with model.stream(latency_ms=320) as stream:
        for piece in np.split(recording, range(3000, len(recording), 3000)):
            events += stream.push(piece)
        events += stream.finish()
    return [event.text for event in events if isinstance(event, Final)]


def test_default_model_hears_the_same_on_both_devices():
    recording = read_audio(Path(cli.__path__[0]) / "demo" / "prompts.ogg")
    host, device = load("default"), load("default", device="cuda")
    assert heard(host, recording) == heard(device, recording) != []
    assert host.transcribe(recording, latency_ms=320).text == device.transcribe(recording, latency_ms=320).text
