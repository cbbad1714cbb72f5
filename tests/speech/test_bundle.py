"""Bundles: found, read, refused with a reason."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from riverrun.speech.bundle import BundleError, available, load_bundle

from ..tiny import tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path)


def edit(bundle: Path, change: Callable[[dict], object]) -> None:
    config = yaml.safe_load((bundle / "config.yaml").read_text())
    change(config)
    (bundle / "config.yaml").write_text(yaml.safe_dump(config))


def reweigh(bundle: Path, change: Callable[[dict], object]) -> None:
    weights = load_file(bundle / "model.safetensors")
    change(weights)
    save_file(weights, bundle / "model.safetensors")


def test_there_and_back(bundle: Path) -> None:
    loaded = load_bundle(str(bundle))
    assert loaded.config.name == "tiny" and loaded.card == "# tiny\n"
    assert all(p.dtype == torch.float32 for p in loaded.network.parameters()) and not loaded.network.training
    assert not list(bundle.glob("*.part"))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda b: (b / "config.yaml").unlink(), "is no bundle: it has no config.yaml"),
    "no weights": (lambda b: (b / "model.safetensors").unlink(), "has no model.safetensors"),
    "no tokenizer": (lambda b: (b / "tokenizer.model").unlink(), "has no tokenizer.model"),
    "no card": (lambda b: (b / "card.md").unlink(), "has no card.md"),
    "not YAML": (lambda b: (b / "config.yaml").write_text("a: [1"), "is not YAML"),
    "not a mapping": (lambda b: (b / "config.yaml").write_text("3"), "the configuration must be a mapping, not 3"),
    "unknown key": (lambda b: edit(b, lambda c: c["model"].update(colour="red")), "unknown key 'model.colour'"),
    "wrong type": (lambda b: edit(b, lambda c: c["model"].update(vocabulary="many")), "model.vocabulary must be int, not 'many'"),
    "missing key": (lambda b: edit(b, lambda c: c.pop("name")), "missing 1 required positional argument: 'name'"),
    "other format": (lambda b: edit(b, lambda c: c.update(format=99)), "format 99 is not known to this riverrun"),
    "no head": (
        lambda b: edit(b, lambda c: c["model"].update(ctc=False, transducer=None)),
        "a recogniser needs a CTC head, a transducer or both",
    ),
    "wrong shape": (
        lambda b: reweigh(b, lambda w: w.update({"ctc.bias": torch.zeros(3)})),
        r"ctc.bias has shape \(3,\), config.yaml says \(40,\)",
    ),
    "missing weight": (lambda b: reweigh(b, lambda w: w.pop("ctc.bias")), "lacks ctc.bias"),
    "extra weight": (lambda b: reweigh(b, lambda w: w.update(extra=torch.zeros(1))), "holds extra, which config.yaml has no place for"),
    "damaged weights": (lambda b: (b / "model.safetensors").write_bytes(b"PK pickle"), "is damaged"),
    "damaged tokenizer": (
        lambda b: (b / "tokenizer.model").write_bytes(b"nothing"),
        "is broken: the tokenizer is not a sentencepiece model",
    ),
    "other tokenizer": (lambda b: edit(b, lambda c: c["model"].update(vocabulary=41)), "its tokenizer has 40 pieces, its model 41"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_bundle_is_refused_in_one_line(bundle: Path, case: str) -> None:
    damage, message = BROKEN[case]
    damage(bundle)
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(str(bundle))
    assert "\n" not in str(caught.value)


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(BundleError, match="unknown model 'nope': give a bundle's folder or one of default, riverrun-en-"):
        load_bundle("nope")


def test_shipped_default_loads() -> None:
    assert load_bundle("default").folder in [folder for _, folder, _ in available()]
