"""A model, online or offline, over many recorded videos: the benchmark's result list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ookd.clips.sources import ClipSource
from ookd.config.tracker import OfflineConfig, TrackerConfig
from ookd.models.protocols import Network, OfflineModel, OnlineModel
from ookd.structures import Dataset, TrackResult
from ookd.tracking.delayed import make_tracker
from ookd.tracking.frame_model import FrameModel, Image, detect
from ookd.tracking.offline import track_offline, track_results
from ookd.tracking.recordings import Recording, category_ids, recordings
from ookd.tracking.select import Detections
from ookd.tracking.torch_model import TorchFrameModel

BATCH = 8  # frames per batch, if the model carries no state


def predict(
    model: Network | FrameModel,
    source: Dataset | ClipSource,
    config: TrackerConfig | OfflineConfig,
    names: Sequence[str] | None = None,
    on_frame: Callable[[], None] = lambda: None,
    ahead: int | None = 0,
) -> list[TrackResult]:
    """All results of all videos. Without `names`, the model's classes are those of the source, in order."""
    if names is None:
        names = [c.name for c in source.categories] if isinstance(source, Dataset) else source.names
    categories = category_ids(source, names)
    return [
        result
        for recording in recordings(source)
        for result in predict_video(model, recording, config, categories, on_frame, ahead)
    ]


def predict_video(
    model: Network | FrameModel,
    recording: Recording,
    config: TrackerConfig | OfflineConfig,
    categories: Sequence[int | None],
    on_frame: Callable[[], None] = lambda: None,
    ahead: int | None = 0,
) -> Iterator[TrackResult]:
    """All results of one video, from an online model or, with an `OfflineConfig`, from an offline one.

    `categories` are the data set's numbers of the model's classes, None for one that it does not have. An
    online model's identities are decided once `ahead` more frames are known; None: all frames.
    """
    images = _counted(recording.images(), on_frame)
    if isinstance(config, OfflineConfig):
        assert isinstance(model, OfflineModel), "constants of an offline model for an online one"
        with _evaluating(model):
            tracks = track_offline(model, images, config)
        return track_results(tracks, recording.id, categories, config)
    assert isinstance(model, OnlineModel | FrameModel), "constants of an online model for an offline one"
    tracker = make_tracker(config, ahead=ahead, final=True)
    for _ in tracker.follow((detections, None) for detections in detect_video(model, images, config)):
        pass  # the results are gathered
    return tracker.results.tracks(recording.id, categories)


def detect_video(
    model: OnlineModel | FrameModel, images: Iterator[Image], config: TrackerConfig
) -> Iterator[Detections]:
    """The detections of each frame; in batches of frames if the model carries no state."""
    with _evaluating(model):
        network = model if isinstance(model, FrameModel) else TorchFrameModel(model)
        for _, predictions in network.stream(images, config.short_side, BATCH):
            yield from detect(predictions, config)


@contextmanager
def _evaluating(model: Network | FrameModel) -> Iterator[None]:
    """The model in evaluation mode, and afterwards in the mode that it was in."""
    if isinstance(model, FrameModel):
        yield
        return
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _counted(images: Iterator[Image], on_frame: Callable[[], None]) -> Iterator[Image]:
    for image in images:
        yield image
        on_frame()
