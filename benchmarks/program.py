"""Every measurement behind the numbers in the documentation.

python benchmarks NAME [OPTIONS]
python benchmarks NAME --help
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from ookd.errors import UserError

# name -> a module with `options` and `run`, and what it measures
COMMANDS = {
    "Speed and memory": {
        "model": (
            "speed.model",
            "parameters, multiply-adds and CPU seconds per frame of every configuration",
        ),
        "peers": ("speed.peers", "frames/s of idol-r50, Mask2Former and VidEoMT, from video to tracks"),
        "yolo": ("speed.yolo", "`ookd track` against `yolo track`, as whole commands"),
        "busy": ("speed.busy", "tracking on a busy machine, with different numbers of threads"),
        "tracking": ("speed.tracking", "latency of a frame and memory, over the length of a video"),
        "associators": ("speed.associators", "cost of tracking besides the network, in a crowd"),
        "carried-state": (
            "speed.carried_state",
            "cost of a frame and drift of an exported model that carries state",
        ),
        "memory": ("speed.memory", "growth of memory with a video's length: reading, writing, all outputs"),
        "label-memory": ("speed.label_memory", "growth of memory with a video's length: labelling"),
        "evaluation": ("speed.evaluation", "seconds and memory of `ookd eval`"),
        "serve": ("speed.serve", "latency, frames/s and memory of `ookd serve` with cameras"),
        "fleet": ("speed.fleet", "cost of workers, kills and reruns in `ookd fleet`"),
        "fleet-cost": ("speed.fleet_cost", "machine hours and storage of very many videos, estimated"),
        "train": ("speed.train", "seconds and memory of a training step, and where the time goes"),
        "distill": ("speed.distill", "cost of a teacher: alone, live, from a cache"),
        "estimate": ("speed.estimate", "hours and memory of the published recipes on named GPUs, computed"),
        "matcher": ("speed.matcher", "milliseconds of matching, and its share of a training step"),
        "loader": ("speed.loader", "frames/s of training batches, with and without Minor-Paste"),
        "drawing": ("speed.drawing", "frames/s of synthetic video"),
    },
    "Quality of models and data": {
        "scenes": ("quality.scenes", "AP, HOTA and identity switches on unseen synthetic scenes"),
        "real-video": ("quality.real_video", "mask J and AP on real videos with one labelled object each"),
        "precision": ("quality.precision", "AP of every runtime and precision against PyTorch"),
        "association": ("quality.association", "AP and returns kept of trackers, peers among them"),
        "labels": ("quality.labels", "a model's labels against the ground truth, by confidence"),
        "over-time": ("quality.over_time", "AP of mask propagation and of camera compensation"),
        "tracker-options": ("quality.tracker_options", "effect of each tracker option on AP"),
        "fleet-parts": ("quality.fleet_parts", "AP and HOTA of videos that are tracked in parts"),
        "knobs": ("quality.knobs", "what the two knobs of a synthetic world change, on its ground truth"),
    },
    "Learning": {
        "ablation": ("learning.ablation", "AP of students that are taught in different ways, at equal steps"),
        "memory-student": ("learning.memory_student", "value of track slots, at equal compute"),
        "lookahead": ("learning.lookahead", "value of knowing the future, in a student's labels"),
        "label-students": (
            "learning.label_students",
            "AP, HOTA and returns kept of students of a teacher's labels",
        ),
        "shared-switches": ("learning.shared_switches", "their identity switches on objects that all find"),
        "yolo-training": (
            "learning.yolo_training",
            "AP and returns kept of `nano` and YOLO after equal minutes of training",
        ),
        "convergence": ("learning.convergence", "AP of a student by minutes of training"),
        "placed-queries": ("learning.placed_queries", "AP of learned and of placed queries, at equal steps"),
        "kill-resume": ("learning.kill_resume", "whether a run killed many times ends as one left alone"),
    },
    "Pictures": {
        "plots": ("plots", "the plots of docs/results.md, drawn from the tables of the pages"),
    },
}
MODULES = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; the exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(overview())
        return 0
    try:
        if name not in MODULES:
            near = difflib.get_close_matches(name, MODULES, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(MODULES)}"
            raise UserError(f"no benchmark {name}; {hint}")
        return run(name, rest)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parser_of(name: str) -> argparse.ArgumentParser:
    """The options of one benchmark."""
    module = import_module(MODULES[name])
    parser = argparse.ArgumentParser(
        prog=f"python benchmarks {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.options(parser)
    threads = parser.get_default("threads") or "all cores"
    parser.add_argument("--threads", type=int, help=f"threads of PyTorch; if not given: {threads}")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    return parser


def run(name: str, arguments: Sequence[str]) -> int:
    given = parser_of(name).parse_args(arguments)
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    if "seed" in given:
        torch.manual_seed(given.seed)
    return import_module(MODULES[name]).run(given) or 0


def overview() -> str:
    lines = [str(__doc__)]
    for title, group in COMMANDS.items():
        lines += [f"{title}:", *(f"  {name:16} {about}" for name, (_, about) in group.items()), ""]
    return "\n".join(lines).rstrip()
