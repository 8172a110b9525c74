"""A whole video through a session in four stages that work on different frames, so that all cores are busy.

Decoding has its own thread. An exported model computes in its runtime's threads: it already has the next
frame while this thread selects, tracks and makes masks for the last one. A PyTorch model computes in this
thread. The caller can write results in a fourth stage (`ookd.data.threads.BackgroundWriter`).

Every queue is short and waits when it is full. Results come in the order of the frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

from ookd.data.video import Frame, FrameSource
from ookd.structures import FrameResult
from ookd.tracking.frame_model import Image
from ookd.tracking.session import Session


def follow(session: Session, source: FrameSource) -> Generator[FrameResult, None, None]:
    """One result per frame. Leaving early stops all stages.

    An error of the source is raised after the results of the frames before it. A live source is followed
    frame by frame, because working ahead would delay each result until the next frame arrives.
    """
    ahead: deque[Frame] = deque()  # frames whose results have not come out yet
    failed: list[Exception] = []

    def images(frames: Iterable[Frame]) -> Iterator[Image]:
        try:
            for frame in frames:
                ahead.append(frame)
                yield frame.image
        except Exception as error:
            failed.append(error)

    with closing(source.frames()) as frames:
        for result in session.stream(images(frames), one_by_one=source.live):
            frame = ahead.popleft()
            result.index, result.seconds = frame.index, frame.seconds
            yield result
        if failed:
            raise failed[0]
