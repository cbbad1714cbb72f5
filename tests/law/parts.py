"""Every example of every part that riverrun defines."""

import importlib
import inspect
import pkgutil

import torch

import riverrun.speech
import riverrun.streaming
from riverrun.streaming import Example, StreamingModule

#: Modules that another program's own environment imports, and that define no part.
ELSEWHERE = {"riverrun.streaming.simuleval"}


def _import_all() -> None:
    for room in (riverrun.streaming, riverrun.speech):
        for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
            if module.name not in ELSEWHERE:
                importlib.import_module(module.name)


_import_all()
PARTS = [p for p in StreamingModule.registry if not inspect.isabstract(p) and p.__module__.startswith("riverrun.")]


def _examples() -> dict[str, Example]:
    found = {}
    for part in PARTS:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for i, example in enumerate(part.examples()):
                found[f"{part.__name__}-{i}"] = example
    return found


EXAMPLES = _examples()
