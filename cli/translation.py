"""A translator as commands are asked for it: model, languages, policy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .errors import UsageError
from .hearing import Hearing
from .model import load_any
from .policies import make, policy_name

if TYPE_CHECKING:
    from riverrun.speech.huggingface import HuggingFaceModel
    from riverrun.speech.translation_model import TranslationModel
    from riverrun.streaming import Stream
    from riverrun.streaming.policies import Policy
    from riverrun.streaming.translator import Translator

    from .trace import TracedTranslator

#: A pause that ends a segment, in seconds, where nothing else is asked for.
PAUSE_S = 0.8

TranslationModelName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Name of an installed translator, its folder, or hf:owner/name.", metavar="MODEL", show_default=False
    ),
]
To = Annotated[str | None, typer.Option("--to", help="Language to translate into.", metavar="CODE", show_default=False)]
From = Annotated[
    str | None,
    typer.Option("--from", help="Language that is spoken, for hf: models that hear several.", metavar="CODE", show_default=False),
]
DecideEvery = Annotated[
    float | None, typer.Option("--decide", help="Source between decisions, in milliseconds.", metavar="MS", min=1, show_default=False)
]
Silence = Annotated[
    float | None, typer.Option("--silence", help="Pause in seconds that starts translation anew; 0 for none.", metavar="SECONDS", min=0)
]
TranslationBeam = Annotated[int, typer.Option("--beam", help="Hypotheses that the search keeps.", metavar="N", min=1, max=64)]
Layer = Annotated[
    int | None, typer.Option("--layer", help="Decoder layer whose attention the policy sees.", metavar="N", min=1, show_default=False)
]


@dataclass(frozen=True)
class Translating:
    """What of a model is wanted.

    Attributes:
        model: name; None for the first installed translator into ``to``.
        device: where it runs.
        to: target language; None for the model's first.
        source: language that is spoken; None leaves it to the model.
        latency: chunk of the encoder in ms, "full", or None for the model's default.
        beam: hypotheses of the search.
        layer: decoder layer whose attention is seen; None for the model's choice.
        decide_ms: source between decisions; None for the encoder's chunk.
        silence_s: pause that ends a segment; None or 0 for none.
    """

    model: str | None = None
    device: str = "cpu"
    to: str | None = None
    source: str | None = None
    latency: int | Literal["full"] | None = None
    beam: int = 1
    layer: int | None = None
    decide_ms: float | None = None
    silence_s: float | None = None

    def load(self) -> TranslationModel | HuggingFaceModel:
        """Load the model.

        Raises:
            UsageError: it does not translate, or none is installed.
            BundleError: there is no such model, or it is damaged.
            HuggingFaceError: likewise of a checkpoint.
        """
        name = self.model or installed(self.to)
        model = load_any(name, self.device)
        if not hasattr(model, "attention_model"):
            raise UsageError(f"model {name} is a recogniser, and translates nothing: give a translator, or hf:owner/name")
        return model

    def attention_model(self, model: TranslationModel | HuggingFaceModel, policy: str) -> Any:
        """The loaded model as the policy called ``policy`` wants it.

        Raises:
            ValueError: the model cannot be used so; the message says why.
        """
        from riverrun.speech.huggingface import HuggingFaceModel
        from riverrun.speech.translation import SearchConfig

        search = SearchConfig(beam=self.beam)
        try:
            if isinstance(model, HuggingFaceModel):
                raw = policy_name(policy) == "edatt"  # it sums attention, which z-scores would make nonsense of
                return model.attention_model(self.latency, search, self.layer, source=self.source, target=self.to, standardised=not raw)
            if self.source is not None:
                raise UsageError("this model hears one language; leave --from out")
            return model.attention_model(self.latency, search, self.layer)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def translator(self, model: Any, policy: Policy) -> Translator:
        """The translator of a model as `attention_model` gives it.

        Raises:
            PolicyError: they do not go together, or the model does not write the language.
        """
        from riverrun.streaming.translator import Translator

        return Translator(model, policy, **self.how)

    def traced(self, model: Any, policy: Policy) -> TracedTranslator:
        """The same, for one recording, keeping where each token looked."""
        from .trace import TracedTranslator

        return TracedTranslator(model, policy, **self.how)

    @property
    def how(self) -> dict[str, Any]:
        """Options of a `Translator`."""
        return {"language": self.to, "decide_ms": self.decide_ms, "silence_s": self.silence_s or None}

    def policy(self, model: Any, text: str, options: Sequence[str] = ()) -> Policy:
        """A policy from the command line, with what suits the model where nothing else is asked for."""
        return make(text, options, getattr(model, "policy_defaults", None))


@dataclass(frozen=True)
class Translation(Hearing):
    """A translator that hears recordings."""

    translator: Translator

    def stream(self, sample_rate: int) -> AbstractContextManager[Stream]:
        from riverrun.speech.audio import Resampler
        from riverrun.streaming import Stream

        rate = self.translator.sample_rate
        return Stream(self.translator, None if sample_rate == rate else Resampler(sample_rate, rate))


def installed(to: str | None) -> str:
    """The name of an installed translator, into ``to`` if that is given.

    Raises:
        UsageError: there is none.
    """
    from riverrun.speech.bundle import available, translates_into

    names = {name: translates_into(folder) for name, folder, _ in available()}
    for name, languages in names.items():
        if languages is not None and (to is None or to in languages):
            return name
    known = sorted({language for languages in names.values() for language in languages or ()})
    if known:
        raise UsageError(f"no installed model translates into {to!r}: they translate into {', '.join(known)}; name another with --model")
    raise UsageError("no translator is installed; name one with --model: a bundle's folder, or hf:owner/name")
