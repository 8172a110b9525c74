"""The unit of work: `process(video) -> result file`.

A result depends only on the video's content and the settings, and the file name is a hash of both. So the
function can be called again anywhere, at any time: existing results are not computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from ookd.data import rle
from ookd.data.video import FrameSource, open_source
from ookd.deploy.loading import Tracker, load
from ookd.errors import UserError
from ookd.fleet.fetching import fetched, identity
from ookd.fleet.result import SUFFIX, FleetTrack, FleetTracks, write_tracks
from ookd.structures import FrameResult
from ookd.tracking.pipeline import follow
from ookd.tracking.sinks.sink import rows

if TYPE_CHECKING:
    from ookd.models.zoo import Saved
    from ookd.tracking.frame_model import Image

VIDEOS = "videos"  # folder of the result files
MISSING = 2  # frames that a complete video may lack: containers round


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Everything that results depend on, except the video."""

    model: str
    fingerprint: str  # of its weights and constants
    classes: tuple[str, ...] | None = None
    score: float = 0.0
    every: int = 1  # process every N-th frame
    label: bool = False  # confident tracks of the whole video, as `ookd label` finds them

    def key(self, content: str, part: tuple[int, int] | None = None) -> str:
        """The name of the result for these settings and this content, or a part of it."""
        settings = {**asdict(self), "model": None, "content": content, "part": part}
        return hashlib.blake2b(
            orjson.dumps(settings, option=orjson.OPT_SORT_KEYS), digest_size=12
        ).hexdigest()


class FleetModel:
    """The model of a worker, loaded when the first video needs it."""

    def __init__(self, settings: FleetSettings, device: str = "auto", worker: int = 0) -> None:
        self.settings, self._device, self._worker = settings, device, worker

    @cached_property
    def device(self) -> str:
        """The GPU of this worker, if none is named and there are any."""
        import torch

        count = torch.cuda.device_count() if self._device in ("auto", "cuda") else 0
        return f"cuda:{self._worker % count}" if count else self._device

    @cached_property
    def tracker(self) -> Tracker:
        return load(self.settings.model, self.device)

    @cached_property
    def saved(self) -> Saved:
        """The same model as labelling needs it; not for exported models."""
        from ookd.models import zoo
        from ookd.tracking.torch_model import device_named

        return zoo.load(self.settings.model, device_named(self.device))


@dataclass(frozen=True, slots=True)
class Processed:
    """A result file, and whether it is new."""

    key: str
    frames: int  # tracked in this call
    kept: bool  # it existed before


def path_of(out: Path, key: str) -> Path:
    return out / VIDEOS / key[:2] / f"{key}{SUFFIX}"


def process(
    address: str,
    model: FleetModel,
    out: Path,
    part: tuple[int, int] | None = None,
    on_progress: Callable[[int], None] = lambda frames: None,
) -> Processed:
    """Track a video, or its frames from one to another, and write its result file unless it is there.

    `on_progress` is called with the number of finished frames.
    """
    settings = model.settings
    key = settings.key(identity(address), part)
    file = path_of(out, key)
    if file.is_file():
        return Processed(key, 0, kept=True)
    with fetched(address, lambda: on_progress(0)) as path:
        on_progress(0)
        start, end = (None, None) if part is None else part
        with open_source(path, start=start, end=end, every=settings.every) as source:
            source.name = Path(address).name
            find = _labels if settings.label else _tracks
            found = find(source, model, on_progress)
    if source.length and found.frames < source.length - MISSING:
        raise UserError(
            f"{address}: damaged or cut off: {found.frames} of {source.length} frames can be read"
        )
    write_tracks(file, found)
    return Processed(key, found.frames, kept=False)


def _tracks(source: FrameSource, model: FleetModel, on_progress: Callable[[int], None]) -> FleetTracks:
    """As `ookd track --save rle`: live results, frame by frame."""
    settings, tracks = model.settings, dict[int, FleetTrack]()
    votes: dict[int, dict[int, float]] = {}
    session = model.tracker.session(classes=settings.classes, score=settings.score)
    frames = 0
    for frames, result in enumerate(follow(session, source), 1):
        _add(result, tracks, votes)
        on_progress(frames)
    names = model.tracker.names
    for track in tracks.values():
        of_class = votes[track.id]
        track.label = max(of_class, key=lambda label: of_class[label])
        track.name = names[track.label]
        track.score = sum(track.scores) / len(track.scores)
    return FleetTracks(frames, source.fps, source.height, source.width, list(tracks.values()))


def _add(result: FrameResult, tracks: dict[int, FleetTrack], votes: dict[int, dict[int, float]]) -> None:
    for row, mask in zip(rows(result), rle.encode_many(result.masks), strict=True):
        track = tracks.setdefault(row.id, FleetTrack(row.id, row.label, row.name, 0.0))
        track.frames.append(result.index)
        track.scores.append(row.score)
        track.boxes.append(row.box)
        track.masks.append(mask["counts"])
        of_class = votes.setdefault(row.id, {})
        of_class[row.label] = of_class.get(row.label, 0.0) + row.score


def _labels(source: FrameSource, model: FleetModel, on_progress: Callable[[int], None]) -> FleetTracks:
    """As `ookd label`: confident tracks of the whole video."""
    from ookd.label.labeller import LabelThresholds, plausible
    from ookd.label.saved import SavedLabeller
    from ookd.tracking.recordings import Recording

    settings, saved, frames = model.settings, model.saved, 0

    def images(_: Sequence[int]) -> Iterator[Image]:
        nonlocal frames
        for frame in source.frames():
            frames += 1
            on_progress(frames)
            yield frame.image

    recording, thresholds = Recording(1, source.length or 0, images), LabelThresholds(settings.score)
    tracks = SavedLabeller(saved, settings.model).tracks(recording)
    found = []
    first = 0 if source.span.start is None else source.span.start.frame or 0
    for number, result in enumerate(plausible(tracks, saved.names, thresholds)):
        label = result.category_id - 1
        name = saved.names[label]
        if thresholds.doubt(result, name) or (settings.classes is not None and name not in settings.classes):
            continue
        track = FleetTrack(number, label, name, result.score)
        for frame, mask in enumerate(result.segmentations):
            if mask is not None and rle.area(mask):
                left, top, width, height = rle.box_xywh(mask)
                track.frames.append(first + frame * settings.every)
                track.scores.append(result.score)
                track.boxes.append([left, top, left + width, top + height])
                track.masks.append(mask["counts"])
        found.append(track)
    return FleetTracks(frames, source.fps, source.height, source.width, found)
