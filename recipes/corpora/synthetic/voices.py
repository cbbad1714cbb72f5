"""Which voices speak, how often and how they vary: read from a YAML configuration such as ``conf/synthetic-en.yaml``."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .engine import Style, SynthesisError, Voice
from .render import Rendering

DEFAULT = Path(__file__).parents[1] / "conf/synthetic-en.yaml"


@dataclass(frozen=True)
class Variation:
    """How much each sentence departs from its voice: standard deviations of log factors, and ranges (see the configuration)."""

    rate_sd: float = 0.12
    pitch_sd: float = 0.05
    range: tuple[float, float] = (0.75, 1.45)
    warp: float = 0.03
    alpha: float = 0.008

    def draw(self, voice: Voice, rng: random.Random) -> Style:
        """A style for one sentence; its warp includes the voice's own."""
        return Style(
            rate=min(max(math.exp(rng.gauss(0, self.rate_sd)), 0.75), 1.35),
            pitch=math.exp(rng.gauss(0, self.pitch_sd)),
            range=rng.uniform(*self.range),
            warp=voice.warp * math.exp(rng.uniform(-self.warp, self.warp)),
            alpha=rng.uniform(-self.alpha, self.alpha),
        )


@dataclass(frozen=True)
class Cast:
    """A configuration read: all voices, those held out among them, and what governs their use.

    Attributes:
        voices: every voice, held-out ones too, with weights relative within their engine; after `choose`, those that speak, with
            weights that sum to their engine's share.
        shares: of sentences, by engine.
        hold_out: regular expression; a voice whose id it matches anywhere never speaks training data.
    """

    language: str
    seed: int
    max_seconds: float
    voices: list[Voice]
    shares: dict[str, float]
    hold_out: str | None
    style: Variation
    rendering: Rendering

    def choose(self, *, held_out: bool = False, engines: set[str] | None = None) -> Cast:
        """The same with the training voices alone, or with the held-out ones alone; of some engines, or all.

        Raises:
            SynthesisError: the configuration has no such engine, or no voice is left.
        """
        if unknown := sorted((engines or set()) - set(self.shares)):
            raise SynthesisError(f"the configuration has no engine {' '.join(unknown)}; it has {' '.join(sorted(self.shares))}")

        def wanted(voice: Voice) -> bool:
            held = self.hold_out is not None and re.search(self.hold_out, voice.id) is not None
            return held == held_out and (engines is None or voice.engine in engines)

        voices = [voice for voice in self.voices if wanted(voice)]
        if not voices:
            raise SynthesisError(f"the configuration has no {'held-out' if held_out else 'training'} voice of {engines or 'any engine'}")
        return dataclasses.replace(self, voices=_shared(voices, self.shares))


