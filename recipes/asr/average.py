"""Average the weights of several checkpoints or bundles into one bundle.

``python -m riverrun.recipes.asr.average --out runs/mean --like runs/small runs/checkpoints/step-*.ckpt`` takes the exponential
average that each checkpoint carries; ``--raw`` the weights themselves. ``--like`` is a bundle that lends its configuration,
tokenizer and card. Checkpoints near the end of a schedule average well (Vaswani et al. 2017); mind that an average of few is noisy.

``--only PATTERN`` averages the weights whose names match and takes the rest from ``--like``, whose network may differ in the rest.
The average of a model and of what it was fine-tuned to often keeps what either knows (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models"); averaging the lower layers alone can keep more of the fine-tuning.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from riverrun.speech.bundle import load_bundle, save_bundle

from .sigma import plain


def weights_of(path: Path, raw: bool = False) -> dict[str, Tensor]:
    """Weights of a bundle (a folder) or of a checkpoint (a file), in float32.

    Raises:
        ValueError: the file is no checkpoint of `AsrModule`.
    """
    if path.is_dir():
        return {name: tensor.float() for name, tensor in load_bundle(str(path)).network.state_dict().items()}
    prefix = "model." if raw else "averaged."
    state = torch.load(path, map_location="cpu", weights_only=True).get("state_dict", {})
    found = plain({name.removeprefix(prefix): tensor.float() for name, tensor in state.items() if name.startswith(prefix)})
    if not found:
        raise ValueError(f"{path} is no checkpoint of riverrun.recipes.asr")
    return found


def mean(weights: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average of several sets of weights with the same names and shapes.

    Raises:
        ValueError: there are none, or they do not belong to one network.
    """
    total: dict[str, Tensor] = {}
    for count, each in enumerate(weights, 1):
        if total and {name: t.shape for name, t in each.items()} != {name: t.shape for name, t in total.items()}:
            raise ValueError("the weights are not all of one network")
        total = {name: total[name] + (t.double() - total[name]) / count if total else t.double() for name, t in each.items()}
    if not total:
        raise ValueError("there is nothing to average")
    return {name: t.float() for name, t in total.items()}


def named(weights: dict[str, Tensor], pattern: str) -> dict[str, Tensor]:
    """The weights whose names match a regular expression, from their beginning.

    Raises:
        ValueError: none does.
    """
    found = {name: tensor for name, tensor in weights.items() if re.match(pattern, name)}
    if not found:
        raise ValueError(f"no weight has a name like {pattern!r}; there are {', '.join(list(weights)[:3])}, …")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Average and write."""
    parser = argparse.ArgumentParser(prog="python -m riverrun.recipes.asr.average", description=__doc__)
    parser.add_argument("models", nargs="+", type=Path, help="checkpoints or bundles")
    parser.add_argument("--like", required=True, help="a bundle of the same network")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--only", default="", metavar="PATTERN", help="average weights with such names, and keep the rest of --like")
    parser.add_argument("--raw", action="store_true", help="average the weights themselves, not their exponential averages")
    given = parser.parse_args(arguments)
    try:
        bundle = load_bundle(given.like)
        average = mean(named(weights_of(path, given.raw), given.only) for path in given.models)
        bundle.network.load_state_dict({**bundle.network.state_dict(), **average} if given.only else average)
    except (ValueError, OSError, RuntimeError, re.error) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    save_bundle(given.out, bundle.config, bundle.network, bundle.tokenizer, bundle.card)
    return 0


if __name__ == "__main__":
    sys.exit(main())
