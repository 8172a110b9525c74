"""Tracking with an exported model: the runtime is chosen, opened and given the look of an `FrameModel`.

Nothing here needs PyTorch, so that a process that only tracks neither waits for it nor holds it in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image as Pillow

from ookd.deploy.engine import IN_FLIGHT, Arrays, Engine
from ookd.deploy.folder import Exported, read
from ookd.errors import UserError
from ookd.masks import Geometry
from ookd.tracking.frame_model import FrameModel, Image, RawPredictions, check_image
from ookd.tracking.select import Floats, Ints

# runtime -> its package, its engine, and the kinds of graph it reads: those it was compared on
RUNTIMES = {
    "openvino": ("openvino", "ookd.deploy.openvino:OpenVinoEngine", ("openvino",)),
    "onnx": ("onnxruntime", "ookd.deploy.onnx:OnnxEngine", ("onnx",)),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """An exported model, ready to track."""

    model: ExportedModel
    names: list[str]
    family: str
    tracker: dict[str, Any]


class ExportedModel(FrameModel):
    """The graphs of an exported model. They take frames of one size, into which all images are fitted."""

    def __init__(self, exported: Exported, engine: Engine) -> None:
        manifest = exported.manifest
        self.fingerprint = f"{manifest.source}-{manifest.kind}-{manifest.precision}"
        self.size, self.aspect = manifest.size, manifest.aspect
        self._shared, self._engine = manifest.shared, engine

    def look(
        self, images: Sequence[Image], short_side: int | None, state: None = None
    ) -> tuple[RawPredictions, None]:
        waiting = [self._start(image) for image in images]
        return _joined([finish() for finish in waiting]), None

    def stream(
        self, images: Iterable[Image], short_side: int | None
    ) -> Generator[tuple[Image, RawPredictions], None, None]:
        """Images with what is seen in them, in order; the next ones are computed while one is in use."""
        waiting: deque[tuple[Image, Callable[[], RawPredictions]]] = deque()
        try:
            for image in images:
                waiting.append((image, self._start(image)))
                if len(waiting) == IN_FLIGHT:
                    done, finish = waiting.popleft()
                    yield done, finish()
            while waiting:
                done, finish = waiting.popleft()
                yield done, finish()
        finally:  # left early: what is under way still reads its image
            for _, finish in waiting:
                finish()

    def _start(self, image: Image) -> Callable[[], RawPredictions]:
        frame, geometry = fit(image, self.size, self.aspect)
        size = np.array([geometry.resized_height, geometry.resized_width])
        finish = self._engine.start({"frames": frame, "size": size})
        return lambda: self._sight(finish(), geometry)

    def _sight(self, answer: Arrays, geometry: Geometry) -> RawPredictions:
        shared = {name: answer[name] for name in self._shared}

        def masks(select: Ints) -> Floats:
            return self._engine.masks({**shared, "select": select})

        return RawPredictions(
            answer["logits"], answer.get("boxes"), answer["embed"], masks, self.size[0], [geometry]
        )


def load(folder: str | Path, runtime: str = "auto") -> Loaded:
    """The model of an exported folder, through the named runtime or the best one that is installed."""
    exported = read(folder)
    manifest = exported.manifest
    engine = _engine_class(runtime, manifest.kind, exported.folder)
    opened = engine(exported.graph("frame"), exported.graph("masks"))
    return Loaded(ExportedModel(exported, opened), exported.names, exported.family, exported.tracker)


def _engine_class(runtime: str, kind: str, folder: Path) -> Any:
    fitting = [name for name, (_, _, kinds) in RUNTIMES.items() if kind in kinds]
    if runtime not in ("auto", *fitting):
        raise UserError(f"{folder}: holds a graph for {' or '.join(fitting)}, which {runtime} does not read")
    for name in fitting if runtime == "auto" else [runtime]:
        package, place, _ = RUNTIMES[name]
        if find_spec(package):
            module, _, engine = place.partition(":")
            return getattr(import_module(module), engine)
    wanted = " or ".join(RUNTIMES[name][0] for name in (fitting if runtime == "auto" else [runtime]))
    raise UserError(f"{folder}: needs {wanted}, which is not installed")


def fit(image: Image, size: tuple[int, int], aspect: Literal["keep", "square"]) -> tuple[Image, Geometry]:
    """The image as large as it fits into the top left corner of a frame [1, H, W, 3]; the rest is black.

    Where the model does not keep the aspect, the image fills the frame.

    PyTorch's resize follows Pillow's: here and there a value differs by 1 of 255.
    """
    check_image(image)
    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    h, w = max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)
    if aspect == "square":
        h, w = size
    if (h, w) != (height, width):
        image = np.asarray(Pillow.fromarray(image).resize((w, h), Pillow.Resampling.BILINEAR))
    frame = np.zeros((1, *size, 3), np.uint8)
    frame[0, :h, :w] = image
    return frame, Geometry(height, width, h, w)


def _joined(sights: list[RawPredictions]) -> RawPredictions:
    """Frames that were seen one by one as one batch."""
    if len(sights) == 1:
        return sights[0]

    def masks(select: Ints) -> Floats:
        pairs = zip(sights, select, strict=True)
        return np.concatenate([sight.masks(row[None]) for sight, row in pairs])

    boxes = [sight.boxes for sight in sights if sight.boxes is not None]
    return RawPredictions(
        np.concatenate([sight.logits for sight in sights]),
        np.concatenate(boxes) if boxes else None,
        np.concatenate([sight.embed for sight in sights]),
        masks,
        sights[0].height,
        [geometry for sight in sights for geometry in sight.geometries],
    )
