"""``POST /v1/audio/transcriptions``: recordings, with OpenAI's request and response shape.

Recordings share the model with live streams, and yield to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from fastapi import APIRouter, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from numpy.typing import NDArray

from ..events import Final, Transcript
from ..policies import POLICIES
from ..scheduler import LiveStream, Refused, StreamFailed
from .config import ServedModel
from .hub import Hub, log
from .protocol import ProtocolError

ResponseFormat = Literal["json", "text", "srt", "vtt", "verbose_json"]

#: HTTP statuses of error codes; any other is 400.
STATUS = {"full": 503, "busy": 503, "draining": 503, "limit": 429, "failed": 500, "too-large": 413, "too-long": 413, "unsupported": 400}

router = APIRouter()


class ApiError(HTTPException):
    """An error in OpenAI's shape."""

    def __init__(self, code: str, message: str, param: str | None = None, status: int | None = None):
        status = status or STATUS.get(code, 400)
        kind = "invalid_request_error" if status < 500 else "server_error"
        detail = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        super().__init__(status, detail, {"Retry-After": "2"} if status in (429, 503) else None)


@router.post("/v1/audio/transcriptions")
async def transcriptions(
    request: Request,
    file: Annotated[UploadFile, File(description="wav, flac, ogg, opus, mp3 and others")],
    model: Annotated[str, Form()] = "default",
    response_format: Annotated[ResponseFormat, Form()] = "json",
    language: Annotated[str | None, Form()] = None,
    prompt: Annotated[str | None, Form()] = None,
    temperature: Annotated[float, Form(ge=0, le=1)] = 0.0,
    granularities: Annotated[list[Literal["word", "segment"]] | None, Form(alias="timestamp_granularities[]")] = None,
    stream: Annotated[bool, Form()] = False,
) -> Response:
    """Transcribe one recording."""
    hub: Hub = request.app.state.hub
    if prompt:
        raise ApiError("unsupported", "these models take no prompt; leave it out", "prompt")
    if stream:
        raise ApiError("unsupported", "recordings are answered whole; for live text connect to /v1/stream", "stream")
    if response_format in ("srt", "vtt") and response_format not in hub.engine.formats:
        raise ApiError("unsupported", f"this server does not write {response_format}", "response_format")
    try:
        chosen, variant = hub.choose(model, None)
    except ProtocolError as error:
        raise ApiError("model_not_found", str(error), "model", 404) from None
    if language and language not in chosen.languages:
        raise ApiError("unsupported", f"no language {language}; choose from {', '.join(chosen.languages)}", "language")
    code = "finished"
    try:
        with hub.tokens.stream(request.state.token), hub.metrics.streams.labels("file").track_inprogress():
            scheduler = await hub.scheduler(chosen, variant)
            live = scheduler.open()
            hub.metrics.opened.labels("file").inc()
            transcript = await _transcribe(hub, live, file.file, scheduler.recognizer.sample_rate)
    except (Refused, StreamFailed, ProtocolError) as error:
        code = error.code
        raise ApiError(error.code, str(error)) from None
    finally:
        hub.metrics.ended.labels("file", code).inc()
        log("recording", code=code)
    if response_format == "json":
        return JSONResponse({"text": transcript.text})
    if response_format == "verbose_json":
        return JSONResponse(_verbose(transcript, language or next(iter(chosen.languages), ""), granularities or ["segment"]))
    if response_format == "text":
        return PlainTextResponse(transcript.text + "\n")
    return PlainTextResponse(hub.engine.formats[response_format](transcript, ""))


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The models, as OpenAI lists them, with what a client may choose of each."""
    return {"object": "list", "data": [_listed(model) for model in request.app.state.hub.engine.models]}


def _listed(model: ServedModel) -> dict[str, Any]:
    capabilities = {
        "languages": model.languages,
        "latency_ms": model.default_latency_ms,
        "latencies_ms": model.latencies_ms,
        "translation": model.translation,
        "policies": list(POLICIES) if model.translation else [],
        "policy": model.policy if model.translation else None,
        "transcribes": model.transcribes,
    }
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "riverrun", "capabilities": capabilities}


async def _transcribe(hub: Hub, live: LiveStream, recording: BinaryIO, sample_rate: int) -> Transcript:
    hearing = asyncio.create_task(_hear(live))
    try:
        async for block in _blocks(hub, recording, sample_rate):
            if live.samples + len(block) > hub.config.session_s * sample_rate:
                raise ProtocolError("too-long", f"a recording may have {hub.config.session_s:g} s of audio; cut it")
            await live.push(block)
            hub.metrics.audio.inc(len(block) / sample_rate)
        await live.finish()
        return Transcript(tuple(await hearing), round(live.samples / sample_rate, 3))
    finally:
        hearing.cancel()
        live.close()


async def _blocks(hub: Hub, recording: BinaryIO, sample_rate: int) -> AsyncIterator[NDArray[np.float32]]:
    """Decoded beside the event loop, no faster than they are heard."""
    if hub.engine.decode is None:
        raise ProtocolError("unsupported", "this server takes no recordings")
    blocks: Iterator[NDArray[np.float32]] | None = None
    while True:
        try:
            blocks = blocks or iter(await asyncio.to_thread(hub.engine.decode, recording, sample_rate))
            block = await asyncio.to_thread(_next, blocks)
        except ValueError as error:
            raise ProtocolError("bad-audio", str(error)) from None
        if block is None:
            return
        yield block


async def _hear(live: LiveStream) -> list[Final]:
    return [item async for item in live if isinstance(item, Final)]


def _next(blocks: Iterator[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    return next(blocks, None)


def _verbose(transcript: Transcript, language: str, granularities: list[Literal["word", "segment"]]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "task": "transcribe",
        "language": language,
        "duration": transcript.duration,
        "text": transcript.text,
    }
    if "word" in granularities:
        document["words"] = [{"word": w.text, "start": w.start, "end": w.end} for w in transcript.words]
    if "segment" in granularities:
        document["segments"] = [_segment(i, s) for i, s in enumerate(s for s in transcript.segments if s.text)]
    return document


def _segment(i: int, segment: Final) -> dict[str, Any]:
    """Figures that only whisper has (seek, tokens, compression) are neutral."""
    scores = [np.log(max(w.confidence, 1e-10)) for w in segment.words]
    return {
        "id": i,
        "seek": 0,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(float(np.mean(scores)), 4) if scores else 0.0,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }
