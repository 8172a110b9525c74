"""How fast and how large tracking with a model is, measured in a process of its own.

Such a process loads only what tracking needs. So the time from the start of Python to the first result, and
the peak of memory, are those of a program that only tracks.

    python -m ookd.deploy.measure '{"model": "nano", "video": "street.mp4", ...}'   # a `Job`, as JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from ookd.data import rle
from ookd.data.threads import BackgroundWriter
from ookd.data.video import Frame, open_source
from ookd.data.video.source import Decode
from ookd.deploy.loading import Tracker, load
from ookd.deploy.runtime import ExportedModel, letterbox
from ookd.errors import UserError
from ookd.process import peak_memory
from ookd.stopwatch import Stopwatch, timed
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
        memory_mb=round(peak_memory() / 1e6, 1),
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


def _stages(spent: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds of each stage of a frame. Preparing and encoding are timed once more on their own."""
    ms = defaultdict(float, {part: 1000 * seconds for part, seconds in spent.items()})
    return {
        "decode": ms["decode"],
        "preprocess": ms["prepare"],
        "network": ms["infer"] - ms["prepare"] + ms["mask logits"],
        "select and track": ms["select"] + ms["associate"],
        "masks and run lengths": ms["step"] + ms["encode"],
        "write": ms["write"] - ms["encode"],
        "image to result": sum(ms[part] for part in ("infer", "select", "mask logits", "step", "associate")),
    }


def _one_by_one(tracker: Tracker, job: Job, folder: Path) -> tuple[dict[str, list[float]], float]:
    """Milliseconds of each stage and frame, and the mean number of objects."""
    session = tracker.sessions(1)
    model, video = session.model, session.streams[0].tracker
    video.associator.step = timed("associate")(video.associator.step)  # type: ignore[method-assign]
    state = model.begin(1)
    objects = 0
    rows: list[dict[str, float]] = []
    with (
        open_source(job.video) as source,
        Sinks(folder, FILES, source) as sinks,
        closing(source.read()) as frames,
    ):
        while len(rows) < job.frames:
            with Stopwatch() as watch:
                with timed("decode"):
                    frame = _decoded(frames)
                if frame is None:
                    break
                with timed("prepare"):
                    _prepare(model, frame.image, job.short_side)
                with timed("infer"):
                    predictions, state = model.infer([frame.image], job.short_side, state)
                with timed("select"):
                    predictions = replace(predictions, masks=timed("mask logits")(predictions.masks))
                    (detections,) = detect(predictions, session.config)
                with timed("step"):
                    result = video.step(detections, frame.image)
                with timed("encode"):
                    rle.encode_many(result.masks)
                with timed("write"):
                    sinks.write(result)
            rows.append(_stages(watch.seconds))
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
        letterbox(image, model.size, model.aspect, model.antialias)
        return
    from ookd.tracking.torch_model import TorchFrameModel, prepare

    assert isinstance(model, TorchFrameModel)
    preprocessing = model.family.preprocessing
    frames, pad, _ = prepare([image], short_side, preprocessing, model.device)
    preprocessing.normalise(frames, pad)


def main() -> int:
    try:
        print(json.dumps(asdict(measure(Job(**json.loads(sys.argv[1]))))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
