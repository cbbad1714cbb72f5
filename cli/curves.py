"""Quality against latency: as CSV, as a picture, as Markdown, and on the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .plots import COLOURS, figure, save

_MARKS = "osD^vPX*"
_METRICS = ("LAAL", "YAAL", "AL", "AP", "DAL", "StartOffset", "ATD", "StreamLAAL")


def as_csv(document: Mapping[str, Any]) -> str:
    """A row for each setting of a report; latencies in ms, computation-aware ones under ``ca_`` (additive) and ``queue_``."""
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    bounds = ("", "_low", "_high")
    head = [f"{name}{bound}" for name in ("bleu", "chrf", "laal", "ca_laal", "queue_laal") for bound in bounds]
    rest = [f"{prefix}{name}" for prefix in ("", "ca_", "queue_") for name in _METRICS if name != "LAAL"]
    writer.writerow(["policy", "setting", *head, *rest, "normalized_erasure", "real_time_factor", "empty"])
    for s in document["settings"]:
        aware = s["computation_aware"]
        intervals = (s["bleu"], s["chrf"], s["laal"], aware["additive"]["laal"], aware["queue"]["laal"])
        values = [interval[key] for interval in intervals for key in ("score", "low", "high")]
        values += [part[name] for part in (s["latency"], aware["additive"], aware["queue"]) for name in _METRICS if name != "LAAL"]
        writer.writerow([s["policy"], setting_text(s), *values, s["normalized_erasure"], s["real_time_factor"], s["empty"]])
    return rows.getvalue()


def setting_text(setting: Mapping[str, Any]) -> str:
    """The options of a setting, such as ``frames=8``."""
    return ", ".join(f"{option}={value}" for option, value in setting["setting"].items())


def draw(path: Path, document: Mapping[str, Any], title: str) -> None:
    """BLEU against LAAL, and against LAAL with computing (as a queue), with 95 % intervals.

    Raises:
        UsageError: the file cannot be written.
    """
    picture, axes = figure(12, 5, 2)
    for axis, label, kind in zip(axes, ("LAAL [ms]", "LAAL with computing [ms]"), ("no", "queue"), strict=True):
        for i, (policy, points) in enumerate(_curves(document)):
            spots = sorted(
                ((laal, point["bleu"], point) for point in points if (laal := _laal(point, kind))["score"] is not None),
                key=lambda spot: spot[0]["score"],
            )
            x, y = ([spot[j]["score"] for spot in spots] for j in (0, 1))
            errors = [_reach([spot[j] for spot in spots]) for j in (0, 1)]
            axis.errorbar(
                x,
                y,
                yerr=errors[1],
                xerr=errors[0],
                label=policy,
                color=COLOURS[i % len(COLOURS)],
                marker=_MARKS[i % len(_MARKS)],
                linewidth=1.2,
                elinewidth=0.6,
                markersize=4,
            )
            if kind == "no":
                for laal, bleu, point in spots:
                    value = ",".join(map(str, point["setting"].values()))
                    axis.annotate(value, (laal["score"], bleu["score"]), (3, 3), textcoords="offset points", fontsize=6)
        axis.set(xlabel=label, ylabel="BLEU")
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right", fontsize="small")
    picture.suptitle(title, fontsize="medium")
    save(picture, path)


def as_markdown(document: Mapping[str, Any], picture: str | None) -> str:
    """Tables for people: settings, then differences at equal latency.

    Args:
        document: a report.
        picture: a link to the curves.
    """
    audio = document["audio_seconds"] / max(document["recordings"], 1)
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    chunk = f"{document['latency_ms']} ms" if isinstance(document["latency_ms"], int) else document["latency_ms"] or "the model's own"
    lines = [
        "# Quality and latency of simultaneous translation",
        "",
        f"`{document['model']}` into {document['to'] or 'its only language'} on `{Path(document['manifest']).name}`: "
        f"{document['recordings']:,} recordings of {audio:.1f} s on average; chunk {chunk}, beam {document['beam']}. "
        f"Measured on {document['date']}: {document['machine']}, {document['workers']} at a time, on {document['device']}; {versions}.",
        "",
        "Intervals: 95 %, bootstrap over recordings. Latencies in ms; *queue* counts computing as it would be, *additive* as public tools "
        "add it up.",
        "",
        *([f"![quality against latency]({picture})", ""] if picture else []),
        "| policy | setting | BLEU | chrF | LAAL | AL | AP | DAL | LAAL, queue | LAAL, additive | erasure | real-time factor |",
        "|---" * 2 + "|--:" * 10 + "|",
    ]
    for s in document["settings"]:
        aware, latency = s["computation_aware"], s["latency"]
        cells = [s["policy"], setting_text(s) or "–", _bounded(s["bleu"], 1), _bounded(s["chrf"], 1), _bounded(s["laal"], 0)]
        cells += [_number(latency["AL"], 0), _number(latency["AP"], 2), _number(latency["DAL"], 0)]
        cells += [_number(aware[kind]["laal"]["score"], 0) for kind in ("queue", "additive")]
        cells += [_number(s["normalized_erasure"], 2), _number(s["real_time_factor"], 3)]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"`{document['bleu_signature']}`, `{document['chrf_signature']}`"]
    if document["differences"]:
        lines += ["", f"BLEU of {document['differences'][0]['policy']} less that of another policy at equal LAAL, between its points:", ""]
        lines += ["| setting | LAAL | against | difference | 95 % interval |", "|---|--:|---|--:|--:|"]
        for d in document["differences"]:
            interval = f"{_number(d['low'], 1, True)} to {_number(d['high'], 1, True)}"
            lines.append(f"| {setting_text(d)} | {d['laal']:.0f} | {d['against']} | {_number(d['bleu'], 1, True)} | {interval} |")
    return "\n".join(lines) + "\n"


def show(document: Mapping[str, Any]) -> None:
    """Print a report as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("policy", "setting"):
        table.add_column(heading, no_wrap=True)
    for heading in ("BLEU", "chrF", "LAAL", "AL", "DAL", "LAAL, queue", "RTF"):
        table.add_column(heading, justify="right", no_wrap=True)
    for s in document["settings"]:
        latency, aware = s["latency"], s["computation_aware"]["queue"]["laal"]["score"]
        cells = [s["policy"], setting_text(s), _bounded(s["bleu"], 1), _number(s["chrf"]["score"], 1), _bounded(s["laal"], 0)]
        cells += [_number(latency["AL"], 0), _number(latency["DAL"], 0), _number(aware, 0), _number(s["real_time_factor"], 3)]
        table.add_row(*cells)
    console = Console(highlight=False)
    console.width = max(console.width, 120)
    console.print(table)


def _curves(document: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Each policy with its settings, in order."""
    for policy in dict.fromkeys(s["policy"] for s in document["settings"]):
        yield policy, [s for s in document["settings"] if s["policy"] == policy]


def _laal(point: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    interval: Mapping[str, Any] = point["laal"] if kind == "no" else point["computation_aware"][kind]["laal"]
    return interval


def _reach(intervals: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """How far intervals reach below and above their scores."""
    below = [max(i["score"] - i["low"], 0) if i["low"] is not None else 0 for i in intervals]
    above = [max(i["high"] - i["score"], 0) if i["high"] is not None else 0 for i in intervals]
    return below, above


def _bounded(interval: Mapping[str, Any], digits: int) -> str:
    if interval["low"] is None:
        return _number(interval["score"], digits)
    return f"{_number(interval['score'], digits)} [{_number(interval['low'], digits)}, {_number(interval['high'], digits)}]"


def _number(value: float | None, digits: int, signed: bool = False) -> str:
    return "–" if value is None else f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
