"""Bundles: found, read, refused with a reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from riverrun.speech import storage
from riverrun.speech.bundle import BundleError, TranslatorBundle, available, load_any, load_bundle, load_translator, save_bundle

from ..tiny import tiny_bundle
from ..tiny_translator import tiny_translator


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
    "bytes without scale": (
        lambda b: reweigh(b, lambda w: w.update({"ctc.weight": torch.zeros(40, 16, dtype=torch.int8)})),
        "ctc.weight is stored as bytes without a scale for each row",
    ),
    "scale without bytes": (lambda b: reweigh(b, lambda w: w.update({"no:scale": torch.zeros(1)})), "no:scale scales nothing"),
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


@pytest.fixture
def translator(tmp_path: Path) -> Path:
    return tiny_translator(tmp_path)


@pytest.mark.parametrize(("ctc", "weights"), [(True, "int8"), (False, "float16")])
def test_translators_go_there_and_back(tmp_path: Path, ctc: bool, weights: str) -> None:
    loaded = load_any(str(tiny_translator(tmp_path, ("de", "fr"), ctc, weights)))
    assert isinstance(loaded, TranslatorBundle) and loaded.config.kind == "translator" and loaded.config.model.languages == ("de", "fr")
    assert (loaded.source is not None) == (loaded.network.ctc is not None) == ctc == (loaded.folder / "source.model").exists()
    assert loaded.config.languages == ("en",) and not loaded.network.training


def test_weights_may_be_read_by_whoever_may_read_the_rest(bundle: Path) -> None:
    assert (bundle / "model.safetensors").stat().st_mode == (bundle / "config.yaml").stat().st_mode


def test_weights_that_may_not_be_read_are_not_called_missing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Path.open

    def locked(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "model.safetensors":
            raise PermissionError(13, "Permission denied")
        return usual(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(BundleError, match=r"model\.safetensors cannot be read: permission denied$"):
        load_bundle(str(bundle))


def test_kinds_are_told_apart(bundle: Path, translator: Path) -> None:
    assert "kind: recogniser" in (bundle / "config.yaml").read_text()
    edit(bundle, lambda c: c.pop("kind"))  # bundles made before there were kinds
    assert load_any(str(bundle)).config.kind == "recogniser"
    with pytest.raises(BundleError, match="translator is a translator, where a recogniser is needed"):
        load_bundle(str(translator))
    with pytest.raises(BundleError, match="bundle is a recogniser, where a translator is needed"):
        load_translator(str(bundle))


BROKEN_TRANSLATOR: dict[str, tuple[Callable[[Path], object], str]] = {
    "no source tokenizer": (lambda b: (b / "source.model").unlink(), "has no source.model"),
    "other source": (
        lambda b: edit(b, lambda c: c["model"].update(source_vocabulary=9)),
        "its source tokenizer has 40 pieces, its model 9",
    ),
    "unknown kind": (
        lambda b: edit(b, lambda c: c.update(kind="poet")),
        "unknown kind 'poet' of bundle: this riverrun knows recogniser and",
    ),
    "kind of a wrong type": (lambda b: edit(b, lambda c: c.update(kind=["translator"])), r"unknown kind \['translator'\] of bundle"),
    "kind of the other": (lambda b: edit(b, lambda c: c.update(kind="recogniser")), "unknown key 'model.attention_layer'"),
    "no such layer": (
        lambda b: edit(b, lambda c: c["model"].update(attention_layer=3)),
        "attention_layer must be one of the decoder's 2 layers",
    ),
    "a language twice": (
        lambda b: edit(b, lambda c: c["model"].update(languages=["de", "de"])),
        "a target language is named twice: de, de",
    ),
    "no past": (lambda b: edit(b, lambda c: c["model"]["decoder"].update(left=0)), "at least 1 layer and 1 label of past, not 2 and 0"),
    "more languages than tags": (
        lambda b: edit(b, lambda c: c["model"].update(languages=["de", "fr"])),
        r"decoder.embedding.weight has shape \(40, 16\), config.yaml says \(42, 16\)",
    ),
}


@pytest.mark.parametrize("case", BROKEN_TRANSLATOR)
def test_broken_translator_is_refused_in_one_line(translator: Path, case: str) -> None:
    damage, message = BROKEN_TRANSLATOR[case]
    damage(translator)
    with pytest.raises(BundleError, match=message) as caught:
        load_any(str(translator))
    assert "\n" not in str(caught.value)


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(BundleError, match="unknown model 'nope': give a bundle's folder or one of default, riverrun-en-"):
        load_bundle("nope")


def test_shipped_default_loads() -> None:
    assert load_bundle("default").folder in [folder for _, folder, _ in available()]


def test_bytes_hold_a_model_in_half_the_size(bundle: Path, tmp_path: Path) -> None:
    half = load_bundle(str(bundle))
    save_bundle(tmp_path / "small", half.config, half.network, half.tokenizer, half.card, weights="int8")
    small = load_bundle(str(tmp_path / "small"))
    stored = load_file(tmp_path / "small" / "model.safetensors")
    before, after = half.network.state_dict(), small.network.state_dict()
    for name, weight in before.items():
        rows = weight.flatten(1) if weight.dim() > 1 else None
        assert stored[name].dtype == (torch.float16 if rows is None else torch.int8) and after[name].dtype == torch.float32
        step = torch.zeros(()) if rows is None else rows.abs().amax(1) / 127
        off = (after[name] - weight).abs()
        assert (off <= (off if rows is None else (step / 2 * 1.001).reshape(-1, *[1] * (weight.dim() - 1)))).all(), name
        assert rows is not None or torch.equal(after[name], weight)
    values = sum(t.numel() for t in before.values())
    assert sum(t.numel() * t.element_size() for t in stored.values()) < 1.35 * values  # tiny rows: the scales weigh
    save_bundle(tmp_path / "again", small.config, small.network, small.tokenizer, small.card, weights="int8")
    again = load_bundle(str(tmp_path / "again")).network.state_dict()
    assert all(torch.allclose(again[name], weight, rtol=1e-6, atol=0) for name, weight in after.items())


def test_a_row_of_zeros_stays_zero_and_nan_is_refused() -> None:
    packed = storage.pack({"w": torch.tensor([[0.0, 0.0], [-2.0, 1.0]])}, "int8")
    assert packed["w"].tolist() == [[0, 0], [-127, 64]] and torch.equal(storage.unpack(packed)["w"][0], torch.zeros(2))
    for kind, weight in (("int8", torch.tensor([[torch.nan]])), ("float16", torch.tensor([1e6]))):
        with pytest.raises(ValueError, match=f"w holds weights that {kind} cannot: NaN, infinite or too large"):
            storage.pack({"w": weight}, kind)
    with pytest.raises(ValueError, match="unknown storage 'int4' of weights: choose float16 or int8"):
        storage.pack({}, "int4")
