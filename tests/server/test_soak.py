"""``bench soak`` in small, and that it would see what it looks for."""

import json
from pathlib import Path

import pytest
import soundfile

from riverrun.cli.main import main
from riverrun.cli.soak import Repetitions
from riverrun.speech.model import SpeechModel
from riverrun.streaming import Word

from .running import noise


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return int(exit.value.code or 0)


def test_two_minutes_of_the_same_sentence(model: SpeechModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2.0, 4), 16000)
    options = ["--model", str(model.bundle.folder), "--audio", str(tmp_path / "a.wav"), "--threads", "1", "--vad", "--json"]
    assert run("bench", "soak", *options, "--hours", "0.033") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["passed"] and result["repetitions_compared"] >= 10
    assert result["repetitions_different"] == result["drift_ms"] == 0
    assert len(result["memory_mb"]) >= 10
    assert run("bench", "soak", *options, "--hours", "0.01") == 2
    assert "give more --hours" in capsys.readouterr().err


def test_drift_and_other_words_are_seen() -> None:
    def heard(drift: float, odd: int | None) -> Repetitions:
        repetitions = Repetitions(10.0, 2)
        for i in range(20):
            at = 10.0 * i + 2.0 + i * drift
            repetitions.take([Word("one", at, at + 0.5, 1.0), Word("three" if i == odd else "two", at + 1, at + 1.5, 1.0)])
        return repetitions

    assert (steady := heard(0.0, None)).compared == 16 and steady.different == 0 and steady.drift_ms == 0
    assert heard(0.01, None).drift_ms == pytest.approx(160)
    assert heard(0.0, 7).different == 1
