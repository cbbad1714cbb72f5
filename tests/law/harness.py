"""The law, checked on one part: any cut, ragged and desynchronised slots, permuted, saved and restored on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from riverrun.streaming import Example, within


@dataclass(frozen=True)
class Schedule:
    """One way of feeding a batch: how much each slot brings at each tick, and when slots move or are saved."""

    lengths: tuple[int, ...]  # whole length of each slot's input
    ticks: tuple[tuple[int, ...], ...]  # units that each slot brings at each tick, cut to what it has left
    orders: tuple[tuple[int, ...], ...]  # permutation of the slots at each tick
    saves: tuple[bool, ...]  # whether the state goes through bytes after each tick


def tensors(y: object) -> list[Tensor]:
    return list(y) if isinstance(y, tuple) else [y]  # type: ignore[list-item]


def make_input(example: Example, slots: int, frames: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if example.vocabulary is not None:
        return torch.randint(0, example.vocabulary, (slots, frames, *example.frame), generator=generator)
    return torch.randn(slots, frames, *example.frame, generator=generator, dtype=torch.float64).to(dtype)


def garbage(x: Tensor) -> Tensor:
    """What may stand beyond a slot's length, any finite values: they must not matter."""
    return torch.randn_like(x) * 100 if x.is_floating_point() else torch.zeros_like(x)


def run(example: Example, x: Tensor, schedule: Schedule) -> list[list[Tensor]]:
    """Feed ``x`` (S, T, …) by ``schedule``; return each slot's outputs, all fields, concatenated in time."""
    module, slots = example.module, len(schedule.lengths)
    like = x if x.is_floating_point() else next(module.parameters(), torch.zeros(0)).detach()
    state = module.init_state(slots, like)
    done, got = [0] * slots, [[] for _ in range(slots)]  # type: ignore[var-annotated]

    def keep(y: object, lengths: Tensor) -> None:
        for s in range(slots):
            got[s].append([t[s, : lengths[s]].clone() for t in tensors(y)])

    for tick in range(len(schedule.ticks) + sum(schedule.lengths)):
        if all(d >= n for d, n in zip(done, schedule.lengths, strict=True)):
            break
        brings = schedule.ticks[tick] if tick < len(schedule.ticks) else (1,) * slots
        take = [min(b * module.unit, n - d) for b, n, d in zip(brings, schedule.lengths, done, strict=True)]
        piece = garbage(x[:, :1].repeat(1, max(take), *[1] * (x.dim() - 2)))
        for s in range(slots):
            piece[s, : take[s]] = x[s, done[s] : done[s] + take[s]]
            done[s] += take[s]
        order = torch.tensor(schedule.orders[tick % len(schedule.orders)])
        back = order.argsort()
        y, lengths, after = module.step(piece[order], torch.tensor(take)[order], state.gather(order))
        state = after.gather(back)
        if schedule.saves[tick % len(schedule.saves)]:
            state = module.init_state(1, like).from_bytes(state.to_bytes())
        keep(_pick(y, back), lengths[back])
    tail = module.flush(state)
    if tail is not None:
        keep(*tail)
    return [[torch.cat(field) for field in zip(*pieces, strict=True)] for pieces in got]


def _pick(y: object, index: Tensor) -> object:
    return type(y)(*[t[index] for t in y]) if isinstance(y, tuple) else y[index]  # type: ignore[index]


def check(example: Example, schedule: Schedule, dtype: torch.dtype, seed: int) -> None:
    """Assert the law for one part, one input and one schedule."""
    module = example.module.to(dtype).eval()
    x = make_input(example, len(schedule.lengths), max(1, *schedule.lengths), dtype, seed)
    lengths = torch.tensor(schedule.lengths)
    with torch.no_grad():
        here = within(lengths, x.shape[1]).reshape(*x.shape[:2], *[1] * (x.dim() - 2))
        want, want_lengths = module(torch.where(here, x, garbage(x)), lengths)
        have = run(example, x, schedule)
    rtol, atol = (1e-9, 1e-9) if dtype == torch.float64 else (1e-4, 1e-4)
    for s, fields in enumerate(have):
        if not fields:
            assert want_lengths[s] == 0
            continue
        for a, b in zip(fields, tensors(want), strict=True):
            assert len(a) == want_lengths[s], f"slot {s}: {len(a)} frames from steps, {int(want_lengths[s])} from forward"
            torch.testing.assert_close(a, b[s, : want_lengths[s]], rtol=rtol, atol=atol)
