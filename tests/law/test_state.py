"""State: bounded for ever, and moved, saved and reset without knowing whose it is."""

import pytest
import torch

from riverrun.speech.predictors import LstmPredictor
from riverrun.speech.search import Search
from riverrun.streaming import Frames, StateError, States

from .harness import make_input
from .parts import EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_state_bytes_do_not_grow(name: str) -> None:
    example = EXAMPLES[name]
    module = example.module.float().eval()
    state = module.init_state(1, torch.zeros(0))
    size = len(state.to_bytes())
    # Some go through Python for every frame: fewer frames, the same claim, since shapes follow from shapes alone.
    frames = 2_000 if isinstance(module, (Search, LstmPredictor)) else 100_000
    piece = -(-500 // module.unit) * module.unit
    x = make_input(example, 1, piece, torch.float32, 0)
    with torch.no_grad():
        for _ in range(frames // piece):
            _, _, state = module.step(x, torch.tensor([piece]), state)
            assert len(state.to_bytes()) == size
    assert all(torch.isfinite(t).all() or name.startswith(("TransducerBeam", "CtcBeam")) for _, t in state.named_tensors())


def state() -> States:
    return States([Frames(torch.arange(6.0).reshape(3, 2)), States([Frames(torch.arange(3))])])


def test_gather_scatter_reset() -> None:
    part = state().gather(torch.tensor([2, 0]))
    assert part.parts[0].frames.tolist() == [[4, 5], [0, 1]]
    back = state().scatter(torch.tensor([0, 2]), part)
    assert back.parts[0].frames.tolist() == [[4, 5], [2, 3], [0, 1]] and back.parts[1].parts[0].frames.tolist() == [2, 1, 0]
    fresh = States([Frames(torch.full((1, 2), 9.0)), States([Frames(torch.tensor([7]))])])
    reset = state().reset(torch.tensor([False, True, False]), fresh)
    assert reset.parts[0].frames.tolist() == [[0, 1], [9, 9], [4, 5]] and reset.parts[1].parts[0].frames.tolist() == [0, 7, 2]


def test_counts() -> None:
    assert state().slots == 3 and state().bytes_per_stream == 2 * 4 + 8


def test_bytes_there_and_back() -> None:
    again = state().gather(torch.tensor([0])).from_bytes(state().to_bytes())
    assert again.slots == 3 and torch.equal(again.parts[0].frames, state().parts[0].frames)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "saved state is damaged"),
        (state().to_bytes()[:-4], "saved state is damaged"),
        (Frames(torch.zeros(1)).to_bytes(), "saved state belongs to another model: its parts differ in"),
        (
            States([Frames(torch.zeros(1, 3)), States([Frames(torch.zeros(1, dtype=torch.long))])]).to_bytes(),
            r"saved state belongs to another model: parts.0.frames is torch.float32 \(3,\), expected torch.float32 \(2,\)",
        ),
        (
            States([Frames(torch.zeros(2, 2)), States([Frames(torch.zeros(1, dtype=torch.long))])]).to_bytes(),
            "saved state is damaged: its parts hold different numbers of streams",
        ),
    ],
)
def test_wrong_bytes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(StateError, match=message):
        state().from_bytes(data)
