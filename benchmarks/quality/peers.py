"""The trackers of the package `trackers`, given the boxes around the model's masks and the camera's motion.

Their constants are searched in the ranges that the package names, widened where our detections need it:
scores and first sightings begin lower. McByte runs without its mask propagation: its weights are a download.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import supervision

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.masks import Ints
from ookd.models.families import family_named
from ookd.tracking.associators.ranges import Between, Range, Steps
from ookd.tracking.recordings import recordings
from ookd.tune.replay import CachedVideo, Follow
from ookd.tune.search import ANY_TRACKER, values_of
from ookd.worlds import World

PEERS = {
    "bytetrack": "ByteTrackTracker",
    "ocsort": "OCSORTTracker",
    "botsort": "BoTSORTTracker",
    "mcbyte": "McByteTracker",
}
OURS = (
    "select_score",
    "mask_nms",
    "pool",
    "doubt",
)  # which detections there are, and how a track's class is told
Motion = Mapping[int, np.ndarray]  # of each video [T, 2, 3]: from the frame before to this one


def motion(world: World, on_video: Callable[[], None] = lambda: None) -> dict[int, np.ndarray]:
    """How the camera moves in each video, as the package estimates it from the pixels."""
    found = {}
    for recording in recordings(world):
        estimate = _package().CMC(_package().CMCConfig(method="sparseOptFlow", downscale=2)).estimate
        found[recording.id] = np.stack([estimate(image[..., ::-1]) for image in recording.images()])
        on_video()
    return found


def ranges(name: str) -> Mapping[str, Range]:
    """The constants of a peer and of the detections that it gets."""
    searched: dict[str, Range] = {name: ANY_TRACKER[name] for name in OURS}
    # McByte names no ranges; its constants are those of BoT-SORT
    for constant, space in _tracker("botsort" if name == "mcbyte" else name).search_space.items():
        low, high = space["range"]
        if constant == "minimum_consecutive_frames":
            low = 1
        if constant == "high_conf_det_threshold":
            low = 0.11  # McByte wants it above 0.1
        if constant != "cmc_downscale":
            searched[constant] = Steps(low, high - 1) if space["type"] == "randint" else Between(low, high)
    return searched


def constants(name: str) -> dict[str, Any]:
    """Those with which a peer comes."""
    own = {key: one.default for key, one in signature(_tracker(name)).parameters.items()}
    ours = values_of(family_named("compact").tracker, {key: ANY_TRACKER[key] for key in OURS})
    return {**ours, **{key: own[key] for key in ranges(name) if key in own}}


def plan(
    name: str, motion: Motion, start: TrackerConfig, values: Mapping[str, Any]
) -> tuple[TrackerConfig, Follow]:
    """How a peer with these constants follows a video."""
    theirs = {key: value for key, value in values.items() if key not in OURS}

    def follow(video: CachedVideo, selected: Sequence[Ints], config: TrackerConfig) -> Iterator[Ints]:
        peer = _tracker(name)(**theirs)
        for t, (frame, rows) in enumerate(zip(video.frames, selected, strict=True)):
            image = []
            if hasattr(peer, "cmc"):
                peer.cmc = _Known(motion[video.id][t])
                image = [np.zeros((1, 1, 3), np.uint8)]  # its pixels are not looked at
            probs = frame.queries.probs[rows]
            found = peer.update(
                supervision.Detections(
                    xyxy=frame.mask_boxes[rows],
                    confidence=probs.max(1, initial=0),
                    class_id=probs.argmax(1),
                    data={"row": np.arange(len(rows))},
                ),
                *image,
            )
            ids = np.full(len(rows), -1, np.int64)
            if len(found):
                ids[found.data["row"]] = found.tracker_id
            yield ids

    ours = {key: value for key, value in values.items() if key in OURS}
    return start.changed(ours), follow


class _Known:
    """Camera motion that was estimated before."""

    def __init__(self, transform: np.ndarray) -> None:
        self.transform = transform

    def estimate(self, image: object, boxes: object) -> np.ndarray:
        return self.transform


def _tracker(name: str) -> Any:
    return getattr(_package(), PEERS[name])


def _package() -> Any:
    try:
        import trackers
    except ImportError:
        raise UserError("peers need their package: pip install --no-deps trackers==2.6.0") from None
    return trackers
