"""What every runtime and precision costs in track AP, against PyTorch in single precision.

The scenes are drawn once, of a seed that no training has seen, and every exported model tracks all of them.
A difference passes if it is at most 0.2 AP, for int8 1.0.

    python benchmarks/precision_cost.py --model nano --size 160x288 --scenes 20
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path

import openvino
import torch

from ookd.data.formats import load as load_data
from ookd.deploy import check, runtime
from ookd.deploy.export import export
from ookd.deploy.folder import Kind, Precision
from ookd.models import zoo
from ookd.models.families import tracker_config
from ookd.worlds import World, write

WAYS: list[tuple[Kind, Precision]] = [
    ("openvino", "fp32"),
    ("openvino", "fp16"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8"),
]
ALLOWED = {"fp32": 0.2, "fp16": 0.2, "bf16": 0.2, "int8": 1.0}  # AP, of 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--world", default="ytvis-like")
    parser.add_argument("--size", default="160x288", help="height x width")
    parser.add_argument("--scenes", type=int, default=20)
    ways = {f"{kind}-{precision}": (kind, precision) for kind, precision in WAYS}
    parser.add_argument("--ways", nargs="+", choices=ways, default=[*ways], metavar="RUNTIME-PRECISION")
    parser.add_argument("--json", action="store_true", help="the table as JSON on standard output")
    arguments = parser.parse_args()
    height, width = map(int, arguments.size.split("x"))
    size = (height, width)
    saved = zoo.load(arguments.model)
    family = saved.model.config.family
    config = tracker_config(family, saved.tracker | {"short_side": min(size)})
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source = check.source_of(arguments.world, "val", arguments.scenes, size)
        assert isinstance(source, World), "a synthetic world"
        write(source, Path(folder, "scenes"))
        scenes = load_data(Path(folder, "scenes"), None, None)
        before = 100 * check.average_precision(saved.model, scenes, config, saved.names)
        for way in arguments.ways:
            kind, precision = ways[way]
            print(f"{way} ...", file=sys.stderr)
            out = Path(folder, way)
            found = export(
                arguments.model, out, kind, precision, size, data=arguments.world, scenes=0, required=False
            ).agreement
            eye = runtime.load(out, kind).model
            after = 100 * check.average_precision(eye, scenes, config, saved.names)
            rows.append(
                {
                    "runtime": kind,
                    "precision": precision,
                    "ap": after,
                    "difference": after - before,
                    "allowed": ALLOWED[precision],
                    "passes": abs(after - before) <= ALLOWED[precision],
                    "mask_overlap": found.overlap,
                    "score_distance": found.score,
                }
            )
    summary = {
        "model": arguments.model,
        "size": arguments.size,
        "scenes": f"{arguments.scenes} of {arguments.world}, seed {check.SEED}",
        "machine": f"{platform.machine()}, torch {torch.__version__}, openvino {openvino.__version__}",
        "torch_ap": before,
        "rows": rows,
    }
    if arguments.json:
        print(json.dumps(summary, indent=2))
        return
    print(f"{summary['model']} at {summary['size']}, {summary['scenes']}, {summary['machine']}\n")
    print("| runtime | precision | AP | difference | allowed | |\n|---|---|---|---|---|---|")
    print(f"| torch | fp32 | {before:.2f} | | | |")
    for row in rows:
        verdict = "passes" if row["passes"] else "fails"
        print(
            f"| {row['runtime']} | {row['precision']} | {row['ap']:.2f} | {row['difference']:+.2f} "
            f"| {row['allowed']} | {verdict} |"
        )


if __name__ == "__main__":
    main()
