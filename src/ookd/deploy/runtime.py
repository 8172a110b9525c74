"""Tracking with an exported model: the runtimes, and a `FrameModel` that runs in one of them.

Nothing here needs PyTorch, so a process that only tracks neither waits for it nor keeps it in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image as Pillow

from ookd.data.video.images import check_image
from ookd.deploy.folder import AGAIN, CARRIED, STATE, ExportedFolder, Kind, read_exported, read_start
from ookd.deploy.runner import IN_FLIGHT, Arrays, GraphRunner
from ookd.errors import UserError
from ookd.masks import Floats, Geometry, Ints
from ookd.tracking.frame_model import FrameModel, Image, RawPredictions, State


@dataclass(frozen=True, slots=True)
class Runtime:
    package: str  # that must be installed
    runner: str  # module:class of its `GraphRunner`, imported when first used
    kinds: tuple[Kind, ...]  # of exported graphs that it reads, as far as they were compared with PyTorch


# the best one for a kind of graph first
RUNTIMES = {
    "openvino": Runtime("openvino", "ookd.deploy.openvino:OpenVinoRunner", ("openvino",)),
    "onnx": Runtime("onnxruntime", "ookd.deploy.onnx:OnnxRunner", ("onnx",)),
}


class ExportedModel(FrameModel):
    """The graphs of an exported model. They take frames of one size, and every image is scaled to fit it."""

    def __init__(self, folder: ExportedFolder, runner: GraphRunner) -> None:
        manifest = folder.manifest
        self.folder = folder
        self.fingerprint = f"{manifest.source}-{manifest.kind}-{manifest.precision}"
        self.size, self.aspect, self.antialias = manifest.size, manifest.aspect, manifest.antialias
        self._runner = runner
        outputs, inputs = runner.interface
        named = {*manifest.outputs, *manifest.shared}
        if not named <= outputs or inputs != {*manifest.shared, "select"}:
            raise UserError(f"{folder.path}: the manifest does not describe its graphs{AGAIN}")
        self._first = read_start(folder)

    def infer(
        self, images: Sequence[Image], short_side: int | None, state: State | None = None
    ) -> tuple[RawPredictions, State | None]:
        if state is None:
            state = self.begin(len(images))
        rows = [_row(state, row) for row in range(len(images))]
        started = [self._start(image, row) for image, row in zip(images, rows, strict=True)]
        answers = [finish() for finish in started]
        predictions = _batch([predictions for predictions, _ in answers])
        return predictions, self.batch_states([carried for _, carried in answers]) or None

    def begin(self, streams: int) -> State | None:
        return {name: np.repeat(part, streams, 0) for name, part in self._first.items()} or None

    def stream(
        self, images: Iterable[Image], short_side: int | None, batch: int = 1
    ) -> Generator[tuple[list[Image], RawPredictions], None, None]:
        """Images with their predictions, in order. The next ones are computed while one is in use, unless
        they depend on it."""
        if self._first:
            yield from super().stream(images, short_side)
            return
        started: deque[tuple[Image, Callable[[], tuple[RawPredictions, State]]]] = deque()
        try:
            for image in images:
                started.append((image, self._start(image, {})))
                if len(started) == IN_FLIGHT:
                    done, finish = started.popleft()
                    yield [done], finish()[0]
            while started:
                done, finish = started.popleft()
                yield [done], finish()[0]
        finally:  # if the caller stops early: frames in flight still read their images
            for _, finish in started:
                finish()

    def _start(self, image: Image, state: State) -> Callable[[], tuple[RawPredictions, State]]:
        frame, geometry = letterbox(image, self.size, self.aspect, self.antialias)
        size = np.array([geometry.resized_height, geometry.resized_width])
        inputs = {"frames": frame, "size": size, **{STATE + name: part for name, part in state.items()}}
        finish = self._runner.start(inputs)

        def answer() -> tuple[RawPredictions, State]:
            outputs = finish()
            carried = {name: outputs[CARRIED + name] for name in state}
            return self._predictions(outputs, geometry), carried

        return answer

    def _predictions(self, outputs: Arrays, geometry: Geometry) -> RawPredictions:
        shared = {name: outputs[name] for name in self.folder.manifest.shared}

        def masks(select: Ints) -> Floats:
            return self._runner.masks({**shared, "select": select})

        return RawPredictions(
            outputs["logits"],
            outputs.get("boxes"),
            outputs["embed"],
            masks,
            self.size[0],
            [geometry],
            outputs.get("identity"),
        )


def load_exported(folder: str | Path, runtime: str = "auto") -> ExportedModel:
    """The model of an exported folder, in the named runtime or the best one that is installed."""
    exported = read_exported(folder)
    runner = _runner_class(runtime, exported.manifest.kind, exported.path)
    return ExportedModel(exported, runner(exported.graph("frame"), exported.graph("masks")))


def _runner_class(runtime: str, kind: Kind, folder: Path) -> type[GraphRunner]:
    readers = [name for name, record in RUNTIMES.items() if kind in record.kinds]
    if runtime not in ("auto", *readers):
        raise UserError(f"{folder}: holds a graph for {' or '.join(readers)}, which {runtime} cannot read")
    candidates = [RUNTIMES[name] for name in (readers if runtime == "auto" else [runtime])]
    for candidate in candidates:
        if find_spec(candidate.package):
            module, _, name = candidate.runner.partition(":")
            runner: type[GraphRunner] = getattr(import_module(module), name)
            return runner
    packages = " or ".join(candidate.package for candidate in candidates)
    raise UserError(f"{folder}: needs {packages}, which is not installed")


def letterbox(
    image: Image, size: tuple[int, int], aspect: Literal["keep", "square"], antialias: bool = True
) -> tuple[Image, Geometry]:
    """The image, as large as it fits, in the top left corner of a black frame [1, H, W, 3].

    For a model that does not keep the aspect, the image is stretched to fill the frame. The resize of Pillow,
    or of OpenCV without antialias, and PyTorch's, which other models use, differ by 1 of 255 in a few values.
    """
    check_image(image)
    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    h, w = max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)
    if aspect == "square":
        h, w = size
    if (h, w) != (height, width):
        if antialias:
            image = np.asarray(Pillow.fromarray(image).resize((w, h), Pillow.Resampling.BILINEAR))
        else:
            image = np.asarray(cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR), np.uint8)
    frame = np.zeros((1, *size, 3), np.uint8)
    frame[0, :h, :w] = image
    return frame, Geometry(height, width, h, w)


def _row(state: State | None, row: int) -> State:
    """The state of one stream."""
    return {} if state is None else {name: part[row : row + 1] for name, part in state.items()}


def _batch(frames: list[RawPredictions]) -> RawPredictions:
    """The predictions of single frames as one batch."""
    if len(frames) == 1:
        return frames[0]

    def masks(select: Ints) -> Floats:
        return np.concatenate([frame.masks(row[None]) for frame, row in zip(frames, select, strict=True)])

    boxes = [frame.boxes for frame in frames if frame.boxes is not None]
    identity = [frame.identity for frame in frames if frame.identity is not None]
    return RawPredictions(
        np.concatenate([frame.logits for frame in frames]),
        np.concatenate(boxes) if boxes else None,
        np.concatenate([frame.embed for frame in frames]),
        masks,
        frames[0].height,
        [geometry for frame in frames for geometry in frame.geometries],
        np.concatenate(identity) if identity else None,
    )
