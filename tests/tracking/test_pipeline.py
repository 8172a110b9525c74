"""A whole video through overlapping stages: the same results as frame by frame, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from ookd.config.tracker import TrackerConfig
from ookd.data.video import FrameSource
from ookd.data.video.source import Decode, Span
from ookd.deploy.folder import ExportedFolder, Manifest
from ookd.deploy.runner import IN_FLIGHT, Arrays, GraphRunner
from ookd.deploy.runtime import ExportedModel
from ookd.errors import UserError
from ookd.models.preprocess import IMAGENET
from ookd.structures import FrameResult
from ookd.tracking.pipeline import follow
from ookd.tracking.session import Session
from tracking.colour_model import NAMES, SIZE, ColourModel, scene

CONFIG = TrackerConfig()


class Threaded(GraphRunner):
    """The colour model as a runtime that computes in threads of its own; the second frame takes longest."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.model, self.fail_at = ColourModel(), fail_at
        self.pool = ThreadPoolExecutor(IN_FLIGHT)
        self.begun = self.running = 0

    @property
    def interface(self) -> tuple[set[str], set[str]]:
        return {"logits", "embed", "all"}, {"all", "select"}

    def start(self, inputs: Arrays) -> Callable[[], Arrays]:
        self.running += 1
        number, self.begun = self.begun, self.begun + 1
        future = self.pool.submit(self._run, number, inputs["frames"])

        def finish() -> Arrays:
            self.running -= 1
            return future.result()

        return finish

    def _run(self, number: int, frames: np.ndarray) -> Arrays:
        if number == self.fail_at:
            raise UserError("the runtime broke")
        time.sleep(0.05 if number == 1 else 0)
        with torch.inference_mode():
            pad = torch.zeros(1, *SIZE, dtype=torch.bool)
            pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
            queries, _ = self.model(IMAGENET.normalise(pixels, pad), pad)
            masks = queries.masks(torch.arange(queries.logits.shape[1])[None])
        return {"logits": queries.logits.numpy(), "embed": queries.embed.numpy(), "all": masks.numpy()}

    def masks(self, inputs: Arrays) -> np.ndarray:
        return inputs["all"][:, inputs["select"][0]]


class Drawn(FrameSource):
    """Scenes, the last of which may be damaged."""

    name, fps, length = "drawn", 10.0, None
    height, width = SIZE

    def __init__(self, frames: int, damaged: bool = False, live: bool = False) -> None:
        super().__init__(Span())
        self.count, self.damaged, self.live = frames, damaged, live
        self.drawn, self.closed = 0, threading.Event()

    def read(self) -> Generator[tuple[int, float, Decode], None, None]:
        try:
            for frame in range(self.count):
                if self.damaged and frame == self.count - 1:
                    raise UserError("the file ends here")
                self.drawn += 1
                yield frame, frame / self.fps, lambda frame=frame: scene(frame)
        finally:
            self.closed.set()


MANIFEST = Manifest(
    ookd="",
    source="",
    kind="onnx",
    precision="fp32",
    opset=18,
    size=SIZE,
    outputs=["logits", "embed"],
    shared=["all"],
    files={},
)


def session(runner: GraphRunner) -> Session:
    model = ExportedModel(ExportedFolder(Path(), MANIFEST, "compact", NAMES, {}, "", "", ""), runner)
    return Session(model, CONFIG, NAMES, None)


def assert_same(ahead: Iterator[FrameResult], frames: int) -> None:
    one = session(Threaded())
    results = list(ahead)
    assert [result.index for result in results] == list(range(frames))
    for frame, result in enumerate(results):
        expected = one.step(scene(frame))
        np.testing.assert_array_equal(result.image, scene(frame))
        assert result.seconds == frame / 10
        for name in ("ids", "labels", "scores", "boxes_xyxy", "masks"):
            np.testing.assert_array_equal(getattr(result, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("frames", [1, 2, 3, 30])
def test_results_are_those_of_one_frame_after_the_other(frames: int) -> None:
    assert_same(follow(session(Threaded()), Drawn(frames)), frames)


def test_a_live_result_does_not_wait_for_the_next_frame() -> None:
    engine = Threaded()
    for done, _ in enumerate(follow(session(engine), Drawn(5, live=True)), 1):
        assert engine.begun == done


def test_a_model_that_carries_state_is_never_asked_ahead() -> None:
    model = ColourModel(carry=True)
    one, other = (Session(model, CONFIG, NAMES, torch.device("cpu")) for _ in range(2))
    for frame, result in enumerate(follow(one, Drawn(5))):
        np.testing.assert_array_equal(result.scores, other.step(scene(frame)).scores)
    assert one.state["model.steps"].item() == 5


def test_the_runtime_has_the_next_frame_while_results_are_used_but_no_more() -> None:
    engine = Threaded()
    source = Drawn(40)
    for done, _ in enumerate(follow(session(engine), source), 1):
        time.sleep(0.005)
        assert engine.begun <= done + IN_FLIGHT - 1
        if 1 < done < 39:
            assert engine.running == IN_FLIGHT - 1
        assert source.drawn <= done + IN_FLIGHT + 6  # the queue of decoded frames is short


def test_leaving_early_ends_every_stage() -> None:
    engine, source = Threaded(), Drawn(1000)
    before = threading.active_count()
    results = follow(session(engine), source)
    for _ in range(5):
        next(results)
    results.close()
    assert source.closed.wait(5)
    assert engine.running == 0
    engine.pool.shutdown()
    assert threading.active_count() <= before


def test_what_went_before_an_error_of_the_source_is_still_told() -> None:
    results, seen = follow(session(Threaded()), Drawn(8, damaged=True)), []
    with pytest.raises(UserError, match="ends here"):
        seen.extend(results)
    assert [result.index for result in seen] == list(range(7))


def test_an_error_of_the_runtime_ends_every_stage() -> None:
    engine, source = Threaded(fail_at=6), Drawn(1000)
    results, seen = follow(session(engine), source), []
    with pytest.raises(UserError, match="the runtime broke"):
        seen.extend(results)
    assert [result.index for result in seen] == list(range(6))
    assert source.closed.wait(5)
    assert engine.running == 0
