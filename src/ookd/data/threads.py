"""Threads that read ahead and write behind, with bounded queues between them.

Decoding, the model and encoding spend their time outside Python's lock, so three threads keep two or three
cores busy. Queues are short, so memory stays constant however long the video is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class _Queue(Generic[T]):
    """A bounded queue with an end. With `newest` it never waits for room but drops the oldest item."""

    def __init__(self, depth: int, newest: bool) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._newest = newest
        self._changed = threading.Condition()
        self._ended = False
        self._stopped = False
        self.error: BaseException | None = None  # what ended the producer or the consumer early

    def put(self, item: T) -> bool:
        """Add an item; False if the consumer has stopped."""
        with self._changed:
            if self._newest and len(self._items) == self._depth:
                self._items.popleft()
            self._changed.wait_for(lambda: self._stopped or len(self._items) < self._depth)
            if not self._stopped:
                self._items.append(item)
                self._changed.notify_all()
            return not self._stopped

    def end(self, error: BaseException | None = None) -> None:
        """No item follows; those in the queue are still handed out."""
        with self._changed:
            self.error = self.error or error
            self._ended = True
            self._changed.notify_all()

    def stop(self, error: BaseException | None = None) -> None:
        """The consumer has stopped; the queue is emptied."""
        with self._changed:
            self.error = self.error or error
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._stopped)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


def prefetch(items: Iterable[T], depth: int = 4, newest: bool = False) -> Generator[T, None, None]:
    """Read items ahead of their use, in a thread. Order is kept and exceptions are passed on.

    The thread runs up to `depth` items ahead and then waits; with `newest`, for live sources, it never
    waits but drops the oldest item. Leaving the loop early stops the thread, and `items` is closed in that
    thread, so that no decoder is freed while it works.
    """
    queue: _Queue[T] = _Queue(depth, newest)

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not queue.put(item):
                    break
        except BaseException as error:
            queue.end(error)
        else:
            queue.end()
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        yield from queue
        if queue.error is not None:
            raise queue.error
    finally:
        queue.stop()
        thread.join(timeout=2.0)  # a source that waits for a camera or a pipe is abandoned


def interruptible(work: Callable[[], T]) -> T:
    """The result of work that waits outside Python, as for a silent pipe; Ctrl-C leaves it behind."""
    done = _Queue[T](depth=1, newest=False)

    def run() -> None:
        try:
            done.put(work())
        except BaseException as error:
            done.end(error)

    threading.Thread(target=run, name="waiting", daemon=True).start()
    for result in done:
        return result
    assert done.error is not None, "ends without a result only by an error"
    raise done.error


class BackgroundWriter(Generic[T]):
    """Calls `work(item)` in its own thread, in order, at most `depth` items behind.

    Leaving the context waits until all items are done. An exception in `work` stops the thread and
    is raised by the next `put` or when the context is left.
    """

    def __init__(self, work: Callable[[T], None], depth: int = 4) -> None:
        self._work = work
        self._queue: _Queue[T] = _Queue(depth, newest=False)
        self._thread = threading.Thread(target=self._run, name="background-writer", daemon=True)
        self._idle = threading.Event()  # after an interrupted join, Thread.join returns at once

    def _run(self) -> None:
        try:
            for item in self._queue:
                self._work(item)
        except BaseException as error:
            self._queue.stop(error)
        finally:
            self._idle.set()

    def put(self, item: T) -> None:
        if not self._queue.put(item) and self._queue.error is not None:
            raise self._queue.error

    def __enter__(self) -> BackgroundWriter[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._queue.end()
        try:
            self._idle.wait()
        except KeyboardInterrupt:  # a second one: drop what waits, finish what is under way
            self._queue.stop()
            self._idle.wait()
            raise
        if self._queue.error is not None and error is None:
            raise self._queue.error
