"""The training command itself: it learns, it can be killed and goes on, it survives a full disk, and it says what is wrong."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from riverrun.recipes.asr import module as asr_module
from riverrun.recipes.asr.checkpoints import CheckpointFiles, newest
from riverrun.speech import load

from .asr_trial import CLIPS, CONF, noise_pack, run, trial, written

TOKENIZER = Path(load.__code__.co_filename).parent / "pretrained" / "riverrun-en-de" / "source.model"


def metrics(folder: Path) -> list[dict[str, str]]:
    rows = []
    for version in sorted((folder / "lightning_logs").iterdir()):
        with (version / "metrics.csv").open() as file:
            rows += [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asr")
    noise_pack(folder / "pack")
    return folder


def test_the_trial_configuration_learns_real_recordings_by_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tokenizer.model").write_bytes(TOKENIZER.read_bytes())
    Path("broken.ogg").write_bytes(b"OggS, but no more")
    clips = [json.loads(line) for line in CLIPS.read_text().splitlines()]
    rows = [{**clip, "audio": str(CLIPS.parent / clip["audio"])} for clip in clips] + [{"id": "b", "audio": "broken.ogg", "text": "lost"}]
    Path("clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = ["--data.sources", '[{"path": "clips.jsonl"}]', "--data.dev", '{"clips": "clips.jsonl"}', "--data.predict", "clips.jsonl"]
    assert run(["fit", "--config", str(CONF / "tiny.yaml"), *sets]) == 0
    rates = [row for row in metrics(tmp_path / "runs" / "tiny") if "dev/wer/clips/full" in row][-1]
    assert [float(rates[f"dev/wer/clips/{latency}"]) for latency in ("full", "640", "320")] == [0, 0, 0]
    model = load("runs/tiny/bundle")
    heard = [model.transcribe(row["audio"], latency_ms=640).text for row in rows[:2]]
    assert heard == ["he had fulfilled his duty and paid properly", "and he thought of oona and of her words"]


def resumable(folder: Path, logs: str) -> dict[str, object]:
    logger = {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": logs, "flush_logs_every_n_steps": 1}}
    keep = {"class_path": "riverrun.recipes.asr.checkpoints.KeepCheckpoints", "init_args": {"folder": f"{logs}/kept", "every": 7}}
    return trial(folder, trainer__logger=logger, trainer__callbacks=[keep], trainer__limit_train_batches=10, trainer__max_steps=24)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "riverrun.recipes.asr", "fit", "--ckpt_path", "last"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # of all three runs: how many threads share a sum decides its last digit
    whole = written(folder, resumable(folder, str(tmp_path / "whole")))
    broken = written(folder, resumable(folder, str(tmp_path / "broken")))
    subprocess.run([*command, "--config", whole], check=True, env=environment, capture_output=True)
    endless = subprocess.Popen(
        [*command, "--config", broken, "--trainer.max_steps", "1000000"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while newest(tmp_path / "broken" / "kept") is None:
        assert endless.poll() is None
        time.sleep(0.01)
    endless.send_signal(signal.SIGKILL)
    endless.wait()
    last = newest(tmp_path / "broken" / "kept")
    assert last is not None and int(last.stem.removeprefix("step-")) % 10  # in the middle of an epoch
    for newer in (tmp_path / "broken" / "kept").glob("*.part"):  # what was being written when the process died
        assert newer.name.endswith(".ckpt.part")
    subprocess.run([*command, "--config", broken], check=True, env=environment, capture_output=True)
    expected, found = metrics(tmp_path / "whole"), metrics(tmp_path / "broken")
    assert [row["step"] for row in expected] == [str(i) for i in range(24)]
    resumed = found[-(24 - int(last.stem.removeprefix("step-"))) :]
    assert resumed == expected[-len(resumed) :]  # every loss, to the last digit
    before = {row["step"]: row for row in found[: -len(resumed)]}
    assert all(before[row["step"]] == row for row in expected if row["step"] in before)


def test_two_processes_train_one_model(folder: Path, tmp_path: Path) -> None:
    configuration = resumable(folder, str(tmp_path / "two"))
    data, trainer = configuration["data"], configuration["trainer"]
    assert isinstance(data, dict) and isinstance(trainer, dict)
    data["dev"] = {"pack": str(folder / "pack")}
    trainer |= {"devices": 2, "strategy": "ddp", "max_steps": 8, "limit_train_batches": 4}
    keep = {"folder": str(tmp_path / "bundle"), "tokenizer": str(folder / "tokens.model"), "name": "two"}
    trainer["callbacks"] += [
        {"class_path": "riverrun.recipes.asr.guard.Guard", "init_args": {"every": 3}},
        {"class_path": "riverrun.recipes.asr.callbacks.KeepBundle", "init_args": keep},
        {"class_path": "riverrun.recipes.asr.callbacks.FinishBy", "init_args": {"minutes": 60, "every": 3}},
    ]
    command = [sys.executable, "-m", "riverrun.recipes.asr", "fit", "--config", written(folder, configuration)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=120)
    rows = metrics(tmp_path / "two")
    assert [row["step"] for row in rows if "train/loss" in row] == [str(i) for i in range(8)]
    assert sum("dev/wer/pack/full" in row for row in rows) == 2
    assert load(str(tmp_path / "bundle")).info["description"] == "after 8 steps"


def test_a_full_disk_costs_a_checkpoint_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = CheckpointFiles()
    files.save_checkpoint({"x": torch.ones(2)}, tmp_path / "step-00000001.ckpt")
    (tmp_path / "step-00000002.ckpt.part").symlink_to("/dev/full")  # a real disk without space
    with caplog.at_level(logging.ERROR):
        files.save_checkpoint({"x": torch.zeros(10000)}, tmp_path / "step-00000002.ckpt")
    assert "No space left on device" in caplog.text and f"the last good checkpoint is {tmp_path / 'step-00000001.ckpt'}" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.ckpt"]
    assert files.load_checkpoint(tmp_path / "step-00000001.ckpt")["x"].tolist() == [1, 1]


@pytest.mark.parametrize(("most", "status", "steps"), [(1, 2, 6), (5, 0, 8)])
def test_losses_that_are_no_numbers_are_named_and_do_no_harm(
    most: int, status: int, steps: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    guard = {"class_path": "riverrun.recipes.asr.guard.Guard", "init_args": {"every": 6, "most": most}}
    keep = {"class_path": "riverrun.recipes.asr.checkpoints.KeepCheckpoints", "init_args": {"folder": str(tmp_path / "kept"), "every": 4}}
    right: Callable[..., dict[str, Tensor]] = asr_module.losses_of

    def wrong(*arguments: object) -> dict[str, Tensor]:
        losses = right(*arguments)
        step = arguments[-1]
        return {name: value * float("nan") if step in (3, 4) and name != "ctc" else value for name, value in losses.items()}

    monkeypatch.setattr(asr_module, "losses_of", wrong)
    configuration = written(folder, trial(folder, trainer__callbacks=[keep, guard], trainer__max_steps=8, trainer__limit_train_batches=4))
    with caplog.at_level(logging.WARNING):
        assert run(["fit", "--config", configuration]) == status
    assert "step 3 of rank 0: " in caplog.text and "transducer nan" in caplog.text and "pack: pack-" in caplog.text
    if status:
        error = capsys.readouterr().err
        assert "2 of the last 6 steps had no finite" in error and f"{tmp_path}/kept/step-00000004.ckpt" in error
    state = CheckpointFiles().load_checkpoint(newest(tmp_path / "kept"))["state_dict"]
    assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())


def test_an_encoder_that_grows_is_guarded_before_and_after_it_gets_new_losses(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right: Callable[..., dict[str, Tensor]] = asr_module.losses_of

    def wrong(*arguments: object) -> dict[str, Tensor]:
        return {name: value * float("nan") if arguments[-1] in (2, 5) else value for name, value in right(*arguments).items()}

    monkeypatch.setattr(asr_module, "losses_of", wrong)
    guard = {"class_path": "riverrun.recipes.asr.guard.Guard", "init_args": {"every": 20}}
    stages = [{"until": 4, "layers": 1, "pool": 2}]
    changes = {"trainer__callbacks": [guard], "trainer__max_steps": 20, "model__model__encoder__layers": 3}
    changes |= {"model__growth": {"stages": stages}, "model__objective__intermediate": [2]}
    with caplog.at_level(logging.WARNING):
        assert run(["fit", "--config", written(folder, trial(folder, **changes))]) == 0
    said = [message for message in caplog.messages if " of rank 0: " in message]
    assert len(said) == 2
    assert said[0].startswith("step 2 of") and "intermediate" not in said[0]
    assert said[1].startswith("step 5 of") and "intermediate nan" in said[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model__optimisation__peek": 1e-3}, "does not accept option 'model.optimisation.peek'"),
        ({"data__tokenizer": "nowhere.model"}, "the tokenizer nowhere.model cannot be used: No such file"),
        ({"data__sources": [{"path": "nowhere"}]}, "there is nothing to train on"),
        ({"data__watch": "somewhere"}, "data.watch needs data.hours_on_device"),
        ({"data__hours_on_device": 0.001}, "does not fit into hours_on_device"),
        ({"model__model__vocabulary": 41}, "the tokenizer has 40 pieces, the network 41: set model.model.vocabulary to 40"),
        ({"model__model__encoder__heads": 3}, "3 heads do not divide a model size of 16"),
        ({"model__model__encoder__attention": "chunkd"}, "unknown attention 'chunkd': choose from chunked"),
        ({"model__objective__transducer": "prunned"}, "objective.transducer must be full, pruned or k2, not 'prunned'"),
        ({"model__objective__transducer": "k2"}, "the pruned loss of k2 needs k2"),
        (
            {"model__objective__transducer": "pruned", "model__model__transducer": None},
            "objective.transducer is pruned, but the network has no transducer",
        ),
        ({"model__objective__intermediate": [2]}, "objective.intermediate names layer 2; the encoder's inner layers are 1 to 1"),
        ({"model__measuring__latencies": ["300"]}, "measuring.latencies are 'full' or multiples of 40 ms, not '300'"),
        ({"model__growth__stages": [{"until": 5, "layers": 2}, {"until": 9, "layers": 1}]}, "never lose layers"),
        ({"model__init": "nowhere"}, "unknown model 'nowhere'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_configuration_is_one_line(
    change: dict[str, object], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fit", "--config", written(folder, trial(folder, **change))]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
