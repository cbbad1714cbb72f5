"""Clients of a riverrun server that lose nothing when the connection breaks, or the server does.

A client keeps the audio that the server has not acknowledged. When the connection breaks it connects again, resumes the
stream where the server's snapshot stands, and sends the rest once more; final text that it has already given is not given
twice. Needs the extra ``serve``.

Captions of a microphone::

    from riverrun.streaming import Final
    from riverrun.streaming.client import Client
    from riverrun.streaming.microphone import open_microphone

    with open_microphone() as microphone, Client("ws://127.0.0.1:8000/v1/stream", microphone.sample_rate) as client:
        for event in client.hear(microphone):
            if isinstance(event, Final):
                print(event.text)

The same with asyncio, from anything that gives blocks, translated::

    async with AsyncClient(url, 48000, token=token, translate_to="de", policy="alignatt") as client:
        async for event in client.hear(blocks):
            ...

``send``, ``flush`` and ``finish`` say the same piece by piece. What is sent may be any array: float or integer samples, mono
or with channels.
"""

from .asynchronous import AsyncClient
from .blocking import Client
from .errors import ClientError

__all__ = ["AsyncClient", "Client", "ClientError"]
