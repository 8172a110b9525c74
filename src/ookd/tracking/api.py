"""Tracking in a line or two: `ookd.load` and `ookd.track`."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ookd.data.video import FrameSource, open_source
from ookd.errors import UserError
from ookd.models import zoo
from ookd.structures import FrameResult
from ookd.tracking.config import TrackerConfig, tracker_config
from ookd.tracking.session import MultiSession, Session, Wanted


@dataclass(frozen=True, slots=True)
class Tracker:
    """A model, its class names and its tracker constants: what a session is made from."""

    model: nn.Module
    names: Sequence[str]
    config: TrackerConfig
    device: torch.device

    def session(
        self, *, classes: Collection[str] | None = None, score: float | None = None, final: bool = False
    ) -> Session:
        """One stream. Only objects of these classes and at least this score are shown; all are tracked.

        With `final` the session also gathers the results about the whole video.
        """
        wanted = self._wanted(classes, score)
        return Session(self.model, self.config, self.names, self.device, wanted=wanted, final=final)

    def sessions(
        self, streams: int, *, classes: Collection[str] | None = None, score: float | None = None
    ) -> MultiSession:
        """Several streams, each step one batch through the model."""
        wanted = self._wanted(classes, score)
        return MultiSession(self.model, self.config, self.names, self.device, streams, wanted=wanted)

    def fingerprint(self) -> str:
        """The same for the same weights, wherever they lie."""
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def _wanted(self, classes: Collection[str] | None, score: float | None) -> Wanted:
        if classes is None:
            return Wanted(None, score or 0.0)
        for name in classes:
            if name not in self.names:
                near = difflib.get_close_matches(name, self.names, 1)
                hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(self.names)}"
                raise UserError(f"the model has no class {name}; {hint}")
        return Wanted({label for label, name in enumerate(self.names) if name in classes}, score or 0.0)


def load(model: str | Path = "nano", device: str = "auto") -> Tracker:
    """The model of a folder, of a bundled name or of a hub id, ready to track.

    >>> session = ookd.load("nano").session()
    >>> result = session.step(image)  # uint8 [H, W, 3] RGB
    """
    place = _device(device)
    saved = zoo.load(model, place)
    family: Any = saved.model.config
    try:
        config = tracker_config(family.family, saved.tracker)
    except UserError as error:
        raise UserError(f"model {model}: {error}") from None
    return Tracker(saved.model, saved.names, config, place)


def track(
    source: str | Path | int | FrameSource,
    model: str | Path | Tracker = "nano",
    *,
    classes: Collection[str] | None = None,
    score: float | None = None,
    every: int = 1,
    start: int | str | None = None,
    end: int | str | None = None,
    device: str = "auto",
) -> Generator[FrameResult, None, None]:
    """Follow objects through a video file, folder, glob, camera or stream, one result a frame.

    `start` and `end` are a frame number (120) or a time ("1:30"); `every` takes each so-many-th frame; with
    `classes` and `score` only some of the objects are shown. Memory does not grow with the video.

    >>> for result in ookd.track("street.mp4"):
    ...     print(result.index, result.ids, [result.names[label] for label in result.labels])
    """
    tracker = model if isinstance(model, Tracker) else load(model, device)
    session = tracker.session(classes=classes, score=score)
    with open_source(source, start=start, end=end, every=every) as frames:
        for frame in frames.frames():
            result = session.step(frame.image)
            result.index, result.seconds = frame.index, frame.seconds
            yield result


def _device(name: str) -> torch.device:
    """A device by name; "auto" is the fastest one here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"device {name} is not to be had here (auto, cpu, cuda, mps): {reason}") from None
    return device
