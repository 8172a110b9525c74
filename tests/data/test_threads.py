"""Working ahead and behind: order, bounds, clean ends."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from ookd.data.threads import BackgroundWriter, prefetch


class Counting:
    """An endless iterator that tells how far it was read, and in which thread it was closed."""

    def __init__(self, limit: int = 10**9) -> None:
        self.taken = 0
        self.limit = limit
        self.closed_by: str | None = None

    def __iter__(self) -> Iterator[int]:
        try:
            while self.taken < self.limit:
                self.taken += 1
                yield self.taken - 1
        finally:
            self.closed_by = threading.current_thread().name


def eventually(condition: object, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.005)
    return False


def test_order_and_end() -> None:
    assert list(prefetch(range(1000), depth=3)) == list(range(1000))
    assert list(prefetch([])) == []


def test_runs_ahead_but_not_far() -> None:
    source = Counting()
    with closing(prefetch(source, depth=3)) as items:
        assert next(items) == 0
        assert eventually(lambda: source.taken == 5)  # one out, three waiting, one in hand
        time.sleep(0.05)
        assert source.taken == 5


def test_leaving_early_closes_the_source_in_its_own_thread() -> None:
    source = Counting()
    with closing(prefetch(source)) as items:
        next(items)
    assert eventually(lambda: source.closed_by == "prefetch")


def test_exceptions_travel_after_what_came_before_them() -> None:
    def failing() -> Iterator[int]:
        yield from range(5)
        raise OSError("disk on fire")

    items = prefetch(failing(), depth=2)
    assert [next(items) for _ in range(5)] == list(range(5))
    with pytest.raises(OSError, match="disk on fire"):
        next(items)


def test_newest_wins() -> None:
    go, over = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 0
        go.wait()
        yield from range(1, 100)
        over.set()

    with closing(prefetch(source(), depth=1, newest=True)) as items:
        assert next(items) == 0
        go.set()
        assert over.wait(5)
        assert list(items) == [99]


def test_work_behind_is_in_order_and_done_at_the_end() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.001)
        done.append(item)

    with BackgroundWriter(work, depth=2) as behind:
        for item in range(30):
            behind.put(item)
            assert item - len(done) <= 4
    assert done == list(range(30))


def test_work_behind_is_finished_also_after_an_interrupt() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.01)
        done.append(item)

    def interrupted() -> None:
        with BackgroundWriter(work) as behind:
            behind.put(1)
            behind.put(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == [1, 2]


def test_a_second_interrupt_drops_what_waits_but_never_leaves_the_thread_running() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.4)
        done.append(item)

    def interrupted_twice() -> None:
        with BackgroundWriter(work) as behind:
            for item in range(4):
                behind.put(item)
            main = threading.get_ident()
            threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    assert done == [0]
    time.sleep(0.5)
    assert done == [0]


def test_a_failure_behind_stops_the_work_in_front() -> None:
    def work(item: int) -> None:
        if item == 3:
            raise OSError("full")

    numbers = itertools.count()

    def endless() -> None:
        with BackgroundWriter(work, depth=2) as behind:
            for number in numbers:
                behind.put(number)

    with pytest.raises(OSError, match="full"):
        endless()
    assert 3 < next(numbers) <= 7


def test_a_failure_of_the_last_item_is_not_lost() -> None:
    def work(_: int) -> None:
        time.sleep(0.05)
        raise OSError("full")

    with pytest.raises(OSError, match="full"), BackgroundWriter(work) as behind:
        behind.put(1)


def test_three_stages_overlap() -> None:
    """Reading, working and writing 30 items take 20 ms each: 1.8 s one after the other, 0.6 s together."""

    def reading() -> Iterator[int]:
        for item in range(30):
            time.sleep(0.02)
            yield item

    begin = time.monotonic()
    with BackgroundWriter(lambda _: time.sleep(0.02)) as writing:
        for item in prefetch(reading()):
            time.sleep(0.02)
            writing.put(item)
    assert time.monotonic() - begin < 1.3
