"""The step attention kernel against its definition, over several steps of streams that stand at different places."""

import math

import pytest
import torch

from riverrun.kernels.step_attention import reference, step_attention
from riverrun.kernels.step_attention import triton as kernels

from .device import DEVICE, DTYPES, tolerance

#: Lengths of three rows in three steps: idle rows, streams that begin late, partial last steps.
STEPS = [[4, 0, 8], [8, 4, 0], [3, 8, 1]]
F32 = torch.float32


def rotation(rows, width, dtype):
    angle = torch.arange(rows, dtype=torch.float64)[:, None] * 100 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    wide = torch.float64 if dtype == torch.float64 else F32
    return angle.cos().to(DEVICE, wide), angle.sin().to(DEVICE, wide)


def run(dtype, left=6, chunk=4, sinks=0, width=8, heads=(2, 1), rotary=True, biased=None, sigmoid=None, steps=STEPS, frames=8):
    """Step through ``steps`` with the kernel and with the definition, and compare outputs and caches."""
    torch.manual_seed(0)

    def floats(*shape):
        return torch.randn(*shape, device=DEVICE, dtype=torch.float64).to(dtype)

    slots = torch.tensor([5, 0, 3], device=DEVICE)
    keys, values = floats(6, sinks + left, heads[1], width), floats(6, sinks + left, heads[1], width)
    ours = keys.clone().fill_(math.nan), values.clone().fill_(math.nan)  # what was never heard is never read
    untouched = torch.tensor([1, 2, 4], device=DEVICE)
    tables = rotation(left + sinks + max(chunk, frames), width, dtype) if rotary else None
    seen = torch.zeros(6, dtype=torch.long, device=DEVICE)
    for step in steps:
        lengths = torch.tensor(step, device=DEVICE)
        q = floats(3, frames, heads[0], width)
        k, v = floats(3, frames, 2 * heads[1], width).chunk(2, 2)  # strided, as a fused projection hands them over
        columns = left + sinks + 2 * chunk - 1
        shape = {None: None, "table": (1, heads[0], 1, columns), "query": (3, heads[0], frames, columns)}[biased]
        bias = None if shape is None else floats(*shape)
        options = {"sinks": sinks, "rotation": tables, "bias": bias, "sigmoid": sigmoid}
        kernel = step_attention(q, k, v, slots, lengths, *ours, seen, chunk, **options)
        expected = reference.step_attention(
            q, k, v, slots, lengths, keys, values, seen, *(tables or (None, None)), bias, chunk, sinks, width**-0.5, sigmoid
        )
        torch.testing.assert_close(kernel, expected, **tolerance(dtype))
        beyond = torch.arange(frames, device=DEVICE) >= lengths[:, None]
        assert not kernel[beyond].any()
        seen.index_add_(0, slots, lengths)
        for mine, definition in zip(ours, (keys, values), strict=True):
            heard = ~mine.isnan()
            assert torch.equal(mine[heard], definition[heard])
            assert mine[untouched].isnan().all()
            frame = torch.cat([torch.arange(sinks), torch.arange(left)]).to(DEVICE)
            assert torch.equal(heard.flatten(2).all(2), frame < seen[:, None])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sinks", [0, 3])
def test_dtypes(dtype, sinks):
    run(dtype, sinks=sinks)


@pytest.mark.parametrize("width", [40, 48, 64, 80, 96, 128])
def test_head_sizes(width):
    run(F32, width=width, steps=[[4, 0, 8]])


@pytest.mark.parametrize(("left", "chunk", "sinks"), [(0, 4, 0), (0, 2, 2), (1, 1, 0), (3, 4, 1), (13, 2, 0), (4, 2, 5), (70, 4, 0)])
def test_contexts(left, chunk, sinks):
    run(F32, left=left, chunk=chunk, sinks=sinks)


@pytest.mark.parametrize("heads", [(2, 2), (6, 2)])
def test_grouped_heads(heads):
    run(F32, heads=heads, biased="table")


@pytest.mark.parametrize(("biased", "sinks", "sigmoid"), [("table", 3, None), ("query", 0, None), ("query", 3, -1.5), (None, 0, 0.5)])
def test_bias_and_sigmoid(biased, sinks, sigmoid):
    run(F32, biased=biased, sinks=sinks, sigmoid=sigmoid, rotary=False)


def test_more_queries_than_a_tile_and_more_frames_than_the_ring():
    run(F32, heads=(2, 1), chunk=3, left=5, sinks=2, frames=19, steps=[[18, 3, 0], [15, 19, 6]])


def test_a_stream_of_days_and_keys_that_a_bias_hides():
    """Ring positions beyond 32 bits, and rows whose every score is −inf."""
    torch.manual_seed(0)
    q, k, v, keys, values = torch.randn(5, 2, 4, 1, 8, device=DEVICE)
    keys, values = (torch.cat([x, x + 1], 1)[:, :6] for x in (keys, values))
    definition = keys.clone(), values.clone()
    slots, lengths = torch.tensor([1, 0], device=DEVICE), torch.tensor([4, 4], device=DEVICE)
    seen = torch.tensor([8, 4 + 12 * 2**40], device=DEVICE)
    bias = torch.randn(2, 1, 4, 13, device=DEVICE)
    bias[1, :, 2] = -math.inf
    arguments = seen, None, None, bias, 4, 0, 0.3, None
    expected = reference.step_attention(q, k, v, slots, lengths, *definition, *arguments)
    ours = kernels.step_attention(q, k, v, slots, lengths, keys, values, *arguments)
    torch.testing.assert_close((ours, keys, values), (expected, *definition), **tolerance(F32))
    assert not ours[1, 2].any() and ours[1, 1].all()


def test_nothing():
    empty = torch.zeros(0, 3, 2, 8, device=DEVICE)
    cache, seen = torch.ones(2, 4, 2, 8, device=DEVICE), torch.zeros(2, dtype=torch.long, device=DEVICE)
    none = torch.zeros(0, dtype=torch.long, device=DEVICE)
    assert step_attention(empty, empty, empty, none, none, cache, cache.clone(), seen, 4).shape == empty.shape
