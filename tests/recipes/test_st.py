"""The translation recipe: batches hold both texts, the answers are right, and the real command learns a few pairs by heart."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from riverrun.recipes.corpora.packed import PackWriter
from riverrun.recipes.st.data import StData
from riverrun.recipes.st.hour import samples, watch
from riverrun.recipes.st.module import IGNORED, StObjective, shorten, smoothed_cross_entropy, teach
from riverrun.recipes.st.pairs import PairBatch, PairReader, Source
from riverrun.recipes.st.tokenizer import TextFileError, read_pairs, train_tokenizer
from riverrun.speech import load

from ..streaming.fake_translator import fake_translator, speak
from ..tiny import tiny_tokenizer

SENTENCES = ["the quick brown fox", "the lazy dog", "all the other animals look on", "such a waste of effort"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones whose pitch says which sentence they are, with another sentence for a translation."""
    folder = tmp_path_factory.mktemp("st")
    tiny_tokenizer(folder)
    writer = PackWriter(folder / "pack")
    for i in range(16):
        tone = 8000 * np.sin(np.arange(16000 + 2000 * (i % 4)) * 2 * np.pi * (200 + 400 * (i % 4)) / 16000)
        noise = np.random.default_rng(i).normal(0, 100, len(tone))
        row = {"id": str(i), "text": SENTENCES[i % 4], "translation": SENTENCES[(i + 1) % 4], "target_lang": "de"}
        writer.add((tone + noise).astype(np.int16), row)
    writer.add(np.zeros(16000, np.int16), {"id": "fr", "text": SENTENCES[0], "translation": SENTENCES[1], "target_lang": "fr"})
    writer.add(np.zeros(16000, np.int16), {"id": "none", "text": SENTENCES[0]})
    writer.add(np.zeros(16000, np.int16), {"id": "long", "text": SENTENCES[0], "translation": "z" * 60, "target_lang": "de"})
    writer.close()
    return folder


def test_reader_takes_what_has_a_translation_that_is_wanted(folder: Path) -> None:
    tokenizer = tiny_tokenizer(folder)
    part = PairReader(tokenizer, tokenizer, ("fr", "de"), 3.0, 50).read(Source(str(folder / "pack")))
    assert part.left_out == 2 and part.languages.tolist() == [1] * 16 + [0]
    assert [tokenizer.decode(row[:n].tolist()) for row, n in zip(part.targets, part.target_counts, strict=True)] == list(part.references)
    assert part.references[:2] == (SENTENCES[1], SENTENCES[2])


def test_a_batch_has_room_for_its_translations(folder: Path) -> None:
    tokens = str(folder / "tokens.model")
    data = StData([Source(str(folder / "pack"))], tokens, tokens, buckets=[1.28, 2.56], labels_per_second=12.0)
    corpus = data.corpus(torch.device("cpu"))
    buckets = np.searchsorted([1.28, 2.56], corpus.seconds)
    for i, bucket in enumerate(buckets):
        index = torch.tensor([i])
        planned = (index, torch.ones(1), int([1.28, 2.56][bucket] * 16000), 16)
        batch = data.on_after_batch_transfer(planned, 0)
        assert batch.targets.shape[1] % 8 == 7 and batch.target_counts[0] <= batch.targets.shape[1]
        assert data.target.decode(batch.targets[0, : batch.target_counts[0]].tolist()) == SENTENCES[(i + 1) % 4]
    needs_room = data.corpus(torch.device("cpu")).label_counts[[(i + 1) % 4 for i in range(16)]] > 15
    too_long = np.array([(16000 + 2000 * (i % 4)) / 16000 > 1.28 for i in range(16)])
    assert (buckets == (needs_room | too_long)).all() and (needs_room & ~too_long).any() and not buckets.all()


def test_answers_follow_the_labels_and_end() -> None:
    targets, counts = torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([3, 1])
    inputs, answers, lengths = teach(targets, counts)
    assert inputs.tolist() == [[0, 5, 6, 7], [0, 8, 0, 0]] and lengths.tolist() == [4, 2]
    assert answers.tolist() == [[5, 6, 7, 0], [8, 0, IGNORED, IGNORED]]
    inputs, answers, lengths = teach(targets, counts, tags=torch.tensor([41, 40]))
    assert inputs.tolist() == [[0, 41, 5, 6, 7], [0, 40, 8, 0, 0]] and lengths.tolist() == [5, 3]
    assert answers.tolist() == [[IGNORED, 5, 6, 7, 0], [IGNORED, 8, 0, IGNORED, IGNORED]]
    _, answers, _ = teach(targets, counts, kept=torch.tensor([2, 0]))  # of a prefix no end is asked for
    assert answers.tolist() == [[5, 6, IGNORED, IGNORED], [IGNORED] * 4]


def test_smoothed_cross_entropy_is_the_formula() -> None:
    scores = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    answers = torch.tensor([[1, 4, IGNORED], [0, IGNORED, IGNORED]])
    likely, asked = scores.float().log_softmax(-1), answers != IGNORED
    right = likely.gather(2, answers.clamp(min=0)[..., None])[..., 0]
    want = -(0.9 * right + 0.1 * likely.mean(-1))[asked].mean()
    torch.testing.assert_close(smoothed_cross_entropy(scores, answers, 0.1), want)


