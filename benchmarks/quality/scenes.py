"""How good a model is on synthetic scenes that no training has seen: AP, HOTA, identities."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from measuring import Table
from ookd.api import load
from ookd.data.formats import save_ytvis
from ookd.evaluation.run import evaluate
from ookd.evaluation.submission import write_submission
from ookd.tracking.predict import predict
from ookd.worlds import World


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--worlds", nargs="+", default=["ytvis-like", "ovis-like"])
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1000, help="training worlds have seed 0")
    parser.add_argument("--save", type=Path, help="a new folder for truth and results: `ookd eval --compare`")


def run(given: argparse.Namespace) -> None:
    tracker = load(given.model)
    columns = {"world": "", **dict.fromkeys(["AP", "AP50", "HOTA"], ".1f")}
    columns |= {"identity switches": "", "returns kept": "", "returns": ""}
    with Table(given, {**columns, "frames/s, drawing included": ".0f"}) as table:
        for name in given.worlds:
            world = World(name, split="test", seed=given.seed, videos=given.videos)
            began = time.perf_counter()
            results = predict(tracker.model, world, tracker.config, tracker.names)
            speed = given.videos * world.config.frames / (time.perf_counter() - began)
            truth = world.dataset()
            if given.save:
                save_ytvis(truth, given.save / f"{name}.json")
                write_submission(results, given.save / f"{name}-results.json")
            report = evaluate(truth, results)
            points = [100 * x for x in (report.ap, report.summary["AP50"], report.tracking.hota)]
            kept = (report.returns.kept, report.returns.returns)
            table.add(name, *points, report.tracking.switches, *kept, speed)
