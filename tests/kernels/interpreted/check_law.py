"""The law with the model's parts on kernels."""

import pytest
import torch

from riverrun.speech.attention import ChunkedAttention, Context
from riverrun.speech.encoders import ConformerConfig, ConformerEncoder
from riverrun.speech.encoders.conformer import CausalConvolution

from .device import DEVICE
from .law import check_law

PARTS = {
    "rope": (lambda: ChunkedAttention(8, 2, Context(2, 3)), (8,)),
    "transformer_xl": (lambda: ChunkedAttention(8, 2, Context(3, 3), "transformer_xl"), (8,)),
    "convolution": (lambda: CausalConvolution(6, 5, 0.0), (6,)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", PARTS)
def test_parts(name, dtype):
    torch.manual_seed(0)
    make, frame = PARTS[name]
    module = make()
    for parameter in getattr(module, "position", torch.nn.Module()).parameters():
        torch.nn.init.normal_(parameter)
    check_law(module, frame, [11, 0, 7], 2, dtype)


def test_encoder():
    torch.manual_seed(0)
    config = ConformerConfig(bins=6, dim=8, layers=1, heads=2, feed_forward=12, kernel=3, subsampling_channels=2)
    check_law(ConformerEncoder(config, Context(2, 3)), (6,), [29, 13], 1, torch.float64)


@pytest.mark.parametrize("name", PARTS)
def test_parts_compile_whole_and_export_with_their_operators(name):
    torch.manual_seed(0)
    make, frame = PARTS[name]
    module, x, lengths = make().to(DEVICE), torch.randn(2, 6, *frame, device=DEVICE), torch.tensor([6, 3], device=DEVICE)
    expected, _ = module(x, lengths)
    compiled = torch.compile(lambda x: module(x, lengths)[0], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    with torch.no_grad():
        program = torch.export.export(module, (x, lengths))
    torch.testing.assert_close(program.module()(x, lengths)[0], expected)
    assert any(str(node.target).startswith("riverrun.") for node in program.graph.nodes)
