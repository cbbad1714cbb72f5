"""The page, in a browser with a microphone that plays a recording."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import soundfile

from riverrun.speech.model import SpeechModel
from riverrun.streaming.scheduler import SchedulerConfig
from riverrun.streaming.server import ServerConfig, Tokens, create_app

from .browser import chromium
from .running import engine_of, noise, running

TOKEN = "a-token-of-sixteen-or-more"
FINALS = "[...document.querySelectorAll('#finals li')].map((item) => item.lastChild.textContent)"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "speech.wav"
    soundfile.write(path, noise(6.0, 12), 16000)
    return path


@pytest.fixture(scope="module")
def address(model: SpeechModel) -> Any:
    app = create_app(engine_of(model), ServerConfig(SchedulerConfig(utilisation=float("inf")), save_s=1.0), Tokens([TOKEN]))
    with running(app) as address:
        yield address


def test_a_file_is_captioned_as_transcribed_and_saved(model: SpeechModel, address: str, recording: Path) -> None:
    expected = [s.text for s in model.transcribe(recording).segments if s.text]
    assert expected

    async def main() -> None:
        async with chromium(f"http://{address}/", recording) as page:
            await page.run("window.saved = []; URL.createObjectURL = (blob) => (window.saved.push(blob), 'data:,')")
            await page.choose_file("#file", recording)
            await page.until("document.getElementById('status').className === 'bad'")  # no token was given
            await page.run(f"token.value = {json.dumps(TOKEN)}; token.onchange()")
            await page.choose_file("#file", recording)
            await page.until("document.getElementById('status').value === 'done'")
            assert await page.run(FINALS) == expected
            assert await page.run("seconds.value") == "0:06"
            await page.run("txt.click(), srt.click()")
            assert await page.run("window.saved[0].text()") == "\n".join(expected) + "\n"
            subtitles = await page.run("window.saved[1].text()")
            assert re.match(r"1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n", subtitles)
            assert " ".join(subtitles.split("\n")[2::4]).split() == " ".join(expected).split()

    asyncio.run(main())


def test_the_microphone_is_captioned_live_on_a_phone(address: str, recording: Path) -> None:
    async def main() -> None:
        async with chromium(f"http://{address}/", recording, 375, 667) as page:
            await page.run(f"token.value = {json.dumps(TOKEN)}; token.onchange()")
            assert await page.run("document.documentElement.scrollWidth <= innerWidth")
            await page.run("microphone.click()")
            await page.until("partial.textContent && latency.value.endsWith('ms') && level.value > -50")
            await page.until("document.querySelectorAll('#finals li').length > 0 || seconds.value >= '0:04'")
            await page.run("microphone.click()")
            await page.until("document.getElementById('status').value === 'done'")
            assert await page.run(FINALS)
            assert await page.run("document.documentElement.scrollWidth <= innerWidth")
            assert not page.errors

    asyncio.run(main())
