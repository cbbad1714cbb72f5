"""The pruned loss against what k2 itself computed (`record_k2.py`), in double precision and to the ten decimals on record."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from riverrun.kernels.transducer import do_rnnt_pruning, get_rnnt_prune_ranges, rnnt_loss_pruned, rnnt_loss_simple

BATCHES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "k2.json").read_text())


def double(x: list) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def equal(ours: Tensor, theirs: Any) -> None:
    torch.testing.assert_close(ours, double(theirs), atol=1e-9, rtol=1e-10)


def costs(row: list[float | None]) -> list[float]:
    return [math.inf if cost is None else cost for cost in row]


def inputs(batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lm, am = (double(batch[name]).requires_grad_() for name in ("lm", "am"))
    return lm, am, torch.tensor(batch["symbols"]), torch.tensor(batch["boundary"])


@pytest.mark.parametrize("batch", BATCHES)
def test_the_simple_and_smoothed_losses_their_gradients_and_counts_are_those_of_k2(batch: dict[str, Any]) -> None:
    lm, am, symbols, boundary = inputs(batch)
    assert [found["shares"] for found in batch["whole"]] == [None, None, [0.25, 0.0], [0.25, 0.1]]
    for found in batch["whole"]:
        options = *(found["shares"] or (0.0, 0.0)), found["penalty"]
        equal(rnnt_loss_simple(lm, am, symbols, 0, boundary, *options, reduction="none"), found["each"])
        total, (px_grad, py_grad) = rnnt_loss_simple(lm, am, symbols, 0, boundary, *options, reduction="sum", return_grad=True)
        equal(total, found["sum"])
        equal(torch.nn.functional.pad(px_grad, (0, 1)), found["px_grad"])  # k2 has a column more, where no label can be
        equal(py_grad, found["py_grad"])
        for ours, theirs in zip(torch.autograd.grad(total, (lm, am)), (found["lm_grad"], found["am_grad"]), strict=True):
            equal(ours, theirs)


@pytest.mark.parametrize("batch", BATCHES)
def test_the_ranges_and_the_loss_within_them_are_those_of_k2(batch: dict[str, Any]) -> None:
    """The counts have no ties, so that the best range of a frame is one and the same whatever the last digits."""
    lm, am, symbols, boundary = inputs(batch)
    own = rnnt_loss_simple(lm, am, symbols, 0, boundary, return_grad=True)[1]
    recorded = double(batch["whole"][0]["px_grad"]), double(batch["whole"][0]["py_grad"])
    for found in batch["pruned"]:
        ranges = get_rnnt_prune_ranges(*own, boundary, found["s_range"])
        assert ranges.tolist() == found["ranges"] == get_rnnt_prune_ranges(*recorded, boundary, found["s_range"]).tolist()
        near, seen = do_rnnt_pruning(am, lm, ranges)
        assert near[..., 0].tolist() == found["near"] and seen[..., 0].tolist() == found["seen"]
        logits = (2 * (near + seen).tanh()).detach().requires_grad_()
        each = rnnt_loss_pruned(logits, symbols, ranges, 0, boundary, reduction="none")
        equal(each, costs(found["each"]))
        equal(rnnt_loss_pruned(logits, symbols, ranges, 0, boundary, reduction="sum"), costs([found["sum"]])[0])
        equal(torch.autograd.grad(each[each.isfinite()].sum(), logits)[0], found["logits_grad"])
    assert None in BATCHES[1]["pruned"][0]["each"]  # labels that three positions a frame do not reach
