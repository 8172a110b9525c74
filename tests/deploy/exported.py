"""Exported folders for tests. Tracing takes the time, so each model is traced once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch

from ookd.deploy import export as exporting
from ookd.deploy.folder import SUFFIX, Kind
from ookd.deploy.graph import OnnxGraphs, trace
from ookd.deploy.onnx import OnnxRunner
from ookd.deploy.openvino import OpenVinoRunner
from ookd.deploy.runner import GraphRunner
from ookd.models import zoo
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.compact.config import CompactConfig
from ookd.models.compact.model import Compact
from ookd.models.idol.model import Idol, IdolConfig
from ookd.tracking.frame_model import Image
from ookd.worlds import World

SIZE = (64, 96)
RUNNERS: dict[Kind, type[GraphRunner]] = {"onnx": OnnxRunner, "openvino": OpenVinoRunner}
exporting.COMPARED = 4  # frames: enough to see that the comparison runs


def open_graphs(folder: Path, kind: Kind) -> GraphRunner:
    """The graphs that were written to a folder."""
    return RUNNERS[kind](*(folder / (part + SUFFIX[kind]) for part in ("frame", "masks")))


@cache
def compact() -> Path:
    """The bundled nano without its later decoder layers, as a model folder."""
    nano = zoo.load("nano")
    model = Compact(CompactConfig(classes=len(nano.names), layers=1))
    model.load_state_dict(nano.model.state_dict(), strict=False)
    folder = Path(mkdtemp()) / "compact"
    zoo.save_pretrained(model, folder, nano.names, nano.tracker, trained_on=nano.trained_on)
    return folder


@cache
def compact_graphs() -> OnnxGraphs:
    return trace(zoo.load(compact()).model, SIZE)


@cache
def small_idol() -> Idol:
    torch.manual_seed(0)
    config = {"classes": 3, "queries": 5, "dim": 64, "encoder_layers": 1, "decoder_layers": 2, "ffn": 16}
    return Idol(IdolConfig(backbone=ResNetConfig(width=4), **config)).eval()


@cache
def idol_graphs() -> OnnxGraphs:
    return trace(small_idol(), SIZE)


@cache
def exported(kind: Kind) -> Path:
    """The exported compact model, made by `export` from the graphs above."""
    out = Path(mkdtemp()) / kind
    before = exporting.trace
    exporting.trace = lambda model, size: compact_graphs()
    try:
        exporting.export(compact(), out, kind, "fp32", SIZE, scenes=0)
    finally:
        exporting.trace = before
    return out


@cache
def images() -> list[Image]:
    """A video of the nano's own world, at the exported size."""
    return World("ytvis-like", "test", 3, 1, height=SIZE[0], width=SIZE[1], frames=5).clip(0, range(5)).images