def test_prefixes_keep_the_same_share_of_both_sides() -> None:
    audio, samples = torch.ones(64, 1000), torch.full((64,), 1000)
    batch = PairBatch(audio, samples, samples[:, None], samples, torch.ones(64, 10), torch.full((64,), 10), samples * 0)
    cut, kept = shorten(batch, 0.2)
    assert ((cut.samples >= 200) & (cut.samples <= 1000)).all() and len(cut.samples.unique()) > 8
    assert (kept - cut.samples / 100).abs().max() <= 1 and torch.equal(cut.audio.sum(1).long(), cut.samples)
    with pytest.raises(ValueError, match="are shares of 1, not 1.5 and 0.2"):
        StObjective(prefixes=1.5)


def test_tokenizer_keeps_its_first_ids_and_names_no_place(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("Go.\tGeh, größer!\nHi.\tHallo, du da!\n", encoding="utf-8")
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"text": "Go.", "translation": "Geh."}) + "\n{}\n", encoding="utf-8")
    texts = [target for _, target in read_pairs(tmp_path / "pairs.tsv")]
    tokenizer = train_tokenizer(texts, 19)
    assert len(tokenizer) == 19 and tokenizer.piece(0) == "<blk>" and tokenizer.unknown == 1
    assert tokenizer.decode(tokenizer.encode(texts[0])) == texts[0] and str(tmp_path).encode() not in tokenizer.data
    assert train_tokenizer(texts, 19).data == tokenizer.data
    with pytest.raises(TextFileError, match="pairs.jsonl, line 2 holds no pair of a text and its translation"):
        list(read_pairs(tmp_path / "pairs.jsonl"))
    with pytest.raises(TextFileError, match="cannot be read"):
        list(read_pairs(tmp_path / "none.tsv"))
    with pytest.raises(ValueError, match="no tokenizer of 4000 pieces can be made of these 2 texts: Vocabulary size too high"):
        train_tokenizer(texts, 4000)


def test_training_learns_a_few_pairs_by_heart(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    tokens = str(folder / "tokens.model")
    encoder = {"dim": 16, "layers": 1, "heads": 2, "feed_forward": 32, "kernel": 3, "subsampling_channels": 4, "dropout": 0.0}
    decoder = {"dim": 32, "layers": 2, "heads": 2, "feed_forward": 64, "left": 48, "dropout": 0.0}
    names = {"tokenizer": tokens, "source_tokenizer": tokens}
    keep = {"folder": str(folder / "bundle"), **names, "name": "trial", "every": 1000, "weights": "int8"}
    configuration = {
        "model": {
            "model": {
                "vocabulary": 40, "source_vocabulary": 40, "languages": ["de"], "attention_layer": 2,
                "encoder": encoder, "decoder": decoder,
            },
            "optimisation": {"peak": 5e-3, "warmup": 20, "steps": 160, "average": 0.9},
            "augmentation": {"begin": 1000, "full": 2000},
            "objective": {"smoothing": 0.0, "prefixes": 0.1},
        },
        "data": {
            "sources": [{"path": str(folder / "pack")}], **names, "dev": str(folder / "pack"), "buckets": [1.6, 3.2], "budget_s": 12.8,
            "labels_per_second": 24.0, "speed": 0.0,
        },
        "trainer": {
            "accelerator": "cpu", "max_steps": 160, "limit_train_batches": 160, "reload_dataloaders_every_n_epochs": 1,
            "num_sanity_val_steps": 0, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [{"class_path": "riverrun.recipes.st.callbacks.KeepTranslator", "init_args": keep}],
        },
    }  # fmt: skip
    (folder / "trial.yaml").write_text(yaml.safe_dump(configuration))
    monkeypatch.chdir(folder)
    from riverrun.recipes.st.__main__ import command_line
    from riverrun.recipes.st.measure import main as measure

    cli = command_line(["fit", "--config", str(folder / "trial.yaml")])
    assert cli.trainer.callback_metrics["val/bleu"] > 90
    model = load(str(folder / "bundle"))
    assert model.info["description"] == "after 160 steps" and model.info["target_languages"] == ["de"]
    assert (
        measure([str(folder / "pack"), "--model", str(folder / "bundle"), "--latency", "full", "160", "--beam", "2", "--threads", "1"]) == 0
    )
    out = capsys.readouterr().out
    rows = [line.split("|") for line in out.splitlines() if line.startswith("| pack")]
    assert len(rows) == 2 and float(rows[0][5]) > 90 and "tok:13a" in out
    assert measure(["--model", "nope", str(folder / "pack")]) == 2
    assert "unknown model 'nope'" in capsys.readouterr().err


def test_a_long_stream_is_watched_minute_by_minute() -> None:
    audio = (speak([1, 2, 3, 9] * 160) * 32767).astype("<i2")  # 128 s
    pieces = samples(io.BytesIO(audio.tobytes() + b"x"), 5000)
    rows = list(watch(fake_translator("streamatt:frames=4", silence_s=1.2), pieces))
    assert [row.minute for row in rows] == [1, 2] and all(row.cpu_s > 0 and row.resident_mb >= 0 for row in rows)
    assert all(row.words == pytest.approx(225, abs=4) for row in rows)
    assert rows[1].saved_kb == pytest.approx(rows[0].saved_kb, rel=0.1)
