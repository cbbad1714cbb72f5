"""Error rates of a model on several development sets, latencies and searches: the table of its card.

``python -m riverrun.recipes.asr.measure --model default --output results.json dev/*.jsonl``
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from riverrun.speech import SpeechModel, load
from riverrun.speech.manifest import Entry, read_manifest
from riverrun.speech.metrics import Edits, bootstrap_interval, word_edits
from riverrun.speech.text import normalise


def measure(model: SpeechModel, entries: Sequence[Entry], latency_ms: Any, search: str, head: str | None) -> dict[str, Any]:
    """Word errors of one model on one set under one setting."""
    began, parts, seconds = time.perf_counter(), [], 0.0
    for entry in entries:
        heard = model.transcribe(entry.audio, latency_ms=latency_ms, search=search, head=head)
        parts.append(word_edits(normalise(entry.text), normalise(heard.text)))
        seconds += heard.duration
    total, (low, high) = sum(parts, Edits()), bootstrap_interval(parts)
    return {
        "latency_ms": latency_ms,
        "search": search,
        "head": head,
        "wer": round(total.rate, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "words": total.reference,
        "real_time_factor": round((time.perf_counter() - began) / seconds, 4),
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for each set, a column for each setting."""
    settings = list(dict.fromkeys((r["search"], r["head"], r["latency_ms"]) for r in results))
    sets = list(dict.fromkeys(r["set"] for r in results))
    rates = {(r["set"], r["search"], r["head"], r["latency_ms"]): f"{100 * r['wer']:.1f}" for r in results}
    names = [
        " ".join([*([head] if head else []), search, "full" if latency == "full" else f"{latency} ms"])
        for search, head, latency in settings
    ]
    lines = ["| set | words | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    words = {r["set"]: r["words"] for r in results}
    lines += [f"| {s} | {words[s]:,} | " + " | ".join(rates.get((s, *setting), "") for setting in settings) + " |" for s in sets]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns an exit status."""
    parser = argparse.ArgumentParser(prog="python -m riverrun.recipes.asr.measure", description=__doc__)
    parser.add_argument("manifests", nargs="+", type=Path, help="JSON Lines with id, audio and text")
    parser.add_argument("--model", default="default", help="a bundle's name or folder")
    parser.add_argument("--latency", nargs="+", default=["full", "640", "320", "160"], help="milliseconds, or full")
    parser.add_argument("--search", nargs="+", default=["greedy"], choices=["greedy", "beam"])
    parser.add_argument("--head", nargs="+", default=[None], help="transducer, ctc; the model's first if not given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write the figures as JSON, too")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    results = []
    try:
        model = load(given.model)
        for path in given.manifests:
            entries = read_manifest(path)
            for head in given.head:
                for search in given.search:
                    for latency in given.latency:
                        result = measure(model, entries, latency if latency == "full" else int(latency), search, head)
                        results.append({"set": path.stem, **result})
                        print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.output:
        given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
