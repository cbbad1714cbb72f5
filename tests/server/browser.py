"""Headless Chromium, driven over its DevTools protocol."""

import asyncio
import base64
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--disable-component-update",
    "--disable-extensions",
    "--remote-debugging-port=0",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
#: What a page says on its console, and what the browser says there of it.
CONSOLE = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Page:
    """A tab; ``console`` holds all that was said there."""

    def __init__(self, socket: ClientConnection):
        self._socket, self._number = socket, 0
        self.console: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await asyncio.wait_for(self._socket.recv(), 30))
            if message.get("method") in CONSOLE:
                self.console.append(json.dumps(message["params"]))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    async def run(self, expression: str) -> Any:
        """The value of an expression; promises are awaited."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not await self.run(expression):
            assert time.monotonic() < end, (expression, self.console, await self.run("document.body.innerText"))
            await asyncio.sleep(0.05)

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        press = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": codes[key]}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **press)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **press)

    async def choose_file(self, selector: str, path: Path) -> None:
        document = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector)
        await self.call("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(path)])

    async def drop(self, path: Path, x: int = 200, y: int = 200) -> None:
        """Drag a file into the page and let it go."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            await self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    async def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"]))


class Chromium:
    """A browser that listens for orders on ``port``."""

    def __init__(self, port: int):
        self._port = port

    @asynccontextmanager
    async def page(self, url: str, width: int = 1280, height: int = 800, downloads: Path | None = None) -> AsyncIterator[Page]:
        """A tab at ``url``, with cookies and storage of its own, that saves what it downloads into a folder."""
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{self._port}") as http:
            whole = (await http.get("/json/version")).json()["webSocketDebuggerUrl"]
            async with connect(whole, proxy=None, ping_interval=None) as socket:
                browser = Page(socket)
                context = (await browser.call("Target.createBrowserContext"))["browserContextId"]
                if downloads:
                    behaviour = {"behavior": "allow", "browserContextId": context, "downloadPath": str(downloads)}
                    await browser.call("Browser.setDownloadBehavior", **behaviour)
                target = (await browser.call("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
                address = f"ws://127.0.0.1:{self._port}/devtools/page/{target}"
                async with connect(address, max_size=1 << 26, proxy=None, ping_interval=None) as own:
                    page = Page(own)
                    for domain in ("Page", "Runtime", "DOM", "Log"):
                        await page.call(f"{domain}.enable")
                    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
                    await page.call("Emulation.setDeviceMetricsOverride", **size)
                    await page.open(url)
                    yield page
                await browser.call("Target.disposeBrowserContext", browserContextId=context)


@contextmanager
def chromium(microphone: Path) -> Iterator[Chromium]:
    """A browser whose microphone plays a WAV file (16 bit, 44.1 kHz: its own form) each time it is opened, then silence."""
    with tempfile.TemporaryDirectory(prefix="riverrun-chromium-", ignore_cleanup_errors=True) as profile:
        sound = f"--use-file-for-fake-audio-capture={microphone}%noloop"
        command = ["chromium", *FLAGS, f"--user-data-dir={profile}", sound, "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Chromium(_port(Path(profile) / "DevToolsActivePort"))
        finally:
            process.terminate()
            process.wait()


def _port(file: Path) -> int:
    for _ in range(600):
        if file.exists() and "\n" in (text := file.read_text()):
            return int(text.split()[0])
        time.sleep(0.05)
    raise AssertionError("chromium did not start; it is the Debian package chromium")
