"""VidEoMT exported as one step that carries its state: how fast, and how far from PyTorch after many frames.

Weights are random. Errors are the largest at frames 1, 10 and the last, each model carrying its own state
over the video: of the class logits, and of masks and state relative to PyTorch's largest value. Times are
processor time of a frame, of the network alone, which other work disturbs little; the ways take turns. Bind
the program to one core, so that no thread waits for another. `transformers` sees a clip of square frames with
about as many patches, in PyTorch, because it takes no others.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from measuring import Table, alternate
from ookd.cli.export import parse_size
from ookd.data.video import open_source
from ookd.deploy import export as exporting
from ookd.deploy.runtime import letterbox, load_exported
from ookd.masks import Floats
from ookd.models.families import preset
from ookd.models.zoo import build, load, save_pretrained
from ookd.tracking.frame_model import FrameModel, Image
from ookd.tracking.torch_model import TorchFrameModel

WAYS = ("onnx fp32", "openvino fp32", "openvino bf16", "openvino int8", "onnx int8")
CHECKED = (1, 10)  # and the last frame
CLIP = 4  # frames a turn
PATCH = 16
QUERIES = 20  # whose masks are compared


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="videomt-s", help="a preset")
    parser.add_argument("--size", default="288x512", help="height x width of the frames")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> None:
    size = parse_size(given.size)
    with open_source(given.video) as frames:
        images = [letterbox(image, size, "keep")[0][0] for image in islice(iter(frames), given.frames)]
    errors = [f"{what} {when}" for what in ("logits", "masks", "state") for when in (*CHECKED, len(images))]
    columns = {
        "way": "",
        "ms": ".0f",
        "lowest": ".0f",
        "highest": ".0f",
        **dict.fromkeys(errors, ".1e"),
    }
    with tempfile.TemporaryDirectory() as scratch, Table(given, columns) as table:
        folder = Path(scratch) / "model"
        config = preset(given.model)
        save_pretrained(build(config), folder, [f"class {label}" for label in range(config.classes)])
        reference = TorchFrameModel(load(folder).model)
        models: dict[str, FrameModel] = {"torch fp32": reference, "torch bf16": _Half(reference)}
        for way in given.ways:
            kind, precision = way.split()
            out = Path(scratch) / way.replace(" ", "-")
            exporting.export(folder, out, kind, precision, size, scenes=0, required=False)
            models[way] = load_exported(out)
        right = _answers(reference, images, min(size))
        found = {
            way: _errors(right, _answers(model, images, min(size)))
            for way, model in models.items()
            if way != "torch fp32"
        }
        runs: dict[str, Callable[[], object]] = {
            way: _pass(model, images[:CLIP], min(size)) for way, model in models.items()
        }
        runs["transformers fp32"] = _whole_clip(reference, size)
        for way, times in alternate(runs, given.repeats).items():
            ms = [1000 * seconds / CLIP for seconds in times.processor]
            table.add(way, median(ms), min(ms), max(ms), *found.get(way, [float("nan")] * len(errors)))


class _Half(FrameModel):
    """The same in bfloat16 where PyTorch thinks it is safe."""

    def __init__(self, model: TorchFrameModel) -> None:
        self.model = model
        self.begin = model.begin  # type: ignore[method-assign]

    def infer(self, images: Any, short_side: int | None, state: Any = None) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return self.model.infer(images, short_side, state)


def _answers(model: FrameModel, images: list[Image], side: int) -> list[tuple[Floats, ...]]:
    """Logits, masks and state at the checked frames."""
    state, kept = model.begin(1), []
    for number, image in enumerate(images, 1):
        predictions, state = model.infer([image], side, state)
        if number in (*CHECKED, len(images)):
            assert state is not None
            masks = predictions.masks(np.arange(QUERIES)[None])
            kept.append((predictions.logits, masks, np.asarray(state["query"])))
    return kept


def _errors(right: list[tuple[Floats, ...]], found: list[tuple[Floats, ...]]) -> list[float]:
    """Of logits, masks and state, each at the checked frames."""
    errors = []
    for kind in range(3):
        for one, other in zip(right, found, strict=True):
            largest = np.abs(one[kind]).max() if kind else 1.0
            errors.append(float(np.abs(one[kind] - other[kind]).max() / largest))
    return errors


def _pass(model: FrameModel, images: list[Image], side: int) -> Callable[[], None]:
    def run() -> None:
        state = model.begin(1)
        for image in images:
            predictions, state = model.infer([image], side, state)
            predictions.masks(np.arange(QUERIES)[None])

    return run


def _whole_clip(reference: TorchFrameModel, size: tuple[int, int]) -> Callable[[], object]:
    side = round((size[0] * size[1]) ** 0.5 / PATCH) * PATCH
    network: Any = type(reference.model)(reference.model.config.model_copy(update={"image_size": side}))
    clip = torch.randn(1, CLIP, 3, side, side)

    @torch.inference_mode()
    def run() -> object:
        return network.eval().net(pixel_values_videos=clip)

    return run
