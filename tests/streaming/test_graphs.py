"""Steps over the slots of a pool: what plain stepping gives, whatever way a part keeps its state."""

import pytest
import torch

from riverrun.speech.attention import Context
from riverrun.speech.encoders import ConformerConfig, ConformerEncoder
from riverrun.streaming import Rechunk, Series
from riverrun.streaming.graphs import GraphedStep, owned

CONTEXT = Context(2, 3)


def encoder(position: str = "rope") -> ConformerEncoder:
    torch.manual_seed(0)
    config = ConformerConfig(bins=6, dim=8, layers=2, heads=2, feed_forward=12, kernel=3, subsampling_channels=2, position=position)
    return ConformerEncoder(config, CONTEXT).double().eval()


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("position", ["rope", "transformer_xl"])
@torch.no_grad()
def test_a_pool_steps_as_states_do(in_place, position):
    module, like = encoder(position), torch.zeros(0, dtype=torch.float64)
    pool, expected = module.init_state(5, like), module.init_state(5, like)
    graphed = GraphedStep(module.step, lambda slots: module.init_state(slots, like), in_place=in_place)
    addresses = [tensor.data_ptr() for _, tensor in pool.named_tensors()]
    for slots, lengths in (([3, 1], [8, 8]), ([4, 3, 1], [8, 16, 0]), ([1, 2], [16, 8]), ([3, 4], [8, 5]), ([2, 1], [8, 8])):
        x, rows, counts = torch.randn(len(slots), max(lengths), 6, dtype=torch.float64), torch.tensor(slots), torch.tensor(lengths)
        want, want_lengths, after = module.step(x, counts, expected.gather(rows))
        expected = expected.scatter(rows, after)
        y, y_lengths = graphed(x, counts, pool, slots)
        assert torch.equal(y_lengths, want_lengths)
        for row, length in enumerate(want_lengths):
            torch.testing.assert_close(y[row, :length], want[row, :length])
        for (name, here), (_, there) in zip(pool.named_tensors(), expected.named_tensors(), strict=True):
            torch.testing.assert_close(here, there, msg=name)
    assert addresses == [tensor.data_ptr() for _, tensor in pool.named_tensors()] and not graphed.recorded


@torch.no_grad()
def test_a_step_that_fails_changes_nothing():
    module, like = encoder(), torch.zeros(0, dtype=torch.float64)
    pool = module.init_state(2, like)

    def step(*arguments):
        module.step(*arguments)
        raise RuntimeError("no")

    before = pool.map(torch.clone)
    with pytest.raises(RuntimeError, match="no"):
        GraphedStep(step, lambda slots: module.init_state(slots, like))(torch.ones(1, 8, 6).double(), torch.tensor([8]), pool, [1])
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(pool.named_tensors(), before.named_tensors(), strict=True))


@pytest.mark.parametrize("position", ["rope", "transformer_xl"])
@torch.no_grad()
def test_a_flush_is_a_step_that_hears_nothing(position, monkeypatch):
    """Of lent slots, and with a remainder of a shape that does not depend on values, as on a GPU."""
    rechunk, like = Rechunk(16, (6,)), torch.zeros(0, dtype=torch.float64)
    module = Series(rechunk, encoder(position))
    pool = module.init_state(4, like)
    for lengths in ([0, 23, 7, 40], [0, 9, 16, 40]):
        *_, pool = module.step(torch.randn(4, 40, 6, dtype=torch.float64), torch.tensor(lengths), pool)
    slots = [3, 1, 2]
    want, want_lengths = module.flush(pool.gather(torch.tensor(slots)))
    rest = rechunk._rest
    monkeypatch.setattr(rechunk, "_rest", lambda state, _: rest(state, rechunk.chunk - 1))
    before = pool.map(torch.clone)
    flush = GraphedStep(lambda _, __, state: (module.flush(owned(state)), state), lambda n: module.init_state(n, like), in_place=True)
    y, y_lengths = flush(torch.zeros(3, 0), torch.zeros(3, dtype=torch.long), pool, slots)
    assert torch.equal(y_lengths, want_lengths) and want_lengths.max() > 0
    for row, length in enumerate(want_lengths):
        torch.testing.assert_close(y[row, :length], want[row, :length])
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(pool.named_tensors(), before.named_tensors(), strict=True))
