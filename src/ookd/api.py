"""Tracking in a line or two: `ookd.load` and `ookd.track`."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ookd.config.tracker import TrackerConfig
from ookd.data.video import FrameSource, open_source
from ookd.deploy import runtime as runtimes
from ookd.deploy.folder import is_exported
from ookd.errors import UserError
from ookd.files import fingerprint
from ookd.structures import FrameResult
from ookd.tracking.pipeline import follow
from ookd.tracking.session import MultiSession, ResultFilter, Session

if TYPE_CHECKING:
    import torch

    from ookd.models.protocols import OnlineModel

RUNTIMES = ("auto", "torch", "compiled", *runtimes.RUNTIMES)


@dataclass(frozen=True, slots=True)
class Tracker:
    """A model, its class names and its tracker constants: what a session is made from."""

    model: OnlineModel | runtimes.ExportedModel
    names: Sequence[str]
    config: TrackerConfig
    device: torch.device | None  # None for an exported model, whose runtime decides

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
        if isinstance(self.model, runtimes.ExportedModel):
            return self.model.fingerprint
        return fingerprint(self.model)

    def _wanted(self, classes: Collection[str] | None, score: float | None) -> ResultFilter:
        if classes is None:
            return ResultFilter(None, score or 0.0)
        for name in classes:
            if name not in self.names:
                near = difflib.get_close_matches(name, self.names, 1)
                hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(self.names)}"
                raise UserError(f"the model has no class {name}; {hint}")
        return ResultFilter({label for label, name in enumerate(self.names) if name in classes}, score or 0.0)


def load(model: str | Path = "nano", device: str = "auto", runtime: str = "auto") -> Tracker:
    """The model of a folder, of a bundled name or of a hub id, ready to track.

    `runtime` is what computes it: torch or compiled (`torch.compile`) for weights, openvino or onnx for the
    folder of `ookd export`; auto takes the fastest one that is installed. `device` is for PyTorch.

    >>> session = ookd.load("nano").session()
    >>> result = session.step(image)  # uint8 [H, W, 3] RGB
    """
    if runtime not in RUNTIMES:
        raise UserError(f"runtime {runtime}: right are {', '.join(RUNTIMES)}")
    if is_exported(model):
        exported = runtimes.load(model, runtime)
        return Tracker(exported.model, exported.names, TrackerConfig().changed(exported.tracker), None)
    if runtime in runtimes.RUNTIMES:
        raise UserError(f"model {model}: {runtime} reads what `ookd export` writes; these are weights")
    from ookd.models import zoo
    from ookd.models.families import tracker_config
    from ookd.models.protocols import OnlineModel
    from ookd.tracking.torch_model import device_named

    place = device_named(device)
    saved = zoo.load(model, place)
    if not isinstance(saved.model, OnlineModel):
        raise UserError(f"model {model}: sees whole clips; only models of single frames track online")
    try:
        constants = tracker_config(saved.model.config.family, saved.tracker)
    except UserError as error:
        raise UserError(f"model {model}: {error}") from None
    if runtime == "compiled":
        saved.model.compile()
    return Tracker(saved.model, saved.names, constants, place)


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
    runtime: str = "auto",
) -> Generator[FrameResult, None, None]:
    """Follow objects through a video file, folder, glob, camera or stream, one result a frame.

    `start` and `end` are a frame number (120) or a time ("1:30"); `every` takes each so-many-th frame; with
    `classes` and `score` only some of the objects are shown. Memory does not grow with the video.

    >>> for result in ookd.track("street.mp4"):
    ...     print(result.index, result.ids, [result.names[label] for label in result.labels])
    """
    tracker = model if isinstance(model, Tracker) else load(model, device, runtime)
    session = tracker.session(classes=classes, score=score)
    with open_source(source, start=start, end=end, every=every) as frames:
        yield from follow(session, frames)
