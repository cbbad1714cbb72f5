"""Training by two processes: whole networks on each (DDP), and an encoder in pieces (FSDP2)."""

import csv
import subprocess
import sys
from pathlib import Path

import torch

from riverrun.recipes.asr.checkpoints import newest
from riverrun.speech.bundle import load_any

from .asr_trial import CONF, noise_pack, trial, written


def train(folder: Path, strategy: str, steps: int, *arguments: str) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The loss of every step, and the averaged weights after the last."""
    runs = folder / strategy
    places = {"save_dir": str(runs), "name": "log", "version": f"to-{steps}"}
    logger = {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": places}
    bundle = {"folder": str(runs / "bundle"), "tokenizer": str(folder / "tokens.model"), "name": "trial"}
    keep = {"folder": str(runs / "checkpoints"), "every": 3}
    callbacks = [
        {"class_path": "riverrun.recipes.asr.callbacks.KeepBundle", "init_args": bundle},
        {"class_path": "riverrun.recipes.asr.checkpoints.KeepCheckpoints", "init_args": keep},
    ]
    configuration = trial(folder, trainer__logger=logger, trainer__callbacks=callbacks, trainer__max_steps=steps)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "riverrun.recipes.asr", "fit"]
    command += ["--config", written(folder, configuration), "--config", str(CONF / "with" / f"{strategy}.yaml"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    with (runs / "log" / f"to-{steps}" / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file)]
    return losses, load_any(str(runs / "bundle")).network.state_dict()


def test_an_encoder_in_pieces_learns_what_a_whole_one_learns_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    noise_pack(tmp_path / "pack")
    losses, weights = train(tmp_path, "gpus", 6)
    first, _ = train(tmp_path, "fsdp", 3)
    assert newest(tmp_path / "fsdp" / "checkpoints") is not None
    then, pieces = train(tmp_path, "fsdp", 6, "--ckpt_path", "last")
    torch.testing.assert_close(torch.tensor(first + then), torch.tensor(losses), rtol=1e-4, atol=1e-4)
    # a bundle's are rounded to half precision, and AdamW takes a whole step where a gradient is no more than rounding
    torch.testing.assert_close(pieces, weights, rtol=0.0, atol=5e-3)
