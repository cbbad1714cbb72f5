"""The law as a property of every registered part."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from .harness import Schedule, check
from .parts import EXAMPLES, PARTS

SLOTS = 3


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    lengths = tuple(draw(st.lists(st.integers(0, 37), min_size=SLOTS, max_size=SLOTS)))
    ticks = draw(st.lists(st.tuples(*[st.integers(0, 4)] * SLOTS), min_size=0, max_size=12))
    orders = draw(st.lists(st.permutations(range(SLOTS)), min_size=1, max_size=3))
    saves = draw(st.lists(st.booleans(), min_size=1, max_size=3))
    return Schedule(lengths, tuple(ticks), tuple(map(tuple, orders)), tuple(saves))


@pytest.mark.parametrize("part", PARTS, ids=lambda p: p.__name__)
def test_every_part_has_an_example(part: type) -> None:
    assert any(name.startswith(part.__name__ + "-") for name in EXAMPLES) or part.__name__ == "Series"


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@settings(max_examples=15, deadline=None)
@given(schedule=schedules(), seed=st.integers(0, 2**31))
def test_steps_give_what_forward_gives(name: str, dtype: torch.dtype, schedule: Schedule, seed: int) -> None:
    check(EXAMPLES[name], schedule, dtype, seed)


@pytest.mark.parametrize("name", EXAMPLES)
def test_one_unit_at_a_time(name: str) -> None:
    check(EXAMPLES[name], Schedule((23, 8, 0), (), ((0, 1, 2),), (False,)), torch.float64, 1)


@pytest.mark.parametrize("name", EXAMPLES)
def test_idle_slot_keeps_its_state_bit_for_bit(name: str) -> None:
    from .harness import garbage, make_input

    example = EXAMPLES[name]
    module = example.module.double().eval()
    x = make_input(example, 2, 3 * module.unit, torch.float64, 0)
    like = torch.zeros(0, dtype=torch.float64)
    with torch.no_grad():
        _, _, state = module.step(x, torch.tensor([3, 2]) * module.unit, module.init_state(2, like))
        _, lengths, after = module.step(garbage(x), torch.tensor([0, 0]), state)
    assert lengths.tolist() == [0, 0]
    for (field, a), (_, b) in zip(state.named_tensors(), after.named_tensors(), strict=True):
        assert torch.equal(a, b), field
