"""Headless Chromium, driven over its DevTools protocol."""

import asyncio
import base64
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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


class Page:
    def __init__(self, socket: ClientConnection):
        self._socket, self._number = socket, 0
        self.errors: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await asyncio.wait_for(self._socket.recv(), 30))
            entry = message.get("params", {}).get("entry", {})
            if message.get("method") == "Runtime.exceptionThrown" or entry.get("source") in ("security", "violation", "worker"):
                self.errors.append(json.dumps(message["params"]))
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
            assert time.monotonic() < end, (expression, self.errors, await self.run("document.body.innerText"))
            await asyncio.sleep(0.05)

    async def choose_file(self, selector: str, path: Path) -> None:
        document = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector)
        await self.call("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(path)])

    async def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"]))


@asynccontextmanager
async def chromium(url: str, microphone: Path, width: int = 900, height: int = 700) -> AsyncIterator[Page]:
    """A page at ``url``; its microphone plays a WAV file, over and over."""
    with tempfile.TemporaryDirectory(prefix="riverrun-chromium-", ignore_cleanup_errors=True) as profile:
        command = ["chromium", *FLAGS, f"--user-data-dir={profile}", f"--use-file-for-fake-audio-capture={microphone}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with httpx.AsyncClient(trust_env=False) as http:
                targets = (await http.get(f"http://127.0.0.1:{port}/json")).json()
            target = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
            async with connect(target, max_size=1 << 26, proxy=None, ping_interval=None) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "DOM", "Log"):
                    await page.call(f"{domain}.enable")
                await page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
                await page.call("Page.navigate", url=url)
                await page.until("document.readyState === 'complete'")
                yield page
        finally:
            process.terminate()
            process.wait()


async def _port(file: Path) -> int:
    for _ in range(600):
        if file.exists() and "\n" in (text := file.read_text()):
            return int(text.split()[0])
        await asyncio.sleep(0.05)
    raise AssertionError("chromium did not start; it is the Debian package chromium")
