"""How fast and how large tracking with a model is, measured in a process of its own.

Such a process loads only what tracking needs. So the time from the start of Python to the first result, and
the peak of memory, are those of a program that only tracks.

    python -m ookd.deploy.measure '{"model": "nano", "video": "street.mp4", ...}'   # a `Job`, as JSON
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ookd.data import rle
from ookd.data.threads import BackgroundWriter
from ookd.data.video import Frame, open_source
from ookd.data.video.source import Decode
from ookd.deploy.loading import Tracker, load
from ookd.deploy.runtime import ExportedModel, letterbox
from ookd.errors import UserError
from ookd.structures import FrameResult
from ookd.tracking.frame_model import FrameModel, Image, detect
from ookd.tracking.pipeline import follow
from ookd.tracking.sinks import Sinks

WARM_UP = 5  # first frames, which are not counted
FILES = ("json", "rle")  # the sinks


@dataclass(frozen=True, slots=True)
class Job:
    model: str  # a model folder or an exported one
    video: str
    frames: int
    runtime: str
    short_side: int
    began: float = 0.0  # Unix time at which the process was started


@dataclass(frozen=True, slots=True)
class Speed:
    stages_ms: dict[str, float]  # median of each, one after another in one thread
    latency_ms: dict[str, float]  # from an image to its result
    fps: float  # from file to files, stages overlapping
    frames: int
    objects: float  # a frame
    first_result_s: float  # from the start of Python
    memory_mb: float  # peak of the process


def measure_apart(job: Job) -> Speed:
    """Do the job in a fresh process."""
    request = json.dumps(asdict(replace(job, began=time.time())))
    command = [sys.executable, "-m", "ookd.deploy.measure", request]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(done.stderr.strip().split("\n")[-1].removeprefix("error: "))
    return Speed(**json.loads(done.stdout))


def measure(job: Job) -> Speed:
    tracker = load(job.model, runtime=job.runtime)
    tracker = replace(tracker, config=tracker.config.model_copy(update={"short_side": job.short_side}))
    next(_results(tracker, job, 1))
    first = time.time() - job.began
    with tempfile.TemporaryDirectory() as folder:
        spent, objects = _one_by_one(tracker, job, Path(folder))
        frames, fps = _overlapping(tracker, job, Path(folder))
    latency = spent.pop("image to result")[WARM_UP:]
    return Speed(
        stages_ms={stage: round(float(np.median(times[WARM_UP:])), 3) for stage, times in spent.items()},
        latency_ms={f"p{rank}": round(float(np.percentile(latency, rank)), 3) for rank in (50, 90, 99)},
        fps=round(fps, 2),
        frames=frames,
        objects=round(objects, 1),
        first_result_s=round(first, 3),
        memory_mb=round(_peak(), 1),
    )


def _results(tracker: Tracker, job: Job, count: int) -> Iterator[FrameResult]:
    with open_source(job.video) as source, closing(follow(tracker.session(), source)) as results:
        yield from islice(results, count)


def _overlapping(tracker: Tracker, job: Job, folder: Path) -> tuple[int, float]:
    """Frames, and frames per second from the file to the files."""
    done, start = 0, 0.0
    with open_source(job.video) as source, Sinks(folder, FILES, source) as sinks:
        with BackgroundWriter(sinks.write) as writing:
            for result in _results(tracker, job, job.frames):
                writing.put(result)
                done += 1
                start = start or time.perf_counter()
        seconds = time.perf_counter() - start
    return done, (done - 1) / seconds


class StageClock:
    """Milliseconds of the frame under way, by what took them."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent[what] += 1000 * (time.perf_counter() - start)

    def around(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            with self(what):
                return function(*arguments)

        return timed

    def stages(self) -> dict[str, float]:
        """The times of the frame, parts that nest taken apart; the next frame starts at 0."""
        spent, self.spent = self.spent, defaultdict(float)
        return {
            "decode": spent["decode"],
            "preprocess": spent["prepare"],
            "network": spent["infer"] - spent["prepare"] + spent["mask logits"],
            "select and track": spent["select"] - spent["mask logits"] + spent["associate"],
            "masks and run lengths": spent["step"] - spent["associate"] + spent["encode"],
            "write": spent["write"] - spent["encode"],
            "image to result": spent["infer"] + spent["select"] + spent["step"],
        }


def _one_by_one(tracker: Tracker, job: Job, folder: Path) -> tuple[dict[str, list[float]], float]:
    """Milliseconds of each stage and frame, and the mean number of objects."""
    session, clock = tracker.sessions(1), StageClock()
    model, video = session.model, session.streams[0].tracker
    video.associator.step = clock.around("associate", video.associator.step)  # type: ignore[method-assign]
    state = model.begin(1)
    objects = 0
    rows: list[dict[str, float]] = []
    with (
        open_source(job.video) as source,
        Sinks(folder, FILES, source) as sinks,
        closing(source.read()) as frames,
    ):
        while len(rows) < job.frames:
            with clock("decode"):
                frame = _decoded(frames)
            if frame is None:
                break
            with clock("prepare"):
                _prepare(model, frame.image, job.short_side)
            with clock("infer"):
                predictions, state = model.infer([frame.image], job.short_side, state)
            with clock("select"):
                predictions = replace(predictions, masks=clock.around("mask logits", predictions.masks))
                (detections,) = detect(predictions, session.config)
            with clock("step"):
                result = video.step(detections, frame.image)
            with clock("encode"):
                rle.encode_many(result.masks)
            with clock("write"):
                sinks.write(result)
            rows.append(clock.stages())
            objects += len(result)
    if len(rows) <= WARM_UP:
        raise UserError(
            f"{job.video}: {len(rows)} frames are too few to measure; at least {WARM_UP + 1} are needed"
        )
    return {stage: [row[stage] for row in rows] for stage in rows[0]}, objects / len(rows)


def _decoded(frames: Iterator[tuple[int, float, Decode]]) -> Frame | None:
    """The next frame, without the thread that reads ahead."""
    for index, seconds, decode in frames:
        image = decode()
        if image is not None:
            return Frame(index, seconds, image)
    return None


def _prepare(model: FrameModel, image: Image, short_side: int) -> None:
    """What `infer` does before the network."""
    if isinstance(model, ExportedModel):
        letterbox(image, model.size, model.aspect)
        return
    from ookd.tracking.torch_model import TorchFrameModel, prepare

    assert isinstance(model, TorchFrameModel)
    preprocessing = model.family.preprocessing
    frames, pad, _ = prepare([image], short_side, preprocessing, model.device)
    preprocessing.normalise(frames, pad)


def _peak() -> float:
    """Most memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux `getrusage` includes the process that started this one
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found
        return int(found[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> int:
    try:
        print(json.dumps(asdict(measure(Job(**json.loads(sys.argv[1]))))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
