"""One set of weights, many latencies."""

import pytest
import torch

from riverrun.speech.attention import ChunkedAttention, Context, at, attention_mask
from riverrun.speech.encoders import ConformerConfig, ConformerEncoder
from riverrun.streaming import Rechunk, Series

TINY = ConformerConfig(bins=8, dim=16, layers=2, heads=2, feed_forward=24, kernel=5, subsampling_channels=3)


@pytest.fixture
def encoder() -> ConformerEncoder:
    torch.manual_seed(0)
    return ConformerEncoder(TINY, Context()).double().eval()


def test_a_view_shares_the_weights_and_leaves_the_original_alone(encoder: ConformerEncoder) -> None:
    view = at(encoder, Context(4, 8))
    assert encoder.context == Context() and encoder.layers[0].attention.context == Context()
    assert view.context == Context(4, 8) and view.layers[1].attention.context == Context(4, 8)
    assert all(a is b for a, b in zip(encoder.parameters(), view.parameters(), strict=True))


def test_views_follow_the_original_to_another_dtype(encoder: ConformerEncoder) -> None:
    view = at(encoder, Context(4, 8))
    encoder.float()
    assert all(p.dtype == torch.float32 for p in view.parameters())


@pytest.mark.parametrize("chunk", [4, 8, 16, 32])
@torch.no_grad()
def test_every_chunk_size_streams_what_its_whole_pass_gives(encoder: ConformerEncoder, chunk: int) -> None:
    view = at(encoder, Context(chunk, 64))
    x, lengths = torch.randn(2, 301, 8, dtype=torch.float64), torch.tensor([301, 128])
    want, want_lengths = encoder(x, lengths, Context(chunk, 64))
    live = Series(Rechunk(4 * chunk, (8,)), view)
    state, pieces = live.init_state(2, x), [[], []]
    for start in range(0, 301, 37):
        piece = torch.nn.functional.pad(x[:, start : start + 37], (0, 0, 0, max(0, start + 37 - 301)))
        y, n, state = live.step(piece, (lengths - start).clamp(0, 37), state)
        for s in range(2):
            pieces[s].append(y[s, : n[s]])
    y, n = live.flush(state)
    for s in range(2):
        have = torch.cat([*pieces[s], y[s, : n[s]]])
        torch.testing.assert_close(have, want[s, : want_lengths[s]], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_chunk_that_holds_everything_is_full_context(encoder: ConformerEncoder) -> None:
    x, lengths = torch.randn(1, 90, 8, dtype=torch.float64), torch.tensor([90])
    torch.testing.assert_close(encoder(x, lengths, Context(750, 64))[0], encoder(x, lengths)[0])


@pytest.mark.parametrize("position", ["rope", "transformer_xl"])
def test_padding_looks_somewhere_and_spoils_no_gradient(position: str) -> None:
    """Half an utterance of padding under a short left context: frames there would see nothing real."""
    torch.manual_seed(0)
    lengths, frames = torch.tensor([24, 3, 0]), 24
    mask = attention_mask(Context(4, 4), lengths, frames)
    assert mask.any(-1).all()
    t = torch.arange(frames)
    real = t < lengths[:, None]
    assert torch.equal(mask & real[..., None], Context(4, 4).sees(t, t) & real[:, None] & real[..., None])
    layer, x = ChunkedAttention(8, 2, Context(), position), torch.randn(3, frames, 8, requires_grad=True)
    (layer.whole(x, mask) * real[..., None]).square().sum().backward()
    assert x.grad is not None and all(p.grad is not None and p.grad.isfinite().all() for p in [x, *layer.parameters()] if p.requires_grad)


def test_full_context_cannot_be_streamed(encoder: ConformerEncoder) -> None:
    with pytest.raises(ValueError, match="full or unlimited context cannot be streamed: give a chunk and a left context"):
        encoder.init_state(1, torch.zeros(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Context(0, 4), "chunk must be at least 1 frame, not 0"),
        (lambda: Context(4, -1), "left context must be 0 frames or more, not -1"),
        (lambda: ChunkedAttention(10, 3, Context()), "3 heads do not divide a model size of 10"),
        (lambda: ChunkedAttention(6, 2, Context()), "rotary positions need an even head size, not 3"),
        (lambda: ChunkedAttention(8, 2, Context(), "sundial"), "unknown position scheme 'sundial': choose from rope, transformer_xl"),
        (
            lambda: Series(Rechunk(6, (8,)), ConformerEncoder(TINY, Context(2, 4))),
            "chunks of 6 input frames are no whole number of units of 8",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


class Stepping(torch.nn.Module):
    """A step whose state comes and goes as plain tensors, as an exported graph has it."""

    def __init__(self, encoder, state):
        super().__init__()
        self.encoder, self._state = encoder, state

    def forward(self, x, lengths, *tensors):
        given = iter(tensors)
        y, _, after = self.encoder.step(x, lengths, self._state.map(lambda _: next(given)))
        return y, *(tensor for _, tensor in after.named_tensors())


@pytest.mark.parametrize("position", ["rope", "transformer_xl"])
@torch.no_grad()
def test_steps_export_as_plain_pytorch(position):
    """Traced with streams at one place of their rings, run with streams at others."""
    torch.manual_seed(0)
    config = ConformerConfig(bins=6, dim=8, layers=1, heads=2, feed_forward=12, kernel=3, subsampling_channels=2, position=position)
    encoder = ConformerEncoder(config, Context(2, 3)).eval()
    like, x, full = torch.zeros(0), torch.randn(3, 2, 8, 6), torch.tensor([8, 8])
    state = encoder.init_state(2, like)
    program = torch.export.export(Stepping(encoder, state), (x[0], full, *(tensor for _, tensor in state.named_tensors())))
    assert not any("riverrun" in str(node.target) for node in program.graph.nodes)
    tensors = [tensor for _, tensor in state.named_tensors()]
    for piece, lengths in zip(x, (full, torch.tensor([8, 0]), torch.tensor([3, 8])), strict=True):
        want, out_lengths, state = encoder.step(piece, lengths, state)
        y, *tensors = program.module()(piece, lengths, *tensors)
        for row, length in enumerate(out_lengths):
            torch.testing.assert_close(y[row, :length], want[row, :length])
        for ours, (name, theirs) in zip(tensors, state.named_tensors(), strict=True):
            torch.testing.assert_close(ours, theirs, msg=name)
