"""A model folder becomes an exported folder: traced, converted, and compared with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import save_file

import ookd
from ookd.deploy import parity
from ookd.deploy.convert import write_graphs
from ookd.deploy.folder import MANIFEST, START, STATE, Kind, Precision, complete
from ookd.deploy.graph import OPSET, trace
from ookd.deploy.parity import Parity
from ookd.deploy.runner import Arrays
from ookd.deploy.runtime import letterbox, load_exported
from ookd.errors import UserError
from ookd.files import check_free, fingerprint, new_folder
from ookd.models import zoo
from ookd.models.families import family_of, tracker_config
from ookd.models.preprocess import Preprocessing
from ookd.models.protocols import OnlineModel
from ookd.structures import Dataset
from ookd.tracking.torch_model import TorchFrameModel

COMPARED = 24  # frames on which the exported model is compared with its source
CALIBRATED = 96  # frames that give int8 its value ranges


@dataclass(frozen=True, slots=True)
class ExportSummary:
    parity: Parity
    ap_before: float | None = None  # of the PyTorch model; None where AP was not requested
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
    on_frame: Callable[[], None] = lambda: None,
) -> ExportSummary:
    """Write the exported folder of an online model.

    `data` is a synthetic world or annotated videos. It provides the frames for the comparison and for int8
    ranges. With `required`, a model that differs too much from its source is not written. Track AP is
    measured before and after on that many `scenes`; `on_frame` is called after each of their frames.
    """
    if kind == "onnx" and precision == "bf16":
        raise UserError("bf16 is for openvino; ONNX Runtime computes in fp32 or int8 on CPUs")
    check_free(out, overwrite, (MANIFEST,))
    saved = zoo.load(source)
    model = saved.model
    if not isinstance(model, OnlineModel):
        raise UserError(f"model {source}: {model.config.family} sees whole clips; only online models export")
    preprocessing = family_of(model).preprocessing
    _check_size(size, preprocessing)
    config = tracker_config(model.config.family, saved.tracker | {"short_side": min(size)})
    videos = parity.open_videos(data, "val", scenes, size) if scenes else None
    if videos is not None:
        parity.shared_classes(videos, saved.names)
    graphs = trace(model, size)
    if precision == "bf16" and graphs.deformable:
        raise UserError(
            "bf16 cannot hold the sampling points of deformable attention; fp32 can, and int8 is faster"
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
        "aspect": _aspect(preprocessing),
        "antialias": preprocessing.antialias,
        "state": list(graphs.start),
    }
    fields = {
        "model": model.config.model_dump(mode="json"),
        "names": saved.names,
        "tracker": config.model_dump(),
        **zoo.notes(saved),
    }
    with new_folder(out, overwrite, (MANIFEST,)) as part:
        files = write_graphs(graphs, part, kind, precision, _calibration(data, size, model))
        if graphs.start:
            save_file(graphs.start, part / START)
            files.append(part / START)
        complete(part, manifest, fields, files)
        exported = load_exported(part)
        images = parity.sample_images(parity.open_videos(data, "test", COMPARED // 4, size), COMPARED)
        found = parity.compare(model, exported, images, config)
        if required:
            parity.require(found, precision)
        if videos is None:
            return ExportSummary(found)
        before, after = (
            parity.track_ap(one, videos, config, saved.names, on_frame) for one in (model, exported)
        )
    return ExportSummary(found, before, after)


def frames_tracked(data: str, scenes: int, size: tuple[int, int]) -> int:
    """How often `export` will call `on_frame`."""
    videos = parity.open_videos(data, "val", max(scenes, 1), size)
    dataset = videos if isinstance(videos, Dataset) else videos.dataset()
    return 2 * sum(video.length for video in dataset.videos[:scenes])


def _check_size(size: tuple[int, int], preprocessing: Preprocessing) -> None:
    """Raise unless the model takes frames of this size."""
    text, multiple = f"size {size[0]}x{size[1]}", preprocessing.multiple
    if any(side < multiple or side % multiple for side in size):
        raise UserError(f"{text}: height and width must be multiples of {multiple}")
    if preprocessing.aspect == "square" and size[0] != size[1]:
        raise UserError(f"{text}: this model takes square frames; give the same height and width")


def _aspect(preprocessing: Preprocessing) -> Literal["keep", "square"]:
    """How frames get their fixed size: stretched, or as large as they fit."""
    return "square" if preprocessing.aspect == "square" else "keep"


def _calibration(data: str, size: tuple[int, int], model: OnlineModel) -> Iterator[Arrays]:
    """Inputs of the frame graph; the state is what the model carries over these frames."""
    reference = TorchFrameModel(model)
    preprocessing = reference.family.preprocessing
    videos = parity.open_videos(data, "train", CALIBRATED // 4, size)
    state = reference.begin(1)
    for image in parity.sample_images(videos, CALIBRATED):
        frame, geometry = letterbox(image, size, _aspect(preprocessing), preprocessing.antialias)
        carried = {} if state is None else reference.save_state(state)
        yield {
            "frames": frame,
            "size": np.array([geometry.resized_height, geometry.resized_width]),
            **{STATE + name: part for name, part in carried.items()},
        }
        if state is not None:
            _, state = reference.infer([image], min(size), state)
