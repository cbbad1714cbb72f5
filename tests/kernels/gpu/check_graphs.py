"""Steps in CUDA graphs: the same as eager ones, with no host synchronisation, and how much faster."""

import time

import pytest
import torch

from riverrun.kernels.convolution import causal_convolution_step
from riverrun.kernels.recurrence import lightning_step
from riverrun.kernels.step_attention import step_attention
from riverrun.speech import load
from riverrun.streaming.graphs import GraphedStep

CUDA = torch.device("cuda")


@pytest.fixture
def no_sync():
    """Any wait of the host for the device is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def floats(*shape, dtype=torch.bfloat16):
    return torch.randn(shape, device=CUDA).to(dtype)


@pytest.mark.parametrize("streams", [1, 7, 64, 1024])
def test_operators_never_wait(streams, no_sync):
    slots, lengths = torch.randperm(streams, device=CUDA), torch.full((streams,), 8, device=CUDA)
    q, k, v, cache = (floats(streams, n, 4, 64) for n in (8, 8, 8, 40))
    step_attention(q, k, v, slots, lengths, cache, cache.clone(), lengths * 4, 8)
    wide = floats(streams, 8, 3, 160), floats(streams, 8, 3, 160), floats(streams, 8, 3, 160), floats(streams, 40, 3, 160)
    step_attention(*wide[:3], slots, lengths, wide[3], wide[3].clone(), lengths * 4, 8)
    x, state = floats(streams, 8, 128), floats(streams, 14, 64)
    causal_convolution_step(x, slots, lengths, state, floats(64, 1, 15), floats(64), floats(64), floats(64))
    matrices = floats(streams, 4, 64, 64, dtype=torch.float32)
    lightning_step(q, k, v, slots, lengths, -torch.rand(4, device=CUDA), matrices)


def parts(kind):
    """A step, its state and the size of a piece: the encoder alone, or the recogniser with features and search."""
    recognizer = load("default", device="cuda").recognizer(320)
    if kind == "recogniser":
        return recognizer.step, recognizer.init_state, (recognizer.chunk,)
    encoder = recognizer.front.parts_in_order[-1]
    like = torch.zeros(0, device=CUDA)
    return encoder.step, lambda slots: encoder.init_state(slots, like), (encoder.unit, encoder.config.bins)


@pytest.mark.parametrize("kind", ["encoder", "recogniser"])
@torch.no_grad()
def test_graphs_equal_eager_steps_and_never_wait(kind):
    step, init_state, piece = parts(kind)
    pool, expected = init_state(12), init_state(12)
    graphed = GraphedStep(step, init_state, buckets=(4, 8))
    generator = torch.Generator().manual_seed(0)
    for turn in range(8):
        size = (3, 8, 5, 3)[turn % 4]
        slots = 1 + torch.randperm(11, generator=generator)[:size]
        x = torch.randn(size, *piece, generator=generator) * (0.05 if kind == "recogniser" else 1)
        lengths = torch.full((size,), piece[0])
        lengths[0] *= turn % 2
        on_device = x.to(CUDA), lengths.to(CUDA), slots.to(CUDA)
        if recorded := graphed.recorded == 2:
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
        try:
            output = graphed(*on_device[:2], pool, on_device[2] if not recorded else slots)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        *want, after = step(*on_device[:2], expected.gather(on_device[2]))
        expected = expected.scatter(on_device[2], after)
        ours, theirs = (output, want) if kind == "encoder" else ((output.final[0][0].ids,), (want[0].final[0][0].ids,))
        for row, length in enumerate((want[1] if kind == "encoder" else want[0].final[0][1]).tolist()):
            torch.testing.assert_close(ours[0][row, :length], theirs[0][row, :length], rtol=1e-4, atol=1e-4)
        for (name, here), (_, there) in zip(pool.named_tensors(), expected.named_tensors(), strict=True):
            torch.testing.assert_close(here[1:], there[1:], rtol=1e-4, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
    assert graphed.recorded == 2


@pytest.mark.parametrize("kind", ["encoder", "recogniser"])
@torch.no_grad()
def test_speed(kind):
    """No assertion on time: what is printed is for the reader."""
    step, init_state, piece = parts(kind)
    for streams in (1, 64, 512):
        pool, slots = init_state(streams + 1), torch.arange(1, streams + 1)
        x, lengths = torch.randn(streams, *piece, device=CUDA) * 0.05, torch.full((streams,), piece[0], device=CUDA)
        took = []
        for buckets in ((), (streams,)):
            graphed = GraphedStep(step, init_state, buckets=buckets)
            for _ in range(3):
                graphed(x, lengths, pool, slots)
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(10):
                graphed(x, lengths, pool, slots)
            torch.cuda.synchronize()
            took.append((time.perf_counter() - began) * 100)
        print(f"  {kind}, {streams} streams, 320 ms: eager {took[0]:.2f} ms a step, in a CUDA graph {took[1]:.2f} ms")
