"""The law on the device where kernels run: steps of ragged streams, owned and lent, against the whole, and against the CPU."""

import copy
import random

import torch

from riverrun.streaming import StreamingModule
from riverrun.streaming.graphs import GraphedStep

from .device import DEVICE

#: The project's tolerance for each dtype.
LAW = {torch.float64: 1e-9, torch.float32: 1e-4}


def check_law(module: StreamingModule, frame: tuple[int, ...], lengths: list[int], units: int, dtype: torch.dtype, seed: int = 0) -> None:
    """Assert it for streams of ``lengths`` frames that get up to ``units`` units a step, some none, in changing slots."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(lengths), max(lengths), *frame, generator=generator, dtype=torch.float64).to(dtype)
    module = copy.deepcopy(module).to(dtype).eval()
    counts = torch.tensor(lengths)
    with torch.no_grad():
        on_host, _ = _without_kernels(module, x, counts)
        module, x = module.to(DEVICE), x.to(DEVICE)
        whole, out_lengths = module(x, counts.to(DEVICE))
        for in_place in (False, True):
            pieces = _step(module, x, lengths, units, in_place, random.Random(seed))  # noqa: S311
            for row, length in enumerate(out_lengths.tolist()):
                torch.testing.assert_close(torch.cat(pieces[row]), whole[row, :length], rtol=LAW[dtype], atol=LAW[dtype])
                torch.testing.assert_close(whole[row, :length].cpu(), on_host[row, :length], rtol=LAW[dtype], atol=LAW[dtype])


def _without_kernels(module: StreamingModule, x: torch.Tensor, lengths: torch.Tensor):
    if DEVICE == "cuda":
        return module(x, lengths)
    from riverrun.kernels.convolution import op as convolution
    from riverrun.kernels.step_attention import op as step_attention
    from riverrun.kernels.window_attention import op as window_attention

    modules = convolution, step_attention, window_attention
    kept = [part.runs_triton for part in modules]
    for part in modules:
        part.runs_triton = lambda _: False
    try:
        return module(x, lengths)
    finally:
        for part, function in zip(modules, kept, strict=True):
            part.runs_triton = function


def _step(module, x, lengths, units, in_place, chance):
    streams = len(lengths)
    pool = module.init_state(streams + 2, x)
    graphed = GraphedStep(module.step, lambda slots: module.init_state(slots, x), in_place=in_place)
    slots = chance.sample(range(1, streams + 2), streams)
    done, pieces = [0] * streams, [[] for _ in range(streams)]
    while any(d < n for d, n in zip(done, lengths, strict=True)):
        rows = chance.sample(range(streams), chance.randint(1, streams))
        take = [min(chance.randint(0, units) * module.unit, lengths[row] - done[row]) for row in rows]
        piece = torch.full((len(rows), units * module.unit, *x.shape[2:]), 9.0, dtype=x.dtype, device=x.device)
        for i, (row, count) in enumerate(zip(rows, take, strict=True)):
            piece[i, :count] = x[row, done[row] : done[row] + count]
            done[row] += count
        y, counts = graphed(piece, torch.tensor(take), pool, [slots[row] for row in rows])
        for row, out, count in zip(rows, y, counts.tolist(), strict=False):
            pieces[row].append(out[:count].clone())
    return pieces
