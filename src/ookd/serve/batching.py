"""One model that many streams share: the waiting frames are its next batch.

A stream has one frame in flight. So the queue is never longer than the number of streams, and no stream waits
for a slow or lost one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from ookd.deploy.loading import Tracker
from ookd.structures import FrameResult
from ookd.tracking.frame_model import Image
from ookd.tracking.select import Detections
from ookd.tracking.session import Stream
from ookd.tracking.video_tracker import ResultFilter

ANSWER_SECONDS = 300.0  # after which a frame counts as lost


class BatchedModel:
    """A model with a fixed number of places for streams. Its thread runs until `close`."""

    def __init__(
        self,
        name: str,
        tracker: Tracker,
        streams: int,
        on_batch: Callable[[str, int, float], None] = lambda name, frames, seconds: None,
    ) -> None:
        self.name, self.tracker = name, tracker
        self._session = tracker.sessions(streams)
        self._on_batch = on_batch
        self._free = deque(range(streams))
        self._waiting: deque[tuple[Image, Stream, Future[Detections]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"model {name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def open(self, show: ResultFilter | None = None) -> ModelStream | None:
        """A place for one more stream, without any memory; None if all are taken."""
        with self._changed:
            if not self._free:
                return None
            place = self._free.popleft()
        self._session.restart(place)
        stream = self._session.streams[place]
        if show is not None:
            stream.tracker.show = show
        return ModelStream(self, place, stream)

    def release(self, place: int) -> None:
        with self._changed:
            self._free.append(place)

    def detect(self, image: Image, stream: Stream) -> Detections:
        """What the model finds in the next image of a stream, computed with those of others."""
        answer: Future[Detections] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the server stops")
            self._waiting.append((image, stream, answer))
            self._changed.notify_all()
        return answer.result(ANSWER_SECONDS)

    def close(self) -> None:
        """Finish the current batch; drop the waiting frames."""
        with self._changed:
            self._closed = True
            for _, _, answer in self._waiting:
                answer.set_exception(RuntimeError("the server stops"))
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                batch = self._take()
            images, streams, answers = zip(*batch, strict=True)
            begin = time.perf_counter()
            try:
                found = self._session.detect(images, streams)
            except Exception as error:
                for answer in answers:
                    answer.set_exception(error)
                continue
            self._on_batch(self.name, len(images), time.perf_counter() - begin)
            for answer, detections in zip(answers, found, strict=True):
                answer.set_result(detections)

    def _take(self) -> list[tuple[Image, Stream, Future[Detections]]]:
        """The waiting frames of the first one's size: padding would change the results."""
        shape = self._waiting[0][0].shape
        batch = [one for one in self._waiting if one[0].shape == shape]
        self._waiting = deque(one for one in self._waiting if one[0].shape != shape)
        return batch


class ModelStream:
    """One stream's place in a shared model."""

    def __init__(self, model: BatchedModel, place: int, stream: Stream) -> None:
        self.model, self._place, self._stream = model, place, stream
        self._held = True

    def step(self, image: Image) -> FrameResult:
        """The result for this image [H, W, 3] RGB. The tracker runs in the caller's thread."""
        return self._stream.tracker.step(self.model.detect(image, self._stream), image)

    def release(self) -> None:
        """Free the place. The stream's memory is lost."""
        if self._held:
            self._held = False
            self.model.release(self._place)
