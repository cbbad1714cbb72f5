"""What was measured, as Markdown: ``python -m riverrun.kernels.benchmarks.render results.json [later.json …] > RESULTS.md``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .case import Peer, Row

#: Why we lose where we do: "family: name, shape" -> a sentence or two.
REASONS = Path(__file__).with_name("reasons.json")

#: What else there is to say, in Markdown; ends the file.
NOTES = Path(__file__).with_name("notes.md")

HEAD = ["kernel", "shape", "reference ms", "peer", "peer ms", "ours ms", "floor ms", "× peer", "÷ floor", "peer MiB", "ours MiB", "error"]


def row_of(found: dict[str, Any]) -> Row:
    """A row from its JSON."""
    return Row(**{**found, "peers": {name: Peer(**peer) for name, peer in found.get("peers", {}).items()}})


def table(rows: Sequence[Row], runs: Sequence[int] = ()) -> str:
    """The rows as a table; a row that failed says so in its last column. ``runs``: which run each is of, for a column more."""
    head = HEAD + ["run"] * bool(runs)
    lines = [head, ["---"] * len(head)]
    for place, row in enumerate(rows):
        peer = row.peer_name or "–"
        peer += f" ({row.peer.failure})" if row.peer.failure else ""
        floor = f"{_number(row.floor_ms)} {row.floor_kind}".strip()
        times = [_number(row.peer.ms), _number(row.ours_ms), floor, _number(row.to_peer), _number(row.to_floor)]
        memory = [_number(row.peer.mib), _number(row.ours_mib)]
        error = " ".join(x for x in ("" if row.error is None else f"{row.error:.1e}", row.failure.upper() * bool(row.failure)) if x)
        run = [str(runs[place])] if runs else []
        lines.append([f"{row.family}: {row.name}", row.shape, _number(row.reference_ms), peer, *times, *memory, error, *run])
    return _markdown(lines)


def tuning_table(tuned: Sequence[dict[str, Any]]) -> str:
    """For each class of shapes the launch sizes that were tried, the best first."""
    lines = [["kernel", "shape", "class", "sizes", "ms", ""], ["---"] * 6]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for tried in tuned:
        groups.setdefault(tuple(tried.get(x, "") for x in ("family", "name", "shape", "key")), []).append(tried)
    for (family, name, shape, key), group in groups.items():
        for place, tried in enumerate(sorted(group, key=lambda x: (x.get("ms") is None, x.get("ms") or 0))):
            remark = tried["failure"] or ("shipped" if tried.get("shipped") else "")
            remark = f"{'best' * (place == 0)} {remark}".strip()
            lines.append([f"{family}: {name}", shape, key, tried.get("candidate", ""), _number(tried.get("ms")), remark])
    return _markdown(lines)


def latest(contents: Sequence[dict[str, Any]]) -> tuple[list[Row], list[int]]:
    """Rows of several runs, each from the last run that could time it, and which that was, from 1; in the order of the first run.

    A peer that this run did not time, but an earlier one did, is named with the run that its time is of.
    """
    found: dict[tuple[str, str, str], tuple[Row, int]] = {}
    for run, content in enumerate(contents, 1):
        for row in map(row_of, content["rows"]):
            key = row.family, row.name, row.shape
            if key in found:
                if row.ours_ms is None:
                    continue
                row = replace(row, peers=_peers_kept(row, *found[key]))
            found[key] = row, run
    return [row for row, _ in found.values()], [run for _, run in found.values()]


def _peers_kept(row: Row, before: Row, run: int) -> dict[str, Peer]:
    """The peers of ``row``; those that it did not time, and ``before``, of ``run``, did, from there."""
    peers = {}
    for name, peer in row.peers.items():
        earlier = before.peers.get(name)
        if peer.ms is None and earlier is not None and earlier.ms is not None:
            peers[f"{name} (run {run})"] = earlier
        else:
            peers[name] = peer
    return peers


def results(contents: Sequence[dict[str, Any]], reasons: dict[str, str], notes: str = "") -> str:
    """The whole of RESULTS.md, from the numbers of one run, or of several on which the last says most."""
    rows, runs = latest(contents)
    several_runs = len(contents) > 1
    parts = [
        "# Measured",
        *(f"Run {n}: one {_machine(x)}" if several_runs else f"One {_machine(x)}" for n, x in enumerate(contents, 1)),
        "Made by `python -m riverrun.kernels.benchmarks --output results.json`, then `python -m riverrun.kernels.benchmarks.render"
        " results.json`:"
        " median times in milliseconds, memory above the inputs in MiB, the peer that was fastest. The floor is the larger of the bytes"
        " that any implementation must move, at the speed of a large copy, and of the matrix products that it must do, at the speed of a"
        " large bfloat16 product; it says little of chains of dependent steps (lattice, Viterbi). Errors are relative to the definition in"
        " float64. Times are the GPU's: it is held back until a run has been launched, up to 5 ms of launches; peers that wait for the"
        " GPU, or launch for longer, are measured with that.",
        table(rows, runs if several_runs else ()),
    ]
    several = [row for row in rows if len(row.peers) > 1]
    if several:
        parts += ["## All peers", _peers(several)]
    lost = [row for row in rows if row.failure or (row.to_peer is not None and row.to_peer < 1)]
    parts.append("## Where we lose")
    parts.append("\n".join(_lost(row, reasons) for row in lost) if lost else "Nowhere in this table.")
    parts += [notes.strip()] if notes else []
    return "\n\n".join(parts) + "\n"


def _machine(content: dict[str, Any]) -> str:
    machine = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine.items() if name not in ("gpu", "date"))
    return f"{machine['gpu']}, {machine['date']}; {versions}."


def _peers(rows: Iterable[Row]) -> str:
    lines = [["kernel", "shape", "peer", "ms", "× ours", "differs by"], ["---"] * 6]
    for row in rows:
        for name, peer in row.peers.items():
            ratio = peer.ms / row.ours_ms if peer.ms and row.ours_ms else None
            differs = peer.failure or ("–" if peer.error is None else f"{peer.error:.1e}")
            lines.append([f"{row.family}: {row.name}", row.shape, name, _number(peer.ms), _number(ratio), differs])
    return _markdown(lines)


def _lost(row: Row, reasons: dict[str, str]) -> str:
    name = f"{row.family}: {row.name}, {row.shape}"
    what = row.failure or f"{_number(row.to_peer)} × {row.peer_name}"
    return f"- {name} ({what}): {reasons.get(name, 'not explained yet.')}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(x.replace("|", "/").replace("\n", " ") for x in line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def main(arguments: Sequence[str]) -> int:
    """Print RESULTS.md of files of numbers, the earliest first."""
    if not arguments:
        print("give a file of numbers: python -m riverrun.kernels.benchmarks.render results.json", file=sys.stderr)
        return 2
    reasons = json.loads(REASONS.read_text()) if REASONS.exists() else {}
    notes = NOTES.read_text() if NOTES.exists() else ""
    sys.stdout.write(results([json.loads(Path(path).read_text()) for path in arguments], reasons, notes))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
