"""A model folder becomes an exported folder: traced, converted, and compared with what it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import ookd
from ookd.deploy import check, folder, runtime
from ookd.deploy.check import Agreement
from ookd.deploy.convert import write_graphs
from ookd.deploy.engine import Arrays
from ookd.deploy.folder import MANIFEST, Kind, Precision
from ookd.deploy.graph import OPSET, trace
from ookd.errors import UserError
from ookd.files import check_free, fingerprint, new_folder
from ookd.models import zoo
from ookd.models.families import family_of, tracker_config
from ookd.models.family import Family
from ookd.models.preprocess import Preprocessing
from ookd.models.protocols import OnlineModel
from ookd.structures import Dataset

COMPARED = 24  # frames on which the exported model must agree with its source
CALIBRATED = 96  # frames that int8 takes its ranges from


@dataclass(frozen=True, slots=True)
class Outcome:
    agreement: Agreement
    ap_before: float | None = None  # of the PyTorch model; None where AP was not asked for
    ap_after: float | None = None


def export(
    source: str | Path,
    out: Path,
    kind: Kind,
    precision: Precision,
    size: tuple[int, int],
    *,
    data: str = "ytvis-like",
    scenes: int = 20,
    required: bool = True,
    overwrite: bool = False,
    told: Callable[[], None] = lambda: None,
) -> Outcome:
    """Write the exported folder of an online model.

    `data` is a synthetic world or annotated videos: frames for the comparison and for int8 ranges. Where
    agreement is `required`, a model that differs too much from its source is not written. On so many `scenes`
    AP is counted before and after; `told` hears of each frame of these.
    """
    if kind == "onnx" and precision == "bf16":
        raise UserError("bf16 is for openvino; ONNX Runtime computes in fp32 or int8 on CPUs")
    check_free(out, overwrite, (MANIFEST,))
    saved = zoo.load(source)
    model = saved.model
    if not isinstance(model, OnlineModel):
        raise UserError(f"model {source}: {model.config.family} sees whole clips; only online models export")
    _check_size(size, family_of(model).preprocessing)
    config = tracker_config(model.config.family, saved.tracker | {"short_side": min(size)})
    world = check.source_of(data, "val", scenes, size) if scenes else None
    if world is not None:
        check.shared_classes(world, saved.names)
    graphs = trace(model, size)
    if precision == "bf16" and graphs.looks:
        raise UserError(
            "bf16 cannot hold the places of deformable attention; fp32 keeps them, and int8 is faster"
        )
    manifest = {
        "ookd": ookd.__version__,
        "source": fingerprint(model),
        "kind": kind,
        "precision": precision,
        "opset": OPSET,
        "size": size,
        "outputs": graphs.outputs,
        "shared": graphs.shared,
        "aspect": graphs.family.preprocessing.aspect,
    }
    with new_folder(out, overwrite, (MANIFEST,)) as part:
        files = write_graphs(graphs, part, kind, precision, _calibration(data, size, graphs.family))
        fields = {
            "model": model.config.model_dump(mode="json"),
            "names": saved.names,
            "tracker": config.model_dump(),
        }
        folder.write(part, manifest, fields, files)
        eye = runtime.load(part, "onnx" if kind == "onnx" else "openvino").model
        some = check.source_of(data, "test", COMPARED // 4, size)
        found = check.agreement(model, eye, check.some_images(some, COMPARED), config)
        if required:
            check.require(found, precision)
        if world is None:
            return Outcome(found)
        before, after = (
            check.average_precision(one, world, config, saved.names, told) for one in (model, eye)
        )
    return Outcome(found, before, after)


def frames_compared(data: str, scenes: int, size: tuple[int, int]) -> int:
    """How many frames `export` will tell of."""
    world = check.source_of(data, "val", max(scenes, 1), size)
    videos = world.videos if isinstance(world, Dataset) else world.dataset().videos
    return 2 * sum(video.length for video in videos[:scenes])


def _check_size(size: tuple[int, int], preprocessing: Preprocessing) -> None:
    """Raise unless the model can see frames of this size."""
    shown, multiple = f"size {size[0]}x{size[1]}", preprocessing.multiple
    if any(side < multiple or side % multiple for side in size):
        raise UserError(f"{shown}: height and width must be multiples of {multiple}")
    if preprocessing.aspect == "square" and size[0] != size[1]:
        raise UserError(f"{shown}: this model sees square frames; give the same height and width")


def _calibration(data: str, size: tuple[int, int], family: Family) -> Iterator[Arrays]:
    source = check.source_of(data, "train", CALIBRATED // 4, size)
    for image in check.some_images(source, CALIBRATED):
        frame, geometry = runtime.fit(image, size, family.preprocessing.aspect)
        yield {"frames": frame, "size": np.array([geometry.resized_height, geometry.resized_width])}
