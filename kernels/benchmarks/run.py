"""Measure every kernel against its peer and its floor: ``python -m riverrun.kernels.benchmarks.run``."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib
import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from .case import Case, Row, copy_bandwidth, measure

#: Modules of this package that hold a list CASES.
FAMILIES = ("transducer", "viterbi", "monotonic", "step_attention", "window_attention", "convolution", "recurrence", "entmax")


def cases(families: Sequence[str] = FAMILIES) -> list[Case]:
    """The cases of ``families``.

    Raises:
        ValueError: a family that does not exist.
    """
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown:
        raise ValueError(f"no kernel family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    return [case for family in families for case in importlib.import_module(f".{family}", __package__).CASES]


def run(families: Sequence[str] = FAMILIES) -> Iterator[Row]:
    """Measure the cases one after another.

    Raises:
        RuntimeError: no GPU.
        ValueError: a family that does not exist.
    """
    chosen = cases(families)
    if not torch.cuda.is_available():
        raise RuntimeError("kernel benchmarks need a CUDA GPU, and PyTorch sees none")
    bandwidth = copy_bandwidth()
    for case in chosen:
        yield measure(case, bandwidth)
        torch.cuda.empty_cache()


def machine() -> dict[str, str]:
    """Where and with what the numbers were measured."""
    import triton

    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "gpu": torch.cuda.get_device_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = ["kernel", "shape", "peer", "peer ms", "ours ms", "floor ms", "× peer", "÷ floor", "peer MiB", "ours MiB", "error"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        times = [_number(x) for x in (row.peer_ms, row.ours_ms, row.floor_ms, row.to_peer, row.to_floor, row.peer_mib, row.ours_mib)]
        wrong = "" if row.ours_ms else " WRONG"
        lines.append([f"{row.family}: {row.name}", row.shape, row.peer_name or "–", *times, f"{row.error:.1e}{wrong}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write machine and rows to ``path``."""
    content: dict[str, Any] = {"machine": machine(), "rows": [dataclasses.asdict(row) for row in rows]}
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write JSON where asked; 2 for bad arguments or no GPU, 1 if a kernel is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=FAMILIES, metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all by default")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    try:
        rows = list(run(options.families))
    except (RuntimeError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(table(rows))
    if options.json:
        write_json(rows, options.json)
    return int(any(row.ours_ms is None for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
