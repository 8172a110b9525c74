"""One video with answers that wait for the frames that follow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig
from ookd.data import rle
from ookd.errors import UserError
from ookd.masks import Bools, Floats, Ints
from ookd.structures import FrameResult, Rle
from ookd.tracking.frame_model import Image
from ookd.tracking.linker import Linker
from ookd.tracking.select import DetectionFeatures, Detections
from ookd.tracking.video_tracker import ResultFilter, VideoTracker

CANNOT_STOP = "a tracker that waits for the frames ahead can be neither saved nor restored"


@dataclass(frozen=True, slots=True)
class WaitingDetections(DetectionFeatures):
    """Detections whose masks are held as run lengths until their frame is answered."""

    rles: list[Rle]
    boxes: Floats  # [N, 4] around the masks
    height: int  # of the frame
    width: int
    everyone: Floats | None  # [Q, K] as in `Detections`

    @classmethod
    def of(cls, detections: Detections) -> WaitingDetections:
        masks, boxes = detections.full_size(np.arange(len(detections)))
        features = (detections.probs, detections.embeds, detections.places, detections.query)
        height, width = masks.shape[1:]
        return cls(
            *features,
            rle.encode_many(masks),
            boxes,
            height,
            width,
            detections.everyone,
            identity=detections.identity,
        )

    def full_size(self, rows: Ints) -> tuple[Bools, Floats]:
        """Masks [n, H, W] and boxes [n, 4] of some of them."""
        masks = rle.decode_many([self.rles[row] for row in rows.tolist()])
        return masks.reshape(-1, self.height, self.width), self.boxes[rows]


class DelayedTracker(VideoTracker):
    """Answers each frame when the `ahead` frames after it are known; None: when the video ends."""

    def __init__(
        self,
        config: TrackerConfig,
        names: Sequence[str] = (),
        *,
        ahead: int | None,
        show: ResultFilter | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(config, names, show=show, final=final)
        self._linker = Linker(config, ahead)
        self._waiting: deque[tuple[WaitingDetections, Image | None]] = deque()

    def step(self, detections: Detections, image: Image | None = None) -> FrameResult:
        raise UserError("this tracker answers later than it is asked; give it the whole video: follow()")

    def follow(self, frames: Iterable[tuple[Detections, Image | None]]) -> Iterator[FrameResult]:
        """What is known at each frame, in order; the last ones when the video ends."""
        for detections, image in frames:
            self._waiting.append((WaitingDetections.of(detections), image))
            yield from self._answers(self._linker.add(detections.at(np.arange(len(detections)))))
        yield from self._answers(self._linker.finish())

    def _answers(self, decided: Iterable[Ints]) -> Iterator[FrameResult]:
        for ids in decided:
            self.memory = self._linker.decided
            yield self.answer(ids, *self._waiting.popleft())

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        raise UserError(CANNOT_STOP)

    @state.setter
    def state(self, arrays: dict[str, NDArray[Any]]) -> None:
        raise UserError(CANNOT_STOP)


def make_tracker(
    config: TrackerConfig,
    names: Sequence[str] = (),
    *,
    ahead: int | None = 0,
    show: ResultFilter | None = None,
    final: bool = False,
) -> VideoTracker:
    """The tracker that decides identities when so many frames `ahead` are known; None: all of them."""
    if ahead == 0:
        return VideoTracker(config, names, show=show, final=final)
    return DelayedTracker(config, names, ahead=ahead, show=show, final=final)
