"""``riverrun evaluate --policy``: quality against latency of simultaneous translation, over settings of one or more policies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import Stopped, UsageError, say
from .outputs import prepare_folder, write_whole
from .plots import check_plot
from .policies import given_options
from .progress import progress
from .settings import check_setting, check_sweep, expand
from .translation import Translating

if TYPE_CHECKING:
    from .policy_runs import Recording, Run, Setting

Policies = Annotated[
    list[str],
    typer.Option(
        "--policy", help="Measure translation under this policy; again for more, in one report.", metavar="NAME", show_default=False
    ),
]
SettingsOption = Annotated[
    list[str],
    typer.Option(
        "--setting",
        help="With --policy: a setting, such as f=2 or alignatt:frames=2; again for more.",
        metavar="[POLICY:]OPTION=VALUE,…",
        parser=check_setting,
        show_default=False,
    ),
]
Sweeps = Annotated[
    list[str],
    typer.Option(
        "--sweep",
        help="With --policy: settings, such as f=2,4,8 or wait-k:k=1,3,5; or 'usual', each policy's usual range.",
        metavar="[POLICY:]OPTION=VALUE,VALUE,…",
        parser=check_sweep,
        show_default=False,
    ),
]
Csv = Annotated[Path | None, typer.Option("--csv", help="With --policy: write a row for each setting.", metavar="FILE")]
Curves = Annotated[Path | None, typer.Option("--plot", help="With --policy: draw the curves, a png, svg or pdf file.", metavar="FILE")]
Markdown = Annotated[Path | None, typer.Option("--markdown", help="With --policy: write tables for people.", metavar="FILE")]
Limit = Annotated[int | None, typer.Option("--limit", help="With --policy: only the first N recordings.", metavar="N", min=1)]
Workers = Annotated[int, typer.Option("--workers", help="With --policy: processes, each with the model.", metavar="N", min=1, max=256)]


@dataclass(frozen=True)
class Asked:
    """What ``evaluate --policy`` was asked for; see the options."""

    manifest: Path
    wanted: Translating
    policies: Sequence[str]
    settings: Sequence[str]
    sweeps: Sequence[str]
    output: Path | None
    csv: Path | None
    plot: Path | None
    markdown: Path | None
    limit: int | None
    workers: int
    as_json: bool


def evaluate_policies(asked: Asked) -> None:
    """Run every recording under every setting, and report.

    Raises:
        UsageError: something that was asked for cannot be.
        Stopped: by Ctrl-C; what was done until then is reported.
        typer.Exit: some recordings failed (1), or all did (2).
    """
    check_plot(asked.plot)
    _scorer()
    for path in (asked.output, asked.csv, asked.plot, asked.markdown):
        if path is not None:
            prepare_folder(path.parent)
    from .policy_runs import Runner, Setting

    recordings = read_recordings(asked.manifest, asked.wanted.to)[: asked.limit]
    probe = Runner(asked.wanted, [Setting(policy, ()) for policy in asked.policies])
    frame_ms = probe.policies[0][0].frame_ms
    settings = [Setting(*pair) for pair in expand(asked.policies, asked.settings, asked.sweeps, frame_ms)]
    runner = Runner(asked.wanted, settings)
    found, failed, stopped = _run(asked, settings, recordings, runner)
    if found:
        _report(asked, settings, recordings, runner, found, failed)
    if stopped:
        raise Stopped(f"stopped; {len(found)} of {len(recordings)} recordings scored")
    if failed:
        say(f"{len(failed)} of {len(recordings)} recordings failed, and do not count")
        raise typer.Exit(1 if found else 2)


def _run(asked: Asked, settings: Sequence[Setting], recordings: Sequence[Recording], runner: Any) -> tuple[list[Run], dict[str, str], bool]:
    """What was done, errors by id, and whether Ctrl-C came."""
    from .policy_runs import Run, runs

    found: list[Run] = []
    failed: dict[str, str] = {}
    title = f"{len(recordings)} recordings, {len(settings)} settings"
    try:
        with progress(title, float(len(recordings))) as done:
            for result in runs(asked.wanted, settings, recordings, runner, asked.workers):
                if isinstance(result, Run):
                    found.append(result)
                else:
                    failed[result[0]] = result[1]
                    say(result[1])
                done(float(len(found) + len(failed)))
    except KeyboardInterrupt:
        return found, failed, True
    return found, failed, False


def _report(
    asked: Asked, settings: Sequence[Setting], recordings: Sequence[Recording], runner: Any, found: Sequence[Run], failed: dict[str, str]
) -> None:
    from .curves import as_csv, as_markdown, draw, show
    from .policy_scores import Data, report

    done = {run.id: run for run in found}
    kept = [recording for recording in recordings if recording.id in done]
    wanted = asked.wanted
    about = {
        "model": wanted.model or runner.name,
        "manifest": str(asked.manifest),
        "to": runner.language,
        "latency_ms": wanted.latency,
        "decide_ms": wanted.decide_ms,
        "beam": wanted.beam,
        "device": wanted.device,
        "workers": asked.workers,
        **_circumstances(wanted.device),
    }
    shown = [given_options(setting.policy, setting.options) for setting in settings]
    document = report(about, settings, shown, Data(kept, [done[r.id] for r in kept], runner.language or "", runner.unit), failed)
    encoded = json.dumps(document, ensure_ascii=False, allow_nan=False)
    if asked.output:
        write_whole(asked.output, encoded + "\n")
    if asked.csv:
        write_whole(asked.csv, as_csv(document))
    if asked.plot:
        draw(asked.plot, document, f"{about['model']}, {len(kept)} recordings")
    if asked.markdown:
        write_whole(asked.markdown, as_markdown(document, asked.plot.name if asked.plot else None))
    if asked.as_json:
        print(encoded)
    else:
        show(document)


def _circumstances(device: str) -> dict[str, Any]:
    """When and on what something was measured."""
    import os
    import platform
    from datetime import date
    from importlib.metadata import version

    import torch

    machine = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        names = [line.partition(":")[2].strip() for line in facts.read_text().splitlines() if line.startswith("model name")]
        machine = names[0] if names else machine
    if device.startswith("cuda"):
        machine = f"{torch.cuda.get_device_name(device)}, {machine}"
    versions = {"riverrun": version("riverrun"), "torch": torch.__version__, "python": platform.python_version()}
    return {"date": date.today().isoformat(), "machine": f"{machine}, {os.cpu_count()} cores", "versions": versions}


def read_recordings(manifest: Path, to: str | None) -> list[Recording]:
    """Recordings with translations: of a manifest in JSON Lines, or a packed corpus.

    ``translation`` holds the translation, ``target_lang`` its language if there are several; ``sentences`` those of a long recording,
    each with ``start`` and ``end`` in seconds and its ``translation``, which then need not be given for the whole.

    Raises:
        UsageError: there are none into ``to``.
        ManifestError: the manifest cannot be read.
    """
    from .policy_runs import Recording

    rows: list[tuple[str, Any, dict[str, Any]]]
    if manifest.is_dir():
        from riverrun.recipes.corpora.packed import PackedCorpus

        try:
            corpus = PackedCorpus(manifest)
        except ValueError as error:
            raise UsageError(str(error)) from None
        rows = [(str(u.row.get("id", i)), corpus.samples_of(u), u.row) for i, u in enumerate(corpus)]
    else:
        from riverrun.speech.manifest import read_manifest

        rows = [(entry.id, entry.audio, entry.extra) for entry in read_manifest(manifest)]
    found = []
    for name, audio, row in rows:
        sentences = _sentences(name, row.get("sentences", []))
        whole = row.get("translation", " ".join(s["translation"] for s in sentences))
        if isinstance(whole, str) and whole.strip() and (to is None or row.get("target_lang", to) == to):
            found.append(Recording(name, audio, whole, sentences))
    if not found:
        into = f" into {to!r}" if to else ""
        raise UsageError(f'{manifest}: no recording has a "translation"{into}')
    return found


def _sentences(name: str, given: Any) -> tuple[dict[str, Any], ...]:
    good = isinstance(given, list) and all(
        isinstance(s, dict) and isinstance(s.get("translation"), str) and all(isinstance(s.get(k), int | float) for k in ("start", "end"))
        for s in given
    )
    if not good:
        raise UsageError(f'{name}: "sentences" is to be a list of {{"start": …, "end": …, "translation": …}}')
    return tuple(given)


def _scorer() -> None:
    try:
        import sacrebleu  # noqa: F401
    except ImportError:
        raise UsageError("scoring translations needs sacrebleu: pip install 'riverrun[translate]'") from None
