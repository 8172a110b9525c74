"""The HTTP API. The page uses nothing else."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response, WebSocket
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import WithJsonSchema
from starlette.background import BackgroundTask

from ookd import __version__
from ookd.serve.answers import FramesInfo, HealthInfo, ModelInfo, TrackInfo, VideoInfo
from ookd.serve.rules import WAIT_SECONDS, Refusal
from ookd.serve.shelf import Shelf
from ookd.serve.stream import serve_stream
from ookd.tracking.sinks import SINKS

MOST_FRAMES = 200  # in one answer
DRAWN_SCORE, REAL_SCORE = 0.5, 0.3  # where the page's slider starts; models of synthetic worlds find much
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}

router = APIRouter()


def shelf_of(request: Request) -> Shelf:
    shelf: Shelf = request.app.state.shelf
    return shelf


Shelved = Annotated[Shelf, Depends(shelf_of)]
Kind = Annotated[str, WithJsonSchema({"type": "string", "enum": [*SINKS]})]
Score = Annotated[float, Query(ge=0, le=1, description="Only objects with at least this score.")]
Classes = Annotated[str | None, Query(description="Only objects of these classes, such as person,dog.")]


@router.get("/models", tags=["models"])
def models(shelf: Shelved) -> list[ModelInfo]:
    """The models of the server, and their classes."""
    return [
        {
            "name": name,
            "classes": list(model.tracker.names),
            "score": DRAWN_SCORE if model.tracker.trained_on else REAL_SCORE,
            "licence": model.tracker.licence,
            "trained_on": model.tracker.trained_on,
        }
        for name, model in shelf.models.items()
    ]


@router.post("/videos", status_code=201, tags=["videos"])
async def upload(
    request: Request,
    shelf: Shelved,
    name: Annotated[str, Query(max_length=300, description="For the names of downloads.")] = "video",
    model: Annotated[str | None, Query(description="One of `/models`; default: the first.")] = None,
    classes: Classes = None,
    score: Score = 0.0,
) -> VideoInfo:
    """Send a video file as the body. It is tracked at once, or after the uploads before it."""
    chosen = shelf.model(model)
    show = chosen.tracker.filter(_classes(classes), score)
    path = shelf.new_upload()
    try:
        await _receive(request, path, shelf)
        video = await asyncio.to_thread(shelf.add_upload, path, _plain(name), chosen, show)
    finally:
        path.unlink(missing_ok=True)
    return video.about()


@router.get("/videos/{id}", tags=["videos"])
def video(id: str, shelf: Shelved) -> VideoInfo:
    """The progress of a video, and how it ended."""
    return shelf.video(id).about()


@router.delete("/videos/{id}", status_code=204, tags=["videos"])
def remove(id: str, shelf: Shelved) -> None:
    """Stop a video, and delete all its files."""
    shelf.remove(id)


@router.get("/videos/{id}/tracks", tags=["videos"])
def tracks(id: str, shelf: Shelved) -> list[TrackInfo]:
    """A summary of each object so far."""
    return shelf.video(id).tracks()


@router.get("/videos/{id}/tracks/{track}/thumbnail", tags=["videos"], response_class=Response, responses=JPEG)
def thumbnail(id: str, track: int, shelf: Shelved) -> Response:
    """The clearest view of an object so far."""
    picture = shelf.video(id).thumbnail(track)
    if not picture:
        raise Refusal(404, "no such track")
    return Response(picture, media_type="image/jpeg")


@router.get("/videos/{id}/frames", tags=["videos"], responses={200: {"model": FramesInfo}})
def frames(
    id: str,
    shelf: Shelved,
    start: Annotated[int, Query(ge=0)] = 0,
    count: Annotated[int, Query(ge=0, le=MOST_FRAMES)] = MOST_FRAMES,
) -> Response:
    """The objects of the frames from `start` on, as far as available, with masks as COCO run lengths."""
    video = shelf.video(id)
    about = video.about()
    start = max(start, video.spool.first)
    answers = _known(video.spool.answer, range(start, min(start + count, video.spool.stop)))
    body = b'{"video":' + orjson.dumps(about) + b',"frames":[' + b",".join(answers) + b"]}"
    return Response(body, media_type="application/json")


@router.get("/videos/{id}/frames/{frame}/picture", tags=["videos"], response_class=Response, responses=JPEG)
def picture(id: str, frame: int, shelf: Shelved) -> Response:
    """The image of a tracked frame."""
    return Response(shelf.video(id).spool.picture(frame), media_type="image/jpeg")


@router.get("/videos/{id}/download/{kind}", tags=["videos"], response_class=FileResponse)
async def download(
    id: str, kind: Kind, shelf: Shelved, classes: Classes = None, score: Score = 0.0
) -> FileResponse:
    """The results so far as one of the files of `ookd track`; mask images come as a zip."""
    video = shelf.video(id)
    if kind not in SINKS:
        raise Refusal(422, f"no download {kind:.60}; choose from {', '.join(SINKS)}")
    shown = _classes(classes)
    if unknown := [name for name in shown or () if name not in video.names]:
        raise Refusal(422, f"the model has no class {unknown[0]:.60}")
    make = partial(shelf.download, video, kind, shown, score)
    path, folder = await asyncio.get_running_loop().run_in_executor(shelf.downloads, make)
    return FileResponse(
        path,
        filename=f"{Path(video.name).stem or 'video'}-{path.name}",
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )


@router.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    await serve_stream(socket, socket.app.state.shelf)


@router.get("/healthz", tags=["operation"], responses={503: {"model": HealthInfo}})
async def healthz(shelf: Shelved, response: Response) -> HealthInfo:
    """Whether the models are running."""
    alive = all(model.alive for model in shelf.models.values())
    response.status_code = 200 if alive else 503
    return {"status": "ok" if alive else "failed", "version": __version__, "models": list(shelf.models)}


@router.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
def metrics(shelf: Shelved) -> PlainTextResponse:
    """Counters for Prometheus."""
    return PlainTextResponse(shelf.metrics_text(), media_type="text/plain; version=0.0.4")


async def _receive(request: Request, path: Path, shelf: Shelf) -> None:
    """Write the body of a request to a file, in chunks."""
    most = shelf.rules.upload_bytes
    told = request.headers.get("content-length", "0")
    if told.isascii() and told.isdigit() and int(told) > most:
        raise Refusal(413, f"a video may have {most} bytes")
    parts, size = request.stream().__aiter__(), 0
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                part = await asyncio.wait_for(anext(parts), WAIT_SECONDS)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise Refusal(408, "the upload stalled") from None
            size += len(part)
            if size > most:
                raise Refusal(413, f"a video may have {most} bytes")
            try:
                await asyncio.to_thread(file.write, part)
            except OSError as error:
                raise Refusal(507, f"the upload cannot be stored: {error.strerror or error}") from None
    shelf.metrics.add("ookd_upload_bytes_total", size)
    if not size:
        raise Refusal(400, "send the video as the body of the request")


def _known(read: Any, numbers: Iterable[int]) -> list[bytes]:
    """The answers of these frames, except frames dropped meanwhile."""
    found = []
    for number in numbers:
        try:
            found.append(read(number))
        except Refusal:
            continue
    return found


def _classes(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _plain(name: str) -> str:
    """A file name without folders and special characters."""
    return (
        re.sub(r"[^\w.() -]+", "-", name.replace("\\", "/").rpartition("/")[2]).strip(". -")[:100] or "video"
    )
