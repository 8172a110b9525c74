"""What every runtime and precision costs in track AP, against PyTorch in single precision.

The scenes have a seed that no training has seen. They are drawn once, and every exported model tracks all of
them. A difference passes if it is at most 0.2 AP, for int8 1.0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measuring import Table
from ookd.data.formats import load as load_data
from ookd.deploy import parity
from ookd.deploy.export import export
from ookd.deploy.folder import Kind, Precision
from ookd.deploy.runtime import load_exported
from ookd.models import zoo
from ookd.models.families import tracker_config
from ookd.worlds import World, write

WAYS: dict[str, tuple[Kind, Precision]] = {
    "openvino-fp32": ("openvino", "fp32"),
    "openvino-fp16": ("openvino", "fp16"),
    "openvino-bf16": ("openvino", "bf16"),
    "openvino-int8": ("openvino", "int8"),
    "onnx-fp32": ("onnx", "fp32"),
    "onnx-fp16": ("onnx", "fp16"),
    "onnx-int8": ("onnx", "int8"),
}
ALLOWED = {"fp32": 0.2, "fp16": 0.2, "bf16": 0.2, "int8": 1.0}  # AP, of 100


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="nano")
    add("--world", default="ytvis-like")
    add("--size", type=int, nargs=2, default=(160, 288), metavar=("HEIGHT", "WIDTH"))
    add("--scenes", type=int, default=20)
    add("--ways", nargs="+", choices=WAYS, default=[*WAYS], metavar="RUNTIME-PRECISION")


def run(given: argparse.Namespace) -> None:
    size = (given.size[0], given.size[1])
    saved = zoo.load(given.model)
    config = tracker_config(saved.model.config.family, saved.tracker | {"short_side": min(size)})
    columns = {
        "runtime": "",
        "precision": "",
        "AP": ".2f",
        "difference": "+.2f",
        "allowed": "",
        "verdict": "",
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        Table(given, {**columns, "mask overlap": ".4f", "score distance": ".4f"}) as table,
    ):
        source = World(given.world, "val", parity.SEED, given.scenes, height=size[0], width=size[1])
        write(source, Path(folder, "scenes"))
        scenes = load_data(Path(folder, "scenes"), None, None)
        before = 100 * parity.track_ap(saved.model, scenes, config, saved.names)
        table.add("torch", "fp32", before, *[None] * 5)
        for way in given.ways:
            print(f"{way} ...", file=sys.stderr)
            kind, precision = WAYS[way]
            out = Path(folder, way)
            found = export(
                given.model, out, kind, precision, size, data=given.world, scenes=0, required=False
            ).parity
            after = 100 * parity.track_ap(load_exported(out), scenes, config, saved.names)
            allowed = ALLOWED[precision]
            verdict = "passes" if abs(after - before) <= allowed else "fails"
            change = after - before
            table.add(
                kind, precision, after, change, allowed, verdict, found.mask_iou, found.score_difference
            )
