"""The application: routes, page and guard around one shelf."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import resources

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp

from ookd import __version__
from ookd.deploy.loading import Tracker
from ookd.errors import UserError
from ookd.serve.guard import Guard
from ookd.serve.routes import router
from ookd.serve.rules import Refusal, ServeRules
from ookd.serve.shelf import Shelf

SWEEP_SECONDS = 2.0  # between two searches for abandoned streams
ABOUT = "Finds, segments and follows objects in live and recorded video."
WEBSOCKET = """

`WS /stream` follows a camera. Send `{"model": ..., "score": ...}` as text, then JPEG images as binary
messages, one at a time. Each is answered before the next is read, by an object like those of `GET
/videos/{id}/frames`. The first answer holds the stream's id. `{"resume": ID}` resumes it within a minute
after a break. The text `end` ends it.
"""


def make_app(trackers: Mapping[str, Tracker], rules: ServeRules, token: str | None = None) -> ASGIApp:
    """The server of these models, by name. Without a token it answers requests to localhost only."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        shelf = app.state.shelf = await asyncio.to_thread(Shelf, trackers, rules)
        sweeping = asyncio.create_task(_sweep(shelf))
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            await asyncio.to_thread(shelf.close)

    app = FastAPI(
        title="ookd",
        version=__version__,
        description=ABOUT + WEBSOCKET,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(router)
    app.add_exception_handler(UserError, _refused)
    for path, name in _pages().items():
        app.add_api_route(path, _file(name), include_in_schema=False)
    return Guard(app, token)


async def _sweep(shelf: Shelf) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await asyncio.to_thread(shelf.sweep)


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, Refusal) else 400
    request.app.state.shelf.metrics.add("ookd_refused_total", labels=f'status="{status}"')
    headers = {"Retry-After": "10"} if status == 503 else None
    return JSONResponse({"detail": str(error)}, status, headers)


def _pages() -> dict[str, str]:
    """The files of the page, each under one fixed path."""
    names = [file.name for file in resources.files("ookd.serve").joinpath("page").iterdir() if file.is_file()]
    return {"/": "index.html", "/docs": "docs.html", **{f"/page/{name}": name for name in names}}


def _file(name: str) -> Callable[[], Awaitable[Response]]:
    """A route that returns this file."""
    content = resources.files("ookd.serve").joinpath("page", name).read_bytes()
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"

    async def answer() -> Response:
        return Response(content, media_type=kind)

    return answer
