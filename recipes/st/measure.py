"""Offline BLEU and chrF of a translator on several sets, latencies and beams: the table of its card.

``python -m riverrun.recipes.st.measure --model runs/en-de --latency full 640 --beam 1 4 st-test``: every recording is heard to its
end, then translated. A set is a packed corpus, or a manifest in JSON Lines whose entries carry ``translation``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from riverrun.speech.audio import read_audio
from riverrun.speech.bundle import load_translator
from riverrun.speech.manifest import read_manifest
from riverrun.speech.scoring import score_translations
from riverrun.speech.translation import SearchConfig
from riverrun.speech.translation_model import TranslationModel

from ..corpora.packed import SAMPLE_RATE, PackedCorpus


@dataclass(frozen=True)
class Spoken:
    """One recording, float32 or int16 at 16 kHz, and what its translation should be."""

    audio: np.ndarray
    translation: str


def read_set(path: Path, language: str) -> list[Spoken]:
    """The recordings of a packed corpus or manifest that have a translation into ``language`` (or do not say into what).

    Raises:
        ValueError: the set cannot be read, or has none.
    """
    if path.is_dir():
        corpus = PackedCorpus(path)
        spoken = [(u.row, lambda u=u: corpus.samples_of(u)) for u in corpus]
    else:
        spoken = [(entry.extra, lambda entry=entry: read_audio(entry.audio)) for entry in read_manifest(path)]
    found = [
        Spoken(audio(), row["translation"])
        for row, audio in spoken
        if isinstance(row.get("translation"), str) and row.get("target_lang", language) == language
    ]
    if not found:
        raise ValueError(f"{path} has no translation into {language}")
    return found


def measure(
    model: TranslationModel, spoken: Sequence[Spoken], language: str, latency_ms: Any, search: SearchConfig, batch: int
) -> tuple[dict[str, Any], list[str]]:
    """Scores of one model on one set under one setting, and what it wrote."""
    began = time.perf_counter()
    written: list[str] = [""] * len(spoken)
    order = sorted(range(len(spoken)), key=lambda i: len(spoken[i].audio))  # alike lengths together: little padding
    for at in range(0, len(order), batch):
        chosen = order[at : at + batch]
        texts = model.translate([spoken[i].audio for i in chosen], language=language, latency_ms=latency_ms, search=search)
        for i, text in zip(chosen, texts, strict=True):
            written[i] = text
    seconds = time.perf_counter() - began
    scores = score_translations(written, [s.translation for s in spoken], language)
    audio = sum(len(s.audio) for s in spoken) / SAMPLE_RATE
    result = {
        "latency_ms": latency_ms,
        "beam": search.beam,
        "length_power": search.length_power,
        "bleu": round(scores.bleu, 2),
        "chrf": round(scores.chrf, 2),
        "sentences": len(spoken),
        "real_time_factor": round(seconds / audio, 4),
        "bleu_signature": scores.bleu_signature,
        "chrf_signature": scores.chrf_signature,
    }
    return result, written


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for each set, latency and beam, and the signatures behind it."""
    lines = ["| set | sentences | latency | beam | BLEU | chrF |", "|---" * 6 + "|"]
    for r in results:
        latency = "full" if r["latency_ms"] == "full" else f"{r['latency_ms']} ms"
        lines.append(f"| {r['set']} | {r['sentences']:,} | {latency} | {r['beam']} | {r['bleu']:.1f} | {r['chrf']:.1f} |")
    signatures = dict.fromkeys(f"{r[key]}" for r in results for key in ("bleu_signature", "chrf_signature"))
    return "\n".join([*lines, "", *(f"`{signature}`" for signature in signatures)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status is 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="python -m riverrun.recipes.st.measure", description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path, help="packed corpora, or JSON Lines with id, audio, text and translation")
    parser.add_argument("--model", required=True, help="a bundle's name or folder")
    parser.add_argument("--language", help="target language; the model's first if not given")
    parser.add_argument("--latency", nargs="+", default=["full", "640", "320"], help="milliseconds, or full")
    parser.add_argument("--beam", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--length-power", type=float, default=1.0, help="see riverrun.speech.search.attention_beam")
    parser.add_argument("--batch", type=int, default=16, help="recordings that are translated together")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write the figures as JSON, too")
    parser.add_argument("--written", type=Path, help="write the translations of each setting into this folder, a line each")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    results = []
    try:
        model = TranslationModel(load_translator(given.model, given.device))
        language = given.language or (model.bundle.config.model.languages or ("de",))[0]
        for path in given.sets:
            spoken = read_set(path, language)
            for beam in given.beam:
                search = SearchConfig(beam=beam, length_power=given.length_power)
                for latency in given.latency:
                    setting = latency if latency == "full" else int(latency)
                    result, written = measure(model, spoken, language, setting, search, given.batch)
                    results.append({"set": path.stem, **result})
                    print(json.dumps(results[-1]), file=sys.stderr, flush=True)
                    if given.written:
                        given.written.mkdir(parents=True, exist_ok=True)
                        (given.written / f"{path.stem}.{latency}.beam{beam}.txt").write_text("\n".join(written) + "\n", encoding="utf-8")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.output:
        given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
