"""`WS /stream`: camera images come in one by one, and each is answered before the next is read.

The client starts with a JSON text (`StreamStart`), gets one back, and then sends JPEGs as binary messages.
Every image has one answer. Nothing queues: an image sent too early waits in the client's own connection.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ookd.errors import UserError
from ookd.serve.live import LiveStream
from ookd.serve.rules import IDLE_SECONDS, WAIT_SECONDS, Refusal
from ookd.serve.shelf import Shelf

log = logging.getLogger(__name__)

TAKEN, AGAIN_LATER, BAD, FAILED = 4001, 1013, 1008, 1011  # codes of closed connections
LONGEST_REASON = 123  # bytes of a closing message
BAD_FRAMES = 20  # in a row, after which a connection is closed
END = "end"  # the text that ends a stream; its frames stay


class StreamStart(BaseModel):
    """The first message of a client."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="One of the server's models; default: the first.")
    classes: list[str] | None = Field(None, description="Only objects of these classes.")
    score: float = Field(0.0, ge=0, le=1, description="Only objects with at least this score.")
    resume: str | None = Field(
        None, description="The id of a stream to resume, within a minute after a break."
    )


async def serve_stream(socket: WebSocket, shelf: Shelf) -> None:
    """One connection, from its first message to its end."""
    await socket.accept()
    try:
        start = StreamStart.model_validate_json(await asyncio.wait_for(socket.receive_text(), WAIT_SECONDS))
        live, resumed = _opened(start, shelf, socket)
    except (ValidationError, KeyError):
        return await _close(socket, BAD, 'start with a JSON text, such as {} or {"model": "nano"}')
    except (TimeoutError, WebSocketDisconnect):
        return await _close(socket, BAD, "nothing was sent")
    except Refusal as refusal:
        return await _close(socket, AGAIN_LATER if refusal.status == 503 else BAD, str(refusal))
    except UserError as error:  # a class that the model does not know
        return await _close(socket, BAD, str(error))
    before, live.holder = live.holder, socket
    if isinstance(before, WebSocket) and before is not socket:
        await _close(before, TAKEN, "the stream continues on another connection")
    video = live.video
    try:
        await _send(
            socket,
            orjson.dumps(
                {
                    "stream": video.id,
                    "resumed": resumed,
                    "model": video.model,
                    "frames": video.spool.stop,
                    "classes": list(video.names),
                }
            ),
        )
        await _frames(socket, live, shelf)
    except (TimeoutError, WebSocketDisconnect):
        await _close(socket, BAD, "no frame came, or the answer was not read")
    except Exception as error:  # from the model or the disk; other streams go on
        log.warning("stream %s: %s: %s", video.id, type(error).__name__, error)
        await _close(socket, FAILED, "the frame could not be tracked")
    finally:
        live.leave(socket)


async def _frames(socket: WebSocket, live: LiveStream, shelf: Shelf) -> None:
    """Answer one image after the other."""
    loop, bad = asyncio.get_running_loop(), 0
    while live.holder is socket:
        message = await asyncio.wait_for(socket.receive(), IDLE_SECONDS)
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") == END:
            live.end()
            return await _close(socket, 1000, "the stream has ended")
        try:
            answer = await loop.run_in_executor(shelf.steps, live.step, message.get("bytes") or b"")
            bad = 0
        except Refusal as refusal:
            if refusal.status == 404:  # the video was removed meanwhile
                return await _close(socket, BAD, str(refusal))
            shelf.metrics.add("ookd_refused_total", labels=f'status="{refusal.status}"')
            answer, bad = orjson.dumps({"error": str(refusal)}), bad + 1
        if bad == BAD_FRAMES:
            return await _close(socket, BAD, "too many frames that are not images")
        await _send(socket, answer)


def _opened(start: StreamStart, shelf: Shelf, socket: WebSocket) -> tuple[LiveStream, bool]:
    """The stream to resume, or a new one."""
    if start.resume is not None and (live := shelf.resume_live(start.resume)) is not None:
        return live, True
    model = shelf.model(start.model)
    return shelf.begin_live(model, model.tracker.filter(start.classes, start.score), socket), False


async def _send(socket: WebSocket, answer: bytes) -> None:
    await asyncio.wait_for(socket.send_text(answer.decode()), WAIT_SECONDS)


async def _close(socket: WebSocket, code: int, why: str) -> None:
    if socket.application_state is WebSocketState.CONNECTED:
        with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            reason = why.encode(errors="replace")[:LONGEST_REASON].decode(errors="ignore")
            await asyncio.wait_for(socket.close(code, reason), WAIT_SECONDS)
