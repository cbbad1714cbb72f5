"""What the tests of the recogniser's recipe share: a tiny tokenizer, packed corpora of noise, and the command line."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from riverrun.recipes.corpora.packed import PackWriter

from ..tiny import tiny_tokenizer

CONF = Path(__file__).parents[2] / "recipes" / "asr" / "conf"
CLIPS = Path(__file__).parents[1] / "data" / "clips.jsonl"
SENTENCES = ["the quick brown fox", "the lazy dog", "all the other animals look on", "such a waste of effort"]


def noise_pack(folder: Path, utterances: int = 24, seed: int = 0) -> Path:
    """A packed corpus of noise, 1 to 2.5 s an utterance, with sentences that `tiny_tokenizer` can spell."""
    writer = PackWriter(folder)
    for i in range(utterances):
        samples = np.random.default_rng([seed, i]).normal(0, 3000, 16000 + 4000 * (i % 7)).astype(np.int16)
        writer.add(samples, {"id": f"{folder.name}-{i}", "text": SENTENCES[i % 4]})
    writer.close()
    return folder


def trial(folder: Path, **changes: Any) -> dict[str, Any]:
    """A configuration of a few thousand parameters over ``folder``/pack, with `changes` to dotted keys written with double underscores."""
    if not (folder / "tokens.model").exists():
        tiny_tokenizer(folder)
    encoder = {"dim": 16, "layers": 2, "heads": 2, "feed_forward": 16, "kernel": 3, "subsampling_channels": 2}
    configuration: dict[str, Any] = {
        "seed_everything": 1,
        "model": {
            "model": {"vocabulary": 40, "encoder": encoder, "transducer": {"dim": 8, "joiner": 8}},
            "optimisation": {"warmup": 2, "steps": 40},
            "augmentation": {"begin": 0, "full": 1},
            "objective": {"intermediate": [1], "label_dropout": 0.1},
        },
        "data": {"sources": [{"path": str(folder / "pack")}], "tokenizer": str(folder / "tokens.model"), "budget_s": 6, "short_epochs": 0},
        "trainer": {
            "accelerator": "cpu",
            "default_root_dir": str(folder),
            "max_steps": 4,
            "limit_train_batches": 2,
            "reload_dataloaders_every_n_epochs": 1,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    for key, value in changes.items():
        *groups, last = key.split("__")
        place = configuration
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return configuration


def written(folder: Path, configuration: dict[str, Any]) -> str:
    """The path of the configuration as a YAML file."""
    path = folder / f"trial-{abs(hash(json.dumps(configuration)))}.yaml"
    path.write_text(yaml.safe_dump(configuration))
    return str(path)


def run(arguments: list[str]) -> int:
    """The exit status of ``python -m riverrun.recipes.asr`` with these arguments, run in this process."""
    from riverrun.recipes.asr.__main__ import main

    before, sys.argv = sys.argv, ["asr", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0
