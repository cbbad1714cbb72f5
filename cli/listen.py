"""``riverrun listen``: the microphone to text, live."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UsageError, say
from .formats import FORMATS
from .hearing import Decoding
from .live import Captions
from .model import load_model
from .options import Beam, Device, LiveLatency, Model, Search, SearchOption
from .outputs import prepare_folder, write_whole
from .remote import hear_remotely, stream_url

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK_SECONDS = 0.04


def listen(
    model: Model = "default",
    device_index: Annotated[
        int | None, typer.Option(help="The microphone, as --list-devices numbers it.", metavar="N", show_default=False)
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="Print the microphones and exit.")] = False,
    latency: LiveLatency = None,
    search: SearchOption = Search.greedy,
    beam: Beam = 4,
    save: Annotated[
        Path | None, typer.Option(help="Write what was said to this file, too; its suffix names the format.", metavar="FILE")
    ] = None,
    device: Device = "cpu",
    server: Annotated[
        str | None,
        typer.Option(
            help="Let a server do it: HOST:PORT, or https://HOST. Its token is read from RIVERRUN_TOKEN.", metavar="URL", show_default=False
        ),
    ] = None,
) -> None:
    """Write down what the microphone hears, until Ctrl-C."""
    address = stream_url(server) if server else None
    form = next((form for form in FORMATS.values() if save and form.suffix.lower() == save.suffix.lower()), None)
    if save and form is None:
        raise UsageError(f"{save}: the suffix names no format; choose from {', '.join(form.suffix for form in FORMATS.values())}")
    sound = _portaudio()
    microphones = {i: device for i, device in enumerate(sound.query_devices()) if device["max_input_channels"] > 0}
    if not microphones:
        raise UsageError("no microphone found; plug one in, or allow this program to use it")
    if list_devices:
        for i, found in microphones.items():
            print(f"{i:3}  {found['name']}  ({found['max_input_channels']} channels, {found['default_samplerate']:.0f} Hz)")
        return
    if device_index is not None and device_index not in microphones:
        raise UsageError(f"device {device_index} is no microphone; choose from {', '.join(map(str, microphones))} (see --list-devices)")
    if save:
        prepare_folder(save.parent)
    rate = int(_checked(sound, device_index)["default_samplerate"])
    if address:
        chosen = {"model": model, "latency_ms": latency}
        say("listening; Ctrl-C ends")
        transcript, _ = hear_remotely(address, _blocks(sound, device_index, rate), rate, Captions(), **chosen)
    else:
        heard = Decoding(load_model(model, device, latency), latency, search, beam)
        say("listening; Ctrl-C ends")
        transcript, _ = heard.blocks(_blocks(sound, device_index, rate), rate, Captions())
    if save and form:
        write_whole(save, form.render(transcript, save.stem))


def _portaudio() -> ModuleType:
    try:
        import sounddevice
    except ImportError:
        raise UsageError("listening needs the package sounddevice; pip install 'riverrun[mic]'") from None
    except OSError:
        raise UsageError("listening needs the PortAudio library; install it (Debian and Ubuntu: apt install libportaudio2)") from None
    return sounddevice


def _checked(sound: ModuleType, device_index: int | None) -> dict[str, Any]:
    try:
        return sound.query_devices(device_index, "input")
    except (sound.PortAudioError, ValueError) as error:
        raise UsageError(f"there is no default microphone ({error}); choose one with --device-index (see --list-devices)") from None


def _blocks(sound: ModuleType, device_index: int | None, rate: int) -> Iterator[NDArray[np.float32]]:
    """Blocks of mono samples from the microphone; the audio thread only queues, so that slow decoding loses nothing."""
    arrived: queue.SimpleQueue[NDArray[np.float32]] = queue.SimpleQueue()

    def put(block: NDArray[np.float32], frames: int, time: Any, status: Any) -> None:
        arrived.put(block[:, 0].copy())

    size = int(rate * BLOCK_SECONDS)
    try:
        with sound.InputStream(rate, size, device_index, channels=1, dtype="float32", callback=put):
            while True:
                yield arrived.get()
    except sound.PortAudioError as error:
        raise UsageError(f"the microphone cannot be opened: {error}; choose another with --device-index") from None
