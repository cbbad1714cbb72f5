"""``riverrun evaluate``: error rates, speed and latency of a model on a manifest."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import Stopped, UsageError, about, is_users, say
from .evaluate_policy import Asked, Csv, Curves, Limit, Markdown, Policies, SettingsOption, Sweeps, Workers, evaluate_policies
from .hearing import Decoding
from .model import load_model
from .options import Beam, Device, Json, Latency, Search, SearchOption, latency_ms
from .outputs import prepare_folder, write_whole
from .progress import progress
from .translation import DecideEvery, From, Layer, Silence, To, Translating, TranslationModelName

if TYPE_CHECKING:
    from riverrun.speech.manifest import Entry
    from riverrun.streaming.events import Event

    from .report import Result

PIECE = 0.04  #: seconds of audio pushed at a time, and so the grain of measured latencies


def evaluate(
    manifest: Annotated[
        Path,
        typer.Option(
            "--manifest", help="JSON Lines with id, audio and text, for --policy also translation.", metavar="FILE", show_default=False
        ),
    ],
    model: TranslationModelName = None,
    latency: Latency = None,
    search: SearchOption = Search.greedy,
    beam: Beam = 4,
    lang: Annotated[str, typer.Option(help="Language code for the normalisation of text.", metavar="CODE")] = "en",
    policy: Policies = [],  # noqa: B006  # only ever read, as all lists here
    settings: SettingsOption = [],  # noqa: B006
    sweep: Sweeps = [],  # noqa: B006
    to: To = None,
    source: From = None,
    decide: DecideEvery = None,
    layer: Layer = None,
    silence: Silence = None,
    csv: Csv = None,
    plot: Curves = None,
    markdown: Markdown = None,
    limit: Limit = None,
    workers: Workers = 1,
    device: Device = "cpu",
    as_json: Json = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the JSON report to this file, too.", metavar="FILE")] = None,
) -> None:
    """Measure errors, speed and latency of a model.

    Prints word and character error rates, the real-time factor, and how late words appear.

    With a latency in milliseconds the audio is streamed, and word latencies are measured; with 'full' it is decoded whole.

    With --policy, translation is measured: BLEU, chrF and latency of every setting of the policies, with 95 % intervals.
    """
    if policy:
        hypotheses = beam if search == Search.beam else 1
        wanted = Translating(model, device, to, source, latency_ms(latency), hypotheses, layer, decide, silence)
        evaluate_policies(Asked(manifest, wanted, policy, settings, sweep, output, csv, plot, markdown, limit, workers, as_json))
        return
    if settings or sweep or to or source or decide or layer or silence or csv or plot or markdown or limit or workers > 1:
        raise UsageError("options of translation need a policy; add --policy NAME, or leave them out")
    model = model or "default"
    from riverrun.speech.manifest import read_manifest

    entries = read_manifest(manifest)
    if output:
        prepare_folder(output.parent)
    delay = latency_ms(latency)
    heard = Decoding(load_model(model, device, delay), delay, search, beam)
    results, failed, stopped = _score(entries, heard, lang)
    from .report import report, show

    about_it = {"model": model, "manifest": str(manifest), "latency_ms": delay, "search": search.value, "beam": beam, "lang": lang}
    document = report(about_it, results, failed)
    encoded = json.dumps(document, ensure_ascii=False, allow_nan=False)
    if output:
        write_whole(output, encoded + "\n")
    if as_json:
        print(encoded)
    elif results:
        show(document)
    if stopped:
        raise Stopped(f"stopped; {len(results)} of {len(entries)} recordings scored")
    if failed:
        say(f"{len(failed)} of {len(entries)} recordings failed, and do not count")
        raise typer.Exit(1 if results else 2)


def _score(entries: list[Entry], heard: Decoding, lang: str) -> tuple[list[Result], dict[str, str], bool]:
    """Results, errors by id, and whether Ctrl-C came."""
    results: list[Result] = []
    failed: dict[str, str] = {}
    for i, entry in enumerate(entries, 1):
        try:
            results.append(_one(entry, heard, lang, f"{i}/{len(entries)} {entry.id}"))
        except KeyboardInterrupt:
            return results, failed, True
        except ValueError as error:
            if not is_users(error):
                raise
            failed[entry.id] = about(str(entry.audio), error)
            say(failed[entry.id])
    return results, failed, False


def _one(entry: Entry, heard: Decoding, lang: str, title: str) -> Result:
    from riverrun.speech.metrics import character_edits, word_delays, word_edits
    from riverrun.speech.text import normalise

    from .report import Result

    began = time.perf_counter()
    if heard.latency == "full":
        transcript = heard.file(entry.audio, title)
        text, seconds, delays = transcript.text, transcript.duration, []
    else:
        events, seconds = _stream(entry, heard, title)
        text, delays = _final_text(events), word_delays(events)
    took = time.perf_counter() - began
    reference, hypothesis = normalise(entry.text, lang), normalise(text, lang)
    edits = word_edits(reference, hypothesis), character_edits(reference, hypothesis)
    return Result(entry.id, reference, hypothesis, *edits, seconds, took, tuple(delays))


def _stream(entry: Entry, heard: Decoding, title: str) -> tuple[list[tuple[float, Event]], float]:
    """Every event with the seconds of audio that had been pushed when it came, and all seconds."""
    from riverrun.speech.audio import open_audio

    events: list[tuple[float, Event]] = []
    samples = 0
    with open_audio(entry.audio) as source, progress(title, source.duration) as done, heard.stream(rate := source.sample_rate) as stream:
        for block in source.blocks(seconds=PIECE):
            samples += len(block)
            events += ((samples / rate, event) for event in stream.push(block))
            done(samples / rate)
        events += ((samples / rate, event) for event in stream.finish())
    return events, samples / rate


def _final_text(events: list[tuple[float, Event]]) -> str:
    from riverrun.streaming.events import Final

    return " ".join(event.text for _, event in events if isinstance(event, Final))
