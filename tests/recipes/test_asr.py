"""The training recipe, thin: batches are what they should be, and a few steps through the real command leave a bundle that loads."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from riverrun.recipes.asr.corpus import DeviceCorpus, Source, read_part
from riverrun.recipes.asr.plan import Plan
from riverrun.recipes.corpora.packed import PackWriter
from riverrun.speech import load

from ..tiny import tiny_tokenizer

SENTENCES = ["the quick brown fox", "the lazy dog", "all the other animals look on", "such a waste of effort"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asr")
    tiny_tokenizer(folder)
    writer = PackWriter(folder / "pack")
    for i in range(24):
        samples = (np.random.default_rng(i).normal(0, 3000, 16000 + 4000 * (i % 7))).astype(np.int16)
        writer.add(samples, {"id": str(i), "text": SENTENCES[i % 4]})
    writer.close()
    return folder


def corpus(folder: Path) -> DeviceCorpus:
    held = DeviceCorpus(torch.device("cpu"))
    held.add([(read_part(Source(str(folder / "pack")), tiny_tokenizer(folder), 16.0), True)])
    return held


def test_batches_hold_the_audio_and_the_labels(folder: Path) -> None:
    held = corpus(folder)
    batch = held.batch(torch.tensor([3, 0]), 40000, torch.ones(2), held.most_labels(np.array([3, 0])))
    pack = np.fromfile(folder / "pack" / "audio.raw", np.int16)
    start, size = int(held.start[3]), int(held.samples[3])
    np.testing.assert_allclose(batch.audio[0, : size - 1] * 32768, pack[start : start + size - 1], atol=0.01)
    assert batch.samples.tolist() == [size - 1, 15999] and not batch.audio[1, 16000:].any()
    assert tiny_tokenizer(folder).decode(batch.labels[0, : batch.counts[0]].tolist()) == SENTENCES[3]


def test_faster_speech_is_shorter(folder: Path) -> None:
    held = corpus(folder)
    assert held.batch(torch.tensor([0]), 40000, torch.tensor([1.25]), 8).samples.item() == 16000 / 1.25 - 1
    slowed = held.batch(torch.tensor([0]), 16000, torch.tensor([0.5]), 8)  # would not fit: played only as slowly as fits
    assert slowed.samples.item() == 15999


def test_plan_is_repeatable_and_keeps_to_its_buckets(folder: Path) -> None:
    held = corpus(folder)
    plan = Plan(held.seconds, held.repeat, held.owner, [1.5, 2.0], 6.0, 0.1, (5, 0))
    first, again = (list(itertools.islice(plan, 12)) for _ in range(2))
    assert all(torch.equal(a, b) and torch.equal(u, v) and m == n for (a, u, m), (b, v, n) in zip(first, again, strict=True))
    for index, _, size in first:
        assert size in (24000, 32000) and (held.samples[index] <= size).all() and len(index) == int(6.0 / (size / 16000))


def test_training_leaves_a_bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = str(folder / "tokens.model")
    encoder = {"dim": 16, "layers": 1, "heads": 2, "feed_forward": 16, "kernel": 3, "subsampling_channels": 2}
    keep = {"folder": str(folder / "bundle"), "tokenizer": tokenizer, "name": "trial", "every": 2}
    configuration = {
        "model": {
            "model": {"vocabulary": 40, "encoder": encoder, "transducer": {"dim": 8, "joiner": 8}},
            "optimisation": {"warmup": 2, "steps": 4},
            "augmentation": {"begin": 0, "full": 1},
        },
        "data": {"sources": [{"path": str(folder / "pack")}], "tokenizer": tokenizer, "budget_s": 6, "short_epochs": 0},
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 4,
            "limit_train_batches": 2,
            "reload_dataloaders_every_n_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "riverrun.recipes.asr.callbacks.KeepBundle", "init_args": keep}],
        },
    }
    (folder / "trial.yaml").write_text(yaml.safe_dump(configuration))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["asr", "fit", "--config", str(folder / "trial.yaml")])
    from riverrun.recipes.asr.__main__ import main

    main()
    model = load(str(folder / "bundle"))
    assert model.info["description"] == "after 4 steps" and model.info["vocabulary"] == 40
    model.transcribe(np.zeros(16000, np.float32))
