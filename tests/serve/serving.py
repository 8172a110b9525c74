"""A server of the model that finds coloured squares: in this process, or behind a real socket."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image as Pillow

from ookd.api import Tracker
from ookd.config.tracker import TrackerConfig
from ookd.data.video import VideoWriter
from ookd.serve.app import make_app
from ookd.serve.connections import PatientWebSocket
from ookd.serve.listen import bound, server_of
from ookd.serve.rules import ServeRules
from tracking.colour_model import NAMES, ColourModel, scene

FRAMES = 40
FPS = 20
STREAM = "ws://localhost/stream"


def colour_tracker(names: Sequence[str] = NAMES, carry: bool = False) -> Tracker:
    return Tracker(ColourModel(carry), names, TrackerConfig(), torch.device("cpu"))


def write_video(path: Path, frames: int = FRAMES) -> Path:
    with VideoWriter(path, FPS) as writer:
        for frame in range(frames):
            writer.write(scene(frame))
    return path


def jpeg(frame: int, size: tuple[int, int] = (96, 128), colours: Sequence[int] = (0, 1, 2, 3)) -> bytes:
    data = io.BytesIO()
    Pillow.fromarray(scene(frame, size, colours)).save(data, "JPEG", quality=95, subsampling=0)
    return data.getvalue()


def pixels(picture: bytes) -> np.ndarray:
    return np.array(Pillow.open(io.BytesIO(picture)).convert("RGB"))


@contextmanager
def client(
    tracker: Tracker | None = None, rules: ServeRules | None = None, **how: str
) -> Iterator[TestClient]:
    """The application without a socket."""
    app = make_app({"colours": tracker or colour_tracker()}, rules or ServeRules(), how.get("token"))
    with TestClient(app, base_url="http://localhost") as http:
        yield http


@dataclass(frozen=True, slots=True)
class Running:
    """A server in a thread."""

    port: int
    server: uvicorn.Server

    def break_streams(self) -> None:
        """Cut the connections of all live streams, as a bad network does."""
        for connection in list(self.server.server_state.connections):
            if isinstance(connection, PatientWebSocket):
                connection.loop.call_soon_threadsafe(connection.transport.abort)


@contextmanager
def served(
    tracker: Tracker | None = None, rules: ServeRules | None = None, token: str | None = None
) -> Iterator[Running]:
    """The application behind a port of this machine, with all that `ookd serve` guards it with."""
    app = make_app({"colours": tracker or colour_tracker()}, rules or ServeRules(), token)
    with bound("127.0.0.1", 0) as listening:
        server = server_of(app)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield Running(listening.getsockname()[1], server)
        finally:
            server.should_exit = True
            thread.join()


def wait_for(happened: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a function says yes."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def finished(http: TestClient, id: str) -> dict:
    """A video when it is over."""
    wait_for(lambda: http.get(f"/videos/{id}").json()["state"] in ("done", "failed"))
    return http.get(f"/videos/{id}").json()
