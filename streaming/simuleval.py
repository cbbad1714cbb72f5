"""An agent for SimulEval 1.1.4, which runs any translation model of ours under any policy:

    simuleval --agent-class riverrun.streaming.simuleval.TranslationAgent --source audio.txt --target references.txt \\
        --source-segment-size 640 --model NAME --policy alignatt:frames=8 --output folder

SimulEval pins old versions of other packages and so is no extra of ours: install it beside riverrun, in an environment of its own.
``riverrun.streaming.latency.read_instances`` reads the ``instances.log`` that it writes; its computation-aware scores have to be taken from
there, for with ``--computation-aware`` SimulEval reports them in place of the others, too.

SimulEval counts what is written by its spaces. Punctuation that comes later than its word therefore counts as a word of its own.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from .attention_model import AttentionModel
from .events import Event, Final, Partial
from .pipeline import Stream
from .policies import PolicyError, parse_policy
from .translator import Translator

try:
    from simuleval.agents import SpeechToTextAgent
    from simuleval.agents.actions import Action, ReadAction, WriteAction
except ImportError:
    raise ImportError("the agent needs SimulEval: run pip install simuleval==1.1.4 in an environment of its own, beside riverrun") from None


class TranslationAgent(SpeechToTextAgent):
    """Translates the speech that SimulEval sends; see the module."""

    def __init__(self, args: Namespace):
        self._model = _attention_model(args)
        self._policy = parse_policy(args.policy, getattr(self._model, "policy_defaults", None))
        self._resampler = args.resampler
        self._language = args.translate_to
        options = {"decide_ms": args.decide_ms, "silence_s": args.silence_s}
        self._options = {name: value for name, value in options.items() if value is not None}
        self._translators: dict[str | None, Translator] = {}
        self._translator(self._language)  # what does not go together is told before anything is read
        super().__init__(args)

    @staticmethod
    def add_args(parser: ArgumentParser) -> None:
        """Declare the agent's options."""
        parser.add_argument("--model", required=True, help="what the loader is asked for: the name or folder of a bundle")
        parser.add_argument("--model-loader", default="riverrun.speech:load", help="module:function that loads it, with a device")
        parser.add_argument("--resampler", default="riverrun.speech.audio:Resampler", help="module:class, of two sample rates")
        parser.add_argument("--policy", default="alignatt", help="name or name:option=value,option=value")
        parser.add_argument("--translate-to", help="language, for sources without one in --tgt-lang")
        parser.add_argument("--latency-ms", type=int, help="chunk of the encoder, of those that the model was trained for")
        parser.add_argument("--decide-ms", type=float, help="source between decisions, if it is to be more than a chunk")
        parser.add_argument("--silence-s", type=float, help="pause that ends a segment")

    @classmethod
    def from_args(cls, args: Namespace) -> TranslationAgent:
        """Make the agent, or say in one line what is wrong and exit with status 2."""
        try:
            return cls(args)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    def reset(self) -> None:
        """Forget the recording: the next one begins with nothing heard and nothing written."""
        super().reset()
        self._stream: Stream | None = None
        self._taken = 0  # samples of the source that the stream has
        self._running = ""  # stable text of the running segment that is written

    def policy(self) -> Action:
        """Hear what is new, and write all that has become stable; at the end, the rest, and that it is the end.

        SimulEval asks once for each segment of audio, and not again after the last: what is not written then is lost, and reading on
        there would leave this recording's state to the next one.
        """
        states = self.states
        audio = _mono(states.source[self._taken :])
        self._taken = len(states.source)
        if self._stream is None:
            if not len(audio):
                return WriteAction("", finished=True) if states.source_finished else ReadAction()
            self._stream = self._start(states.source_sample_rate, states.tgt_lang)
        events = self._stream.push(audio)
        if states.source_finished:
            return WriteAction(self._written([*events, *self._stream.finish()]), finished=True)
        text = self._written(events)
        return WriteAction(text, finished=False) if text.strip() else ReadAction()

    def _start(self, rate: int, language: Any) -> Stream:
        translator = self._translator(language if isinstance(language, str) else self._language)
        front = _resolve(self._resampler)(rate, translator.sample_rate) if rate != translator.sample_rate else None
        return Stream(translator, front)

    def _translator(self, language: str | None) -> Translator:
        if language not in self._translators:
            self._translators[language] = Translator(self._model, self._policy, language=language, **self._options)
        return self._translators[language]

    def _written(self, events: Sequence[Event]) -> str:
        """The text that became stable with ``events``."""
        text = ""
        for event in events:
            if isinstance(event, Final):
                text += event.text[len(self._running) :] + " "
                self._running = ""
            elif isinstance(event, Partial):
                text += event.text[len(self._running) : event.stable]
                self._running = event.text[: event.stable]
        return text


def _attention_model(args: Namespace) -> AttentionModel:
    loaded = _resolve(args.model_loader)(args.model, device=args.device)
    if hasattr(loaded, "attention_model"):
        return loaded.attention_model(args.latency_ms)
    if not hasattr(loaded, "generate"):
        raise PolicyError(f"{args.model} does not translate: give a model that does")
    if args.latency_ms is not None:
        raise PolicyError(f"{args.model} has one latency only: leave --latency-ms out")
    return loaded


def _resolve(path: str) -> Any:
    """What ``module:name`` stands for."""
    module, colon, name = path.partition(":")
    try:
        if colon:
            return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PolicyError(f"{path}: {error}") from None
    raise PolicyError(f"{path!r} is no module:name")


def _mono(samples: Sequence[Any]) -> np.ndarray:
    """Samples as SimulEval read them, one number each or one for each channel."""
    audio = np.asarray(samples, np.float32)
    return audio.mean(1) if audio.ndim == 2 else audio
