"""Training data of the recogniser's recipe: batches, their order, memory on the device, corpora that come late; the bundle in the end."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from riverrun.recipes.asr.corpus import DeviceCorpus, Source, read_part
from riverrun.recipes.asr.data import AsrData
from riverrun.recipes.asr.plan import Plan, Planned
from riverrun.recipes.asr.recordings import Recordings
from riverrun.speech import load
from riverrun.speech.audio import AudioError
from riverrun.speech.tokenizer import Tokenizer

from ..tiny import tiny_tokenizer
from .asr_trial import CLIPS, SENTENCES, noise_pack, run, trial, written

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asr")
    tiny_tokenizer(folder)
    noise_pack(folder / "pack")
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(folder / "tokens.model")


@pytest.fixture(scope="module")
def held(folder: Path, tokenizer: Tokenizer) -> DeviceCorpus:
    held = DeviceCorpus(CPU)
    held.add([(read_part(Source(str(folder / "pack")), tokenizer, 16.0), True)])
    return held


def test_batches_hold_the_audio_and_the_labels(folder: Path, held: DeviceCorpus, tokenizer: Tokenizer) -> None:
    batch = held.batch(torch.tensor([3, 0]), 40000, torch.ones(2), held.most_labels(np.array([3, 0])))
    pack = np.fromfile(folder / "pack" / "audio.raw", np.int16)
    start, size = int(held.start[3]), int(held.samples[3])
    np.testing.assert_allclose(batch.audio[0, : size - 1] * 32768, pack[start : start + size - 1], atol=0.01)
    assert batch.samples.tolist() == [size - 1, 15999] and not batch.audio[1, 16000:].any()
    assert tokenizer.decode(batch.labels[0, : batch.counts[0]].tolist()) == SENTENCES[3]
    assert held.name(3).endswith("pack: pack-3")


def test_faster_speech_is_shorter(held: DeviceCorpus) -> None:
    assert held.batch(torch.tensor([0]), 40000, torch.tensor([1.25]), 8).samples.item() == 16000 / 1.25 - 1
    slowed = held.batch(torch.tensor([0]), 16000, torch.tensor([0.5]), 8)  # would not fit: played only as slowly as fits
    assert slowed.samples.item() == 15999


def same(a: Planned, b: Planned) -> bool:
    return torch.equal(a.utterances, b.utterances) and torch.equal(a.speed, b.speed) and a.samples == b.samples


def test_the_plan_is_repeatable_keeps_to_its_buckets_and_leaves_nothing_out(held: DeviceCorpus) -> None:
    def plan(skip: int = 0) -> Plan:
        return Plan(held.seconds, held.repeat, held.owner, [1.5, 2.0], 6.0, 0.1, (5, 0), skip=skip)

    first = list(itertools.islice(plan(), 30))
    assert all(map(same, first, plan()))
    for skip in (1, 7, 29):
        assert same(first[skip], next(iter(plan(skip))))
    for index, speed, size in first:
        assert size in (24000, 32000) and (held.samples[index] <= size).all() and len(index) == int(6.0 / (size / 16000))
        assert (abs(speed - 1) <= 0.1).all()
    short = np.flatnonzero(held.seconds <= 2.0)
    turn = len(plan()._turn(0))
    assert set(torch.cat([batch.utterances for batch in first[:turn]]).tolist()) == set(short)


def test_ranks_share_a_corpus_and_step_in_the_same_shapes(folder: Path, tokenizer: Tokenizer) -> None:
    heard: set[int] = set()
    shapes = []
    for rank in range(3):
        held = DeviceCorpus(CPU)
        held.add([(read_part(Source(str(folder / "pack")), tokenizer, 16.0, rank, 3), True)])
        plan = Plan(held.seconds, held.repeat, held.owner, [1.5, 2.5], 5.0, 0.1, (1, 0), rank, 3)
        batches = list(itertools.islice(plan, 12))
        shapes.append([(len(batch.utterances), batch.samples) for batch in batches])
        mine = set(torch.cat([batch.utterances for batch in batches]).tolist())
        assert not mine & heard and {held.owner[i] for i in mine} == {rank}
        heard |= mine
        index = batches[0].utterances
        batch = held.batch(index, batches[0].samples, torch.ones(len(index)), 24)
        pack = np.fromfile(folder / "pack" / "audio.raw", np.int16)
        whole = read_part(Source(str(folder / "pack")), tokenizer, 16.0)
        expected = pack[whole.start[index[0]] :][: int(batch.samples[0])]
        np.testing.assert_allclose(batch.audio[0, : len(expected)] * 32768, expected, atol=0.01)
    assert shapes[0] == shapes[1] == shapes[2]
    assert heard == set(range(24))


def test_new_corpora_take_the_place_of_the_oldest_in_memory(tmp_path: Path, tokenizer: Tokenizer) -> None:
    parts = {name: read_part(Source(str(noise_pack(tmp_path / name, 8, seed))), tokenizer, 16.0) for seed, name in enumerate("abcde")}
    seconds = len(parts["a"].audio) / 16000
    held = DeviceCorpus(CPU, 3.5 * seconds / 3600)
    memory = held.audio.data_ptr()
    assert held.add([(parts["a"], True), (parts["b"], False), (parts["c"], False)])[1] == []
    gone = held.add([(parts["d"], False)])[1]
    assert gone == [parts["b"].source] and held.audio.data_ptr() == memory
    assert held.add([(parts["e"], False)])[1] == [parts["c"].source]
    assert abs(held.hours - 3 * seconds / 3600) < 1e-6 and [part.source for part in held.parts] == [parts[n].source for n in "ade"]
    for i, name in enumerate("ade"):
        batch = held.batch(torch.tensor([8 * i + 3]), 40000, torch.ones(1), 8)
        start, size = parts[name].start[3], int(batch.samples[0])
        np.testing.assert_allclose(batch.audio[0, :size] * 32768, parts[name].audio[start : start + size], atol=0.01)
    with pytest.raises(ValueError, match="does not fit into hours_on_device: .* of which .* h are taken for good"):
        held.add([(parts["b"], True), (parts["c"], True), (parts["d"], True)])


def test_a_watched_folder_is_looked_through_between_epochs(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise_pack(tmp_path / "watch" / "first", 8)
    (tmp_path / "watch" / "half").mkdir()
    (tmp_path / "watch" / "bad").mkdir()
    (tmp_path / "watch" / "bad" / "manifest.jsonl").write_text('{"audio": "no.raw", "offset": 0, "samples": 5, "text": "x"}\n')
    data = AsrData([], str(folder / "tokens.model"), watch=str(tmp_path / "watch"), hours_on_device=0.1)
    assert len(data.corpus(CPU).seconds) == 8
    assert f"{tmp_path / 'watch' / 'bad'} is left out" in caplog.text
    noise_pack(tmp_path / "watch" / "half", 8, 1)
    assert len(data.corpus(CPU).seconds) == 8  # found, and read beside training
    data.arrivals._reading[0][2].result()
    assert len(data.corpus(CPU).seconds) == 16
    again = AsrData([], str(folder / "tokens.model"), watch=str(tmp_path / "watch"), hours_on_device=0.1)
    again.load_state_dict(json.loads(json.dumps(data.state_dict())))
    noise_pack(tmp_path / "watch" / "later", 8, 2)
    assert np.array_equal(again.corpus(CPU).seconds, data.corpus(CPU).seconds)  # the epoch that was interrupted, as it was


def test_recordings_that_cannot_be_read_are_named(
    tmp_path: Path, folder: Path, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.ogg").write_bytes(b"OggS\0 and nothing more")
    clip = json.loads(CLIPS.read_text().splitlines()[0])
    rows = [{**clip, "audio": str(CLIPS.parent / clip["audio"])}, {"id": "b", "audio": "broken.ogg", "text": "lost"}]
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    part = read_part(Source(str(tmp_path / "clips.jsonl")), tokenizer, 16.0)
    assert part.names == (clip["id"],) and len(part.skipped) == 1 and str(tmp_path / "broken.ogg") in part.skipped[0]
    data = AsrData([part.source], str(folder / "tokens.model"))
    assert len(data.corpus(CPU).seconds) == 1
    assert "broken.ogg" in caplog.text and "0 of 1 utterances left out" in caplog.text and "1 manifest lines skipped" in caplog.text
    (tmp_path / "clips.jsonl").write_text(json.dumps(rows[1]) + "\n")
    with pytest.raises(AudioError, match="none of its 1 recordings can be read; the first: .*broken.ogg"):
        Recordings(tmp_path / "clips.jsonl")


def test_training_leaves_a_bundle(folder: Path, tmp_path: Path) -> None:
    keep = {"folder": str(tmp_path / "bundle"), "tokenizer": str(folder / "tokens.model"), "name": "trial", "every": 2}
    callbacks = [{"class_path": "riverrun.recipes.asr.callbacks.KeepBundle", "init_args": keep}]
    assert run(["fit", "--config", written(folder, trial(folder, trainer__callbacks=callbacks))]) == 0
    model = load(str(tmp_path / "bundle"))
    assert model.info["description"] == "after 4 steps" and model.info["vocabulary"] == 40
    model.transcribe(np.zeros(16000, np.float32))
