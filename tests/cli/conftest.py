"""The command line in this process, with a model that hears what it likes."""

import pytest

from riverrun.cli.main import main

from . import fake


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr("riverrun.speech.load", fake.load, raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return call
