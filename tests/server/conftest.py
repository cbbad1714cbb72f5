"""One tiny model for all tests of the server."""

from pathlib import Path

import pytest

from riverrun.speech.model import SpeechModel

from ..tiny import tiny_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="session")
def model(folder: Path) -> SpeechModel:
    return tiny_model(folder)
