"""How fast and how large tracking with a model is, measured in a process of its own.

There what counts is only what tracking needs: the time from the start of Python to the first result, and the
peak of memory.

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

from ookd.api import Tracker, load
from ookd.data import rle
from ookd.data.pipeline import BackgroundWriter
from ookd.data.video import Frame, open_source
from ookd.data.video.source import Decode
from ookd.deploy.runtime import ExportedModel, fit
from ookd.errors import UserError
from ookd.masks import full_size
from ookd.structures import FrameResult
from ookd.tracking.frame_model import FrameModel, Image, detect
from ookd.tracking.memory import Memory
from ookd.tracking.pipeline import follow
from ookd.tracking.select import Floats, Ints
from ookd.tracking.sinks import Sinks
from ookd.tracking.tracker import advance

WARM_UP = 5  # frames that are not counted
FILES = ("json", "rle")  # what is written


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
    fps: float  # of the whole way, stages overlapping
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


class Watch:
    """Milliseconds of the frame under way, by what took them."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent[what] += 1000 * (time.perf_counter() - start)

    def around(self, what: str, function: Callable[[Ints], Floats]) -> Callable[[Ints], Floats]:
        def watched(select: Ints) -> Floats:
            with self(what):
                return function(select)

        return watched

    def stages(self) -> dict[str, float]:
        """What nests taken apart: looking prepares first, selecting asks for masks, writing encodes them."""
        spent = self.spent
        return {
            "decode": spent["decode"],
            "preprocess": spent["prepare"],
            "network": spent["look"] - spent["prepare"] + spent["ask"],
            "select and track": spent["select"] - spent["ask"] + spent["associate"],
            "masks and run lengths": spent["paint"] + spent["encode"],
            "write": spent["write"] - spent["encode"],
            "image to result": sum(spent[what] for what in ("look", "select", "associate", "paint")),
        }


def _one_by_one(tracker: Tracker, job: Job, folder: Path) -> tuple[dict[str, list[float]], float]:
    """Milliseconds of each stage and frame, and the mean number of objects."""
    config, eye = tracker.config, tracker.sessions(1).eye
    memory: Memory | None = None
    state: Any = None
    objects = 0
    rows: list[dict[str, float]] = []
    with (
        open_source(job.video) as source,
        Sinks(folder, FILES, source) as sinks,
        closing(source.read()) as frames,
    ):
        while len(rows) < job.frames:
            watch = Watch()
            with watch("decode"):
                frame = _decoded(frames)
            if frame is None:
                break
            with watch("prepare"):
                _prepared(eye, frame.image, job.short_side)
            with watch("look"):
                sight, state = eye.look([frame.image], job.short_side, state)
            with watch("select"):
                sight = replace(sight, masks=watch.around("ask", sight.masks))
                (seen,), (geometry,) = detect(sight, config)
            memory = memory or Memory.empty(seen.probs.shape[1], seen.embeds.shape[1], config)
            with watch("associate"):
                ids, memory = advance(memory, seen, config)
            known = np.flatnonzero(ids >= 0)
            with watch("paint"):
                masks, boxes = full_size(seen.masks[known], geometry)
            with watch("encode"):
                rle.encode_many(masks)
            labels, scores = seen.probs[known].argmax(1), seen.scores[known]
            result = FrameResult(
                frame.index, ids[known], labels, scores, boxes, masks, tracker.names, frame.image
            )
            with watch("write"):
                sinks.write(result)
            rows.append(watch.stages())
            objects += len(result)
    if len(rows) <= WARM_UP:
        raise UserError(f"{job.video}: {len(rows)} frames are too few to measure; more than {WARM_UP} are")
    return {stage: [row[stage] for row in rows] for stage in rows[0]}, objects / len(rows)


def _decoded(frames: Iterator[tuple[int, float, Decode]]) -> Frame | None:
    """The next frame, without the thread that reads ahead."""
    for index, seconds, decode in frames:
        image = decode()
        if image is not None:
            return Frame(index, seconds, image)
    return None


def _prepared(eye: FrameModel, image: Image, short_side: int) -> None:
    """What `look` does before the network."""
    if isinstance(eye, ExportedModel):
        fit(image, eye.size, eye.aspect)
        return
    from ookd.tracking.torch_model import TorchFrameModel, prepare

    assert isinstance(eye, TorchFrameModel)
    preprocessing = eye.family.preprocessing
    frames, pad, _ = prepare([image], short_side, preprocessing, eye.device)
    preprocessing.normalise(frames, pad)


def _peak() -> float:
    """Most memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # what `getrusage` says on Linux includes the process that started this one
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
