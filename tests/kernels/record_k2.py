"""Records what k2 itself computes: run it where k2 1.23.2 with its PyTorch 1.12.1 is installed (Python 3.9; riverrun need not be there).

    python tests/kernels/record_k2.py tests/kernels/k2.json

Random scores in double precision, rounded to two decimals; results are rounded to ten. Infinity is written as null.
"""

import json
import math
import sys
from pathlib import Path

import k2
import torch

VOCABULARY = 6
#: (frames, labels) of the utterances: no label, one frame more than labels, labels beyond what three positions a frame reach.
BATCHES = [[(12, 5), (9, 0), (7, 6)], [(14, 8), (9, 8), (3, 8)]]
#: Shares of predictor and encoder (None: the loss that has none), and the delay penalty, which k2 rounds to single precision.
WHOLE = [(None, 0.0), (None, 0.125), ((0.25, 0.0), 0.0), ((0.25, 0.1), 0.0)]


def plain(x):
    if isinstance(x, torch.Tensor):
        x = x.tolist()
    if isinstance(x, list):
        return [plain(i) for i in x]
    return None if x == math.inf else round(x, 10) + 0.0 if isinstance(x, float) else x


def scores(*shape):
    return (200 * torch.randn(*shape, dtype=torch.float64)).round() / 100


def gradients(loss, *of):
    return [plain(x) for x in torch.autograd.grad(loss, of)]


def with_neutral_padding(lm, counts):
    """k2 takes the mean predictor over padded rows as well: let each of them be the mean of the others, so that it changes nothing."""
    used = torch.arange(lm.shape[1]) <= counts[:, None]
    mean = lm.softmax(2)[used].mean(0).log()
    return torch.where(used[..., None], lm, mean)


def whole(shares, penalty, common):
    if shares is None:
        return k2.rnnt_loss_simple(delay_penalty=penalty, **common)
    return k2.rnnt_loss_smoothed(lm_only_scale=shares[0], am_only_scale=shares[1], delay_penalty=penalty, **common)


def record(shapes):
    frames, counts = torch.tensor(shapes).T
    time, height = int(frames.max()), int(counts.max())
    symbols = torch.randint(1, VOCABULARY, (len(shapes), height))
    boundary = torch.stack([torch.zeros_like(counts), torch.zeros_like(counts), counts, frames], 1)
    am, lm = scores(len(shapes), time, VOCABULARY), scores(len(shapes), height + 1, VOCABULARY)
    row = {"am": am.tolist(), "lm": lm.tolist(), "symbols": symbols.tolist(), "boundary": boundary.tolist(), "whole": [], "pruned": []}
    am.requires_grad_(), lm.requires_grad_()
    common = {"symbols": symbols, "termination_symbol": 0, "boundary": boundary}
    for shares, penalty in WHOLE:
        inputs = {**common, "lm": with_neutral_padding(lm, counts), "am": am, "return_grad": True}
        each, counted = whole(shares, penalty, {**inputs, "reduction": "none"})
        total, _ = whole(shares, penalty, {**inputs, "reduction": "sum"})
        found = {"shares": shares, "penalty": penalty, "each": plain(each), "sum": plain(total)}
        found["px_grad"], found["py_grad"] = plain(counted[0]), plain(counted[1])
        found["lm_grad"], found["am_grad"] = gradients(total, lm, am)
        row["whole"].append(found)
    counted = k2.rnnt_loss_simple(lm=lm, am=am, return_grad=True, **common)[1]
    for s_range in (3, 5):
        ranges = k2.get_rnnt_prune_ranges(*counted, boundary, s_range)
        near, seen = k2.do_rnnt_pruning(am, lm, ranges)
        logits = (2 * (near + seen).tanh()).detach().requires_grad_()
        each = k2.rnnt_loss_pruned(logits, ranges=ranges, reduction="none", **common)
        total = k2.rnnt_loss_pruned(logits, ranges=ranges, reduction="sum", **common)
        found = {"s_range": s_range, "ranges": plain(ranges), "near": plain(near[..., 0]), "seen": plain(seen[..., 0])}
        found.update(each=plain(each), sum=plain(total), logits_grad=gradients(each[each.isfinite()].sum(), logits)[0])
        row["pruned"].append(found)
    return row


def main(path):
    torch.manual_seed(0)
    rows = [json.dumps(record(shapes), separators=(",", ":"), allow_nan=False) for shapes in BATCHES]
    Path(path).write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