def read_cast(path: Path = DEFAULT) -> Cast:
    """Read a configuration.

    Raises:
        SynthesisError: it is missing, is not YAML, or a key or voice is wrong; the message names it.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise SynthesisError("is no mapping of keys to values")
        voices = [Voice(**entry) for entry in config.get("voices", [])]
        voices += _espeak_voices(**config["espeak"]) if "espeak" in config else []
        voices += _kokoro_voices(**config["kokoro"]) if "kokoro" in config else []
        hold_out = config.get("hold_out")
        re.compile(hold_out or "")
        return Cast(
            language=config["language"],
            seed=config["seed"],
            max_seconds=config["max_seconds"],
            voices=_distinct(voices, config["shares"]),
            shares=config["shares"],
            hold_out=hold_out,
            style=Variation(**_pairs(config.get("style", {}))),
            rendering=Rendering(**_pairs(config.get("rendering", {}))),
        )
    except OSError as error:
        raise SynthesisError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except KeyError as error:
        raise SynthesisError(f"{path}: the key {error} is missing") from None
    except (yaml.YAMLError, TypeError, re.error) as error:
        raise SynthesisError(f"{path}: {' '.join(str(error).split())}") from None
    except SynthesisError as error:
        raise SynthesisError(f"{path}: {error}") from None


def _pairs(section: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in section.items()}


def _distinct(voices: list[Voice], shares: dict[str, float]) -> list[Voice]:
    ids = set[str]()
    for voice in voices:
        if voice.engine not in shares:
            raise SynthesisError(f'voice "{voice.id}" is of engine "{voice.engine}", which has no share')
        if voice.id in ids:
            raise SynthesisError(f'two voices have the id "{voice.id}"')
        ids.add(voice.id)
    return voices


def _shared(voices: list[Voice], shares: dict[str, float]) -> list[Voice]:
    """The voices, weights scaled so that those of each engine sum to its share."""
    totals: dict[str, float] = {}
    for voice in voices:
        totals[voice.engine] = totals.get(voice.engine, 0.0) + voice.weight
    return [dataclasses.replace(voice, weight=voice.weight * shares[voice.engine] / totals[voice.engine]) for voice in voices]


def _espeak_voices(accents: list[str], variants: int, seed: int) -> list[Voice]:
    named = [(f"{accents[index % len(accents)]}+z{index:02d}", index) for index in range(variants)]
    return [Voice(id=f"ng-{name}", engine="espeak", name=name, variant=espeak_variant(index, seed)) for name, index in named]


def _kokoro_voices(styles: list[str], others: list[str], blends: int, seed: int) -> list[Voice]:
    """Every style by itself, and blends of each with another of ``styles`` or, one in four, of ``others``, which never lead.

    All blends together speak as often as all styles by themselves do.
    """
    rng = random.Random(seed)  # noqa: S311
    voices = [Voice(id=f"ko-{style}", engine="kokoro", name=style, weight=max(blends, 1) / len(styles)) for style in styles]
    for index in range(blends):
        first = styles[index % len(styles)]
        second = rng.choice([style for style in (others if others and index % 4 == 3 else styles) if style != first])
        share = rng.uniform(0.25, 0.45 if second in others else 0.6)
        voices.append(Voice(id=f"ko-{index:03d}-{first}-{second}", engine="kokoro", name=f"{first}+{second}*{share:.2f}"))
    return voices


def espeak_variant(index: int, seed: int) -> str:
    """An espeak-ng voice variant file: a speaker drawn at random.

    Of every five, two are male, two female, one child-like; every third has a Klatt voice source instead of harmonics.
    """
    rng = random.Random(seed * 1000 + index)  # noqa: S311
    builds = [(rng.uniform(*pitch), rng.uniform(*size)) for pitch, size in (
        ((68, 105), (0.90, 1.03)), ((115, 160), (1.06, 1.17)), ((165, 200), (1.19, 1.27)),
    )]  # fmt: skip
    build = (0, 1, 0, 1, 2)[index % 5]
    low, scale = builds[build]
    lines = [
        "language variant", f"name z{index:02d}", f"gender {'female' if build else 'male'}",
        f"pitch {low:.0f} {low * rng.uniform(1.3, 1.55):.0f}",
        f"flutter {rng.randint(1, 8)}", f"roughness {rng.randint(0, 4)}",
    ]  # fmt: skip
    if index % 3 == 2:
        lines.append(f"klatt {rng.randint(1, 4)}")
    for formant in range(9):
        frequency, height, width = 100 * scale * rng.uniform(0.965, 1.035), rng.uniform(75, 125), rng.uniform(85, 150)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {width:.0f}")
    lines.append(f"consonants {rng.randint(80, 130)} {rng.randint(80, 130)}")
    if rng.random() < 0.3:
        lines.append("breath 0 2 3 3 3 3 3 2")
    if rng.random() < 0.4:
        bands = ((600, 60, 170), (1200, 40, 130), (2000, 60, 130), (3000, 30, 110))
        lines.append("tone 100 255 " + " ".join(f"{band} {rng.randint(low, high)}" for band, low, high in bands))
    return "\n".join(lines) + "\n"
