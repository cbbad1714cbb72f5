"""The page, in a browser whose microphone plays a recording."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pysubs2
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from riverrun.cli.main import main as command_line
from riverrun.speech.model import SpeechModel
from riverrun.streaming import Endpoint, Final, Partial, Word
from riverrun.streaming.events import Event
from riverrun.streaming.scheduler.live import LiveStream
from riverrun.streaming.server import ServedModel, ServerConfig, Tokens, create_app
from riverrun.streaming.server.config import Variant
from riverrun.streaming.state import State

from .browser import Chromium, Page, chromium
from .running import PATIENT, engine_of, noise, running

TOKEN = "a-token-of-sixteen-or-more"
RATE = 44100
IDLE = "document.body.dataset.state === 'idle'"
LIVE = "document.body.dataset.state === 'live'"
DONE = "document.getElementById('status').value === 'Done'"
FINALS = "[...document.querySelectorAll('#finals li')].map((item) => item.lastChild.textContent)"
FITS = "document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "speech.wav"
    soundfile.write(path, np.concatenate([np.zeros(RATE // 2, np.float32), noise(3.5, 12, RATE)]), RATE)
    return path


@pytest.fixture(scope="module")
def browser(recording: Path) -> Iterator[Chromium]:
    with chromium(recording) as browser:
        yield browser


@pytest.fixture(scope="module")
def address(model: SpeechModel) -> Iterator[str]:
    with running(create_app(engine_of(model), ServerConfig(PATIENT, save_s=1.0))) as address:
        yield address


def transcribed(path: Path, model: SpeechModel, capsys: pytest.CaptureFixture[str], form: str = "txt") -> str:
    """What ``riverrun transcribe`` prints."""
    with pytest.raises(SystemExit) as stop:
        command_line(["transcribe", str(path), "-m", str(model.bundle.folder), "-f", form])
    assert stop.value.code in (0, None)
    return capsys.readouterr().out


async def downloaded(path: Path) -> str:
    for _ in range(100):
        if path.exists() and (text := path.read_text()):
            return text
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path.name} did not come; there is {list(path.parent.iterdir())}")


def test_a_dropped_file_is_captioned_as_transcribed_and_saved(
    model: SpeechModel, address: str, browser: Chromium, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = transcribed(recording, model, capsys)
    words = json.loads(transcribed(recording, model, capsys, "json"))["segments"]
    assert expected

    async def main() -> None:
        async with browser.page(f"http://{address}/", downloads=tmp_path) as page:
            assert await page.run("hint.checkVisibility() && txt.disabled && srt.disabled && clear.disabled")
            await page.drop(recording)
            await page.until(DONE)
            assert await page.run(FINALS) == expected.splitlines()
            assert await page.run("seconds.value") == "0:04" and await page.run("latency.value.endsWith('×')")
            await page.run("txt.click(), srt.click()")
            assert await downloaded(tmp_path / "speech.txt") == expected
            cues = pysubs2.SSAFile.from_string(await downloaded(tmp_path / "speech.srt"))
            assert "".join("".join(cue.plaintext.split()) for cue in cues) == "".join(expected.split())
            assert cues[0].start == round(words[0]["words"][0]["start"] * 1000)
            assert all(len(line) <= 42 for cue in cues for line in cue.plaintext.split("\n"))
            assert all(a.end <= b.start for a, b in zip(cues, cues[1:], strict=False)) and all(0 < c.end - c.start <= 7000 for c in cues)
            await page.run("clear.click()")
            assert await page.run(FINALS) == [] and await page.run("seconds.value") == "0:00" and await page.run(FITS)
            assert not page.console

    asyncio.run(main())


@pytest.mark.parametrize(("suffix", "subtype", "rate", "channels"), [("wav", "PCM_24", 48000, 2), ("flac", "PCM_16", 22050, 1)])
def test_files_of_other_kinds(
    model: SpeechModel,
    address: str,
    browser: Chromium,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    subtype: str,
    rate: int,
    channels: int,
) -> None:
    path = tmp_path / f"a talk.{suffix}"
    soundfile.write(path, np.stack([noise(2.0, 20 + c, rate) for c in range(channels)], 1), rate, subtype)
    expected = transcribed(path, model, capsys)

    async def main() -> None:
        async with browser.page(f"http://{address}/") as page:
            await page.choose_file("#file", path)
            await page.until(DONE)
            assert await page.run(FINALS) == expected.splitlines()
            assert not page.console

    asyncio.run(main())


def test_the_microphone_is_captioned_live_on_a_phone_whatever_breaks(
    model: SpeechModel,
    browser: Chromium,
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: dict[LiveStream, list[NDArray[np.float32]]] = {}  # by the server's streams, one after another
    push = LiveStream.push

    async def listening(stream: LiveStream, samples: NDArray[np.float32], span: float = 0.0) -> None:
        heard.setdefault(stream, []).append(samples)
        await push(stream, samples, span)

    monkeypatch.setattr(LiveStream, "push", listening)
    caplog.set_level("INFO", "riverrun.server")
    app = create_app(engine_of(model), ServerConfig(PATIENT, save_s=0.7))

    async def main(address: str) -> list[str]:
        async with browser.page(f"http://{address}/", 390, 844) as page:
            assert await page.run(FITS)
            await page.run("microphone.click()")
            await page.until("tail.textContent && latency.value.endsWith('ms') && Number(level.ariaValueNow) > -50")
            assert await page.run(LIVE) and await page.run(FITS)
            (connection,) = app.state.hub.connections
            connection._aborted.get_loop().call_soon_threadsafe(connection.abort, "draining", "gone")
            await page.until(f"{LIVE} && seconds.value >= '0:05'")
            await page.run("microphone.click()")
            await page.until(DONE)
            assert await page.run(FITS) and not page.console
            return await page.run(FINALS)

    with running(app) as address:
        finals = asyncio.run(main(address))
        assert app.state.hub.metrics.resumed._value.get() == 1
    path = tmp_path / "heard.wav"
    starts = [json.loads(record.message) for record in caplog.records if '"event": "start"' in record.message]
    first, second = map(np.concatenate, heard.values())  # the second began where the last snapshot of the first stood
    soundfile.write(path, np.concatenate([first[: round(starts[1]["resumed_at_ms"] * RATE / 1000)], second]), RATE)
    assert finals and "".join(f"{text}\n" for text in finals) == transcribed(path, model, capsys)
    # And what was heard is the recording, sample for sample; a busy machine's browser may skip some of it.
    played, found = soundfile.read(recording, dtype="int16")[0], soundfile.read(path, dtype="int16")[0].tobytes()
    loud = [block for block in np.array_split(played, len(played) // 2205) if np.abs(block).max() > 1000]
    assert sum(block.tobytes() in found for block in loud) >= 0.8 * len(loud)


@dataclass
class Count(State):
    """Samples heard by each slot."""

    samples: torch.Tensor


@dataclass
class Script:
    """A reader that says what a translator would have at certain times, whatever the sound is."""

    chunks: int = 0
    written: list[Word] = field(default_factory=list)
    WORDS = (("das", 0.1, 1.0), ("kleine", 0.6, 1.0), ("Haus", 0.4, 1.0), ("steht", 1.4, 2.0), ("am", 1.1, 2.0), ("Fluss.", 1.7, 2.0))

    def read(self, output: tuple[torch.Tensor], slot: int) -> list[Event]:
        events: list[Event] = []
        while self.chunks < int(output[0][slot]):
            self.chunks += 1
            now = self.chunks * 0.5
            self.written = [Word(t, s, s + 0.2, 0.9, w * 1000, s * 1000) for t, s, w in self.WORDS if w <= now]
            ahead = [Word(t, s, s + 0.2, 0.5) for t, s, w in self.WORDS if now < w <= now + 0.5]
            stable, text = (" ".join(word.text for word in words) for words in (self.written, self.written + ahead))
            events.append(Partial(0, text, tuple(self.written + ahead), len(stable)))
        return events

    def finish(self, output: tuple[torch.Tensor], slot: int) -> list[Event]:
        text = " ".join(word.text for word in self.written)
        return [*self.read(output, slot), Final(0, text, tuple(self.written), 0.1, 2.0), Endpoint(0, 2.0, "sentence")]

    def save(self) -> dict[str, Any]:
        return {"chunks": self.chunks}

    def restore(self, saved: dict[str, Any]) -> None:
        self.chunks = saved["chunks"]


class Scripted:
    sample_rate, chunk, delay = 16000, 8000, 0

    def init_state(self, slots: int) -> Count:
        return Count(torch.zeros(slots, dtype=torch.long))

    def step(self, audio: torch.Tensor, lengths: torch.Tensor, state: Count) -> tuple[Any, Count]:
        state = Count(state.samples + lengths)
        return (state.samples // self.chunk,), state

    def flush(self, state: Count) -> Any:
        return (state.samples // self.chunk,)

    def reader(self) -> Script:
        return Script()


def lined(seconds: float) -> str:
    """Whether a line in the accent's colour runs through the spectrogram there, at the page's 130 pixels a second."""
    return f"""(() => {{
        const x = Math.round({seconds} * 130 - document.getElementById('scroll').scrollLeft), accent = [0x0c, 0x6a, 0x60];
        const {{ data }} = picture.getContext('2d').getImageData(x - 1, 80, 3, 60);
        const near = (at) => accent.every((value, c) => Math.abs(data[at + c] - value) < 40);
        const count = [0, 1, 2].map((column) => Array.from({{ length: 60 }}, (_, y) => near(4 * (3 * y + column))).filter(Boolean).length);
        return Math.max(...count) > 55;
    }})()"""


def test_a_translation_is_drawn_over_the_sound(model: SpeechModel, browser: Chromium, recording: Path) -> None:
    served = ServedModel("en-de", ("en",), (500,), 500, lambda latency_ms: Scripted())  # type: ignore[arg-type,return-value]
    app = create_app(replace(engine_of(model), models=(served,)), ServerConfig(PATIENT))

    async def main(address: str) -> None:
        async with browser.page(f"http://{address}/") as page:
            await page.run(
                """window.texts = []; new MutationObserver(() => {
                    const seen = JSON.stringify([stable.textContent, tail.textContent]);
                    if (seen !== window.texts.at(-1)) window.texts.push(seen);
                }).observe(partial, {childList: true, characterData: true, subtree: true})"""
            )
            await page.choose_file("#file", recording)
            await page.until(DONE)
            texts = [json.loads(text) for text in await page.run("window.texts")]
            assert ["", "das kleine Haus"] in texts and ["das kleine Haus", ""] in texts
            assert ["das kleine Haus", " steht am Fluss."] in texts
            assert await page.run(FINALS) == ["das kleine Haus steht am Fluss."]
            await page.run("document.getElementById('scroll').focus()")
            await page.press("ArrowLeft")
            assert await page.run("picked.value") == "Fluss.: written at 2.00 s, 0.30 s behind the sound at 1.70 s, 90 % sure"
            await page.press("ArrowLeft")
            await page.press("ArrowLeft")
            assert (await page.run("picked.value")).startswith("steht: written at 2.00 s, 0.60 s behind the sound at 1.40 s")
            await page.run("new Promise(requestAnimationFrame)")
            assert not page.console
            assert await page.run(lined(1.4)) and not await page.run(lined(1.85))  # a line where it looked

    with running(app) as address:
        asyncio.run(main(address))


def test_what_the_server_offers_can_be_chosen(model: SpeechModel, browser: Chromium, recording: Path) -> None:
    asked: list[Variant] = []

    def recognizer(variant: Variant) -> Scripted:
        asked.append(variant)
        return Scripted()

    served = ServedModel("en-de", ("en",), (500, 1000), 500, recognizer, ("de", "fr"), "alignatt")  # type: ignore[arg-type]
    app = create_app(replace(engine_of(model), models=(served, *engine_of(model).models)), ServerConfig(PATIENT))

    def choose(select: str, value: str) -> str:
        return f"{select}.value = '{value}', {select}.dispatchEvent(new Event('change', {{bubbles: true}}))"

    async def main(address: str) -> None:
        async with browser.page(f"http://{address}/", 390, 844) as page:
            await page.until("chosen.textContent === 'en-de · 500 ms'")
            await page.run("settings.click()")
            assert await page.run("[model, translate, document.getElementById('delay-choice')].every((select) => select.checkVisibility())")
            assert not await page.run("language.checkVisibility() || policy.checkVisibility()")
            await page.run(choose("translate", "de"))
            assert await page.run("policy.checkVisibility() && policy.selectedOptions[0].text === 'alignatt, as suits the model'")
            await page.run(choose("policy", "wait-k"))
            await page.run(choose("document.getElementById('delay-choice')", "1000"))
            assert await page.run("chosen.textContent") == "en-de · to German · 1000 ms"
            await page.press("Escape")
            await page.open(f"http://{address}/")  # choices are remembered
            await page.until("chosen.textContent === 'en-de · to German · 1000 ms'")
            await page.choose_file("#file", recording)
            await page.until(DONE)
            assert await page.run("captions.lang") == "de" and await page.run(FITS) and not page.console

    with running(app) as address:
        asyncio.run(main(address))
    assert asked[-1].latency_ms == 1000 and asked[-1].language == "de" and str(asked[-1].policy).startswith("wait-k")


def test_what_goes_wrong_is_said(model: SpeechModel, browser: Chromium, recording: Path) -> None:
    one = ServerConfig(replace(PATIENT, max_streams=1))
    app = create_app(engine_of(model), one, Tokens([TOKEN]))
    trouble = "trouble.checkVisibility() && trouble.textContent"

    async def refused(page: Page, error: str) -> str:
        """What is said when the microphone fails so."""
        await page.run(f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{error}'))")
        await page.run("dismiss.click(), microphone.click()")
        await page.until(f"{IDLE} && {trouble}")
        return await page.run("trouble.textContent")

    async def main(address: str) -> None:
        async with browser.page(f"http://{address}/") as page:
            await page.until(f"{trouble} === 'This server wants a token.' && document.activeElement === token")
            assert all("401" in said for said in page.console)
            page.console.clear()
            await page.call("Input.insertText", text=TOKEN)
            await page.press("Tab")
            await page.press("Escape")
            await page.until("chosen.textContent === 'tiny · 640 ms' && !choices.checkVisibility() && problem.hidden")
            async with browser.page(f"http://{address}/") as other:  # takes the only place
                await other.run(f"token.value = {json.dumps(TOKEN)}; token.dispatchEvent(new Event('change'))")
                await other.run("microphone.click()")
                await other.until(LIVE)
                await page.choose_file("#file", recording)
                full = "Waiting: 1 streams are open, which is all this server takes; try again later"
                await page.until(f"document.getElementById('status').value === {json.dumps(full)}")
                await other.run("microphone.click()")
                await other.until(DONE)
            await page.until(DONE)
            assert await page.run(FINALS) and not page.console
            cut = "finals.lastChild.lastChild.textContent"
            before = len(await page.run(FINALS))
            await page.run("microphone.click()")
            await page.until("tail.textContent.length > 3")
            (connection,) = app.state.hub.connections
            connection._aborted.get_loop().call_soon_threadsafe(connection.abort, "failed", "the model has failed")
            await page.until(f"{IDLE} && {trouble} === 'The model has failed.'")
            assert len(await page.run(FINALS)) == before + 1 and len(await page.run(cut)) > 3  # what stood there stays
            for error, said in {
                "NotAllowedError": "The browser may not use the microphone. Allow it in the address bar",
                "NotFoundError": "There is no microphone. Plug one in, or open a recording.",
                "NotReadableError": "Another program uses the microphone.",
            }.items():
                assert (await refused(page, error)).startswith(said)
            await page.choose_file("#file", Path(__file__))
            await page.until(f"{IDLE} && {trouble} === 'test_page.py holds no sound that this browser can read.'")
            assert not page.console

    with running(app) as address:
        asyncio.run(main(address))


def test_the_page_without_a_pointer(address: str, browser: Chromium) -> None:
    async def main() -> None:
        async with browser.page(f"http://{address}/") as page:
            order = []
            for _ in range(5):
                await page.press("Tab")
                order.append(await page.run("document.activeElement.id"))
            assert order == ["settings", "captions", "scroll", "file", "microphone"]
            await page.press(" ")
            await page.until(f"{LIVE} && document.activeElement.ariaLabel === 'Stop listening'")
            await page.press("Enter")
            await page.until(DONE)
            tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
            named = {(node["role"]["value"], node["name"]["value"]) for node in tree if node.get("name", {}).get("value")}
            assert {("button", "Listen to the microphone"), ("log", "Finished captions"), ("meter", "Level in decibels")} <= named
            unnamed = [node for node in tree if node["role"]["value"] in ("button", "combobox", "textbox") and not node["name"]["value"]]
            assert not [node for node in unnamed if not node.get("ignored")]
            assert not page.console

    asyncio.run(main())
