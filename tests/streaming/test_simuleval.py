"""The agent for SimulEval, driven as SimulEval 1.1.4 drives it. The real one pins versions that do not go with ours: this is a stub."""

import importlib
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .fake_translator import speak

SENTENCE = speak([1, 2, 3, 9, 0, 4, 5, 6, 7, 9])
TRANSLATED = "eins zwei drei. vier fünf sechs sieben."
MODULE = "riverrun.streaming.simuleval"


def forget() -> None:
    for name in [name for name in sys.modules if name == MODULE or name.split(".")[0] == "simuleval"]:
        del sys.modules[name]


@pytest.fixture
def simuleval(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    forget()
    monkeypatch.syspath_prepend(Path(__file__).parent / "simuleval_stub")
    yield importlib.import_module("simuleval.agents")
    forget()


def make(*options: str) -> Any:
    agent = importlib.import_module(MODULE).TranslationAgent
    parser = ArgumentParser()
    parser.add_argument("--device", default="cpu")  # SimulEval's own
    agent.add_args(parser)
    loader = ["--model", "fake", "--model-loader", f"{__package__}.fake_translator:load"]
    return agent.from_args(parser.parse_args([*loader, *options]))


def text(log: list[tuple[float, str]]) -> str:
    return " ".join(" ".join(content.split()) for _, content in log)


def test_recordings_are_translated_one_after_the_other(simuleval: Any) -> None:
    recordings = [(SENTENCE.tolist(), 16000, None)] * 2
    first, second = simuleval.evaluate(make("--policy", "alignatt:frames=4"), recordings, 320)
    assert first == second  # nothing of the first is left in the second
    assert text(first) == TRANSLATED and len(first) > 3
    assert len({at for at, _ in first}) == len(first)  # one write a segment
    assert [at for at, _ in first] == sorted(at for at, _ in first) and first[-1][0] == 2400


@pytest.mark.parametrize("policy", ["wait-k:k=1000", "retranslation", "hold-n:n=1000", "streamatt:frames=1000"])
def test_all_is_written_with_the_last_segment(simuleval: Any, policy: str) -> None:
    """The agent is asked once after the last segment: what it only wants to read on for is lost, and its state is not."""
    first, second = simuleval.evaluate(
        make("--policy", policy), [(SENTENCE.tolist(), 16000, None), (speak([8]).tolist(), 16000, None)], 320
    )
    assert (text(first), [at for at, _ in first]) == (TRANSLATED, [2400])
    assert text(second) == "acht"


def test_recordings_of_any_rate_channels_and_length(simuleval: Any) -> None:
    loud = np.repeat(SENTENCE, 3)
    recordings = [
        (loud.tolist(), 48000, None),
        (np.stack([SENTENCE, SENTENCE], 1).tolist(), 16000, None),
        ([], 16000, None),
        ([0.0] * 10, 16000, None),
        (SENTENCE[: -4 * 640].tolist(), 16000, None),
    ]
    logs = simuleval.evaluate(make("--policy", "alignatt:frames=4"), recordings, 160)
    assert [text(log) for log in logs] == [TRANSLATED, TRANSLATED, "", "", TRANSLATED + " achso"]


def test_the_language_of_each_recording(simuleval: Any) -> None:
    recordings = [(speak([1]).tolist(), 16000, language) for language in (None, "fr", "de")]
    assert [text(log) for log in simuleval.evaluate(make("--translate-to", "fr"), recordings, 320)] == ["un", "un", "eins"]
    assert [text(log) for log in simuleval.evaluate(make(), recordings, 320)] == ["eins", "un", "eins"]


def load_nothing(name: str, device: str) -> object:
    return object()


REFUSED = {
    ("--policy", "edatt:lambda=0"): "policy edatt: lambda is 0: give a whole number, at least 1",
    ("--translate-to", "it"): "this model does not translate into 'it': it translates into de, fr",
    ("--decide-ms", "0"): "decide_ms is 0: give milliseconds, more than 0",
    ("--latency-ms", "320"): "fake has one latency only: leave --latency-ms out",
    ("--model", "nothing"): "no model 'nothing'",
    ("--model-loader", "json"): "'json' is no module:name",
    ("--model-loader", "json:load_model"): "json:load_model: module 'json' has no attribute 'load_model'",
    ("--model-loader", "no_such_module:load"): "no_such_module:load: No module named 'no_such_module'",
    ("--model-loader", f"{__name__}:load_nothing"): "fake does not translate: give a model that does",
}


@pytest.mark.parametrize("options", REFUSED)
def test_bad_options_are_refused_in_one_line(simuleval: Any, options: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        make(*options)
    assert exit_.value.code == 2 and capsys.readouterr().err == f"error: {REFUSED[options]}\n"


def test_models_of_several_latencies(simuleval: Any) -> None:
    from .fake_translator import FakeModel

    asked = []

    class Loaded:
        def attention_model(self, latency_ms: int | None) -> FakeModel:
            asked.append(latency_ms)
            return FakeModel()

    simuleval.several = lambda name, device: Loaded()
    agent = make("--model-loader", "simuleval.agents:several", "--latency-ms", "640")
    assert asked == [640] and text(simuleval.evaluate(agent, [(SENTENCE.tolist(), 16000, None)], 640)[0]) == TRANSLATED


def test_without_simuleval_the_agent_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    monkeypatch.setitem(sys.modules, "simuleval", None)
    with pytest.raises(ImportError, match=r"pip install simuleval==1\.1\.4 in an environment of its own, beside riverrun"):
        importlib.import_module(MODULE)
