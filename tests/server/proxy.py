"""A WebSocket proxy on loopback that treats connections badly, on purpose."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


@asynccontextmanager
async def proxy(
    target: str,
    cuts: list[int],
    delay: Callable[[], float] = lambda: 0.0,
    duplicate: Callable[[], bool] = lambda: False,
    hangs: Sequence[bool] = (),
    loses: int = 0,
) -> AsyncIterator[str]:
    """Forward to ``target`` (HOST:PORT); gives HOST:PORT.

    Args:
        cuts: of each connection in turn, messages from the client after which it is cut without a word; then no more cuts.
        delay: seconds to hold a message from the server, and a fifth of it one from the client.
        duplicate: whether to deliver a message from the server twice.
        hangs: of each connection in turn, whether it hangs where it would be cut: nothing arrives any more, and it stays open.
        loses: messages from the client before a cut, from which on nothing from the server arrives.
    """

    hanging = list(hangs)

    async def handle(client: ServerConnection) -> None:
        left, hang = cuts.pop(0) if cuts else -1, hanging.pop(0) if hanging else False
        async with connect(f"ws://{target}{client.request.path}", ping_interval=None, proxy=None, max_size=1 << 24) as server:

            async def up() -> None:
                nonlocal left
                async for message in client:
                    if left == 0:
                        await asyncio.sleep(3600 if hang else 0)
                        return
                    left -= 1
                    await asyncio.sleep(delay() / 5)
                    await server.send(message)
                await server.close(client.close_code or 1000)

            async def down() -> None:
                async for message in server:
                    await asyncio.sleep(delay())
                    if 0 <= left < loses:
                        continue
                    for _ in range(2 if duplicate() else 1):
                        await client.send(message)
                await client.close(server.close_code or 1000)

            tasks = [asyncio.create_task(up()), asyncio.create_task(down()), asyncio.create_task(client.wait_closed())]
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

    async with serve(handle, "127.0.0.1", 0, ping_interval=None, max_size=1 << 24, max_queue=None) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
