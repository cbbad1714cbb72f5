"""A WebSocket proxy on loopback that treats connections badly, on purpose."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


@asynccontextmanager
async def proxy(
    target: str, cuts: list[int], delay: Callable[[], float] = lambda: 0.0, duplicate: Callable[[], bool] = lambda: False
) -> AsyncIterator[str]:
    """Forward to ``target`` (HOST:PORT); gives HOST:PORT.

    Args:
        cuts: of each connection in turn, messages from the client after which it is cut without a word; then no more cuts.
        delay: seconds to hold a message from the server.
        duplicate: whether to deliver a message from the server twice.
    """

    async def handle(client: ServerConnection) -> None:
        left = cuts.pop(0) if cuts else -1
        async with connect(f"ws://{target}{client.request.path}", ping_interval=None, proxy=None, max_size=1 << 24) as server:

            async def up() -> None:
                nonlocal left
                async for message in client:
                    if left == 0:
                        return
                    left -= 1
                    await server.send(message)
                await server.close(client.close_code or 1000)

            async def down() -> None:
                async for message in server:
                    await asyncio.sleep(delay())
                    for _ in range(2 if duplicate() else 1):
                        await client.send(message)
                await client.close(server.close_code or 1000)

            tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if left == 0:
                client.transport.abort()
                server.transport.abort()
            for task in tasks:
                if not task.done() and left != 0:
                    await asyncio.wait({task}, timeout=2)
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, ConnectionClosed):
                    raise result

    async with serve(handle, "127.0.0.1", 0, ping_interval=None, max_size=1 << 24) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
