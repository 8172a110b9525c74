"""How good a model is on synthetic scenes that no training has seen: AP, HOTA, identity switches.

python benchmarks/bundled.py --model nano --videos 20 --seed 1000
"""

from __future__ import annotations

import argparse
import time

from ookd.api import load
from ookd.evaluation.run import evaluate
from ookd.tracking.predict import predict
from ookd.worlds import World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--worlds", nargs="+", default=["ytvis-like", "ovis-like"])
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1000, help="training worlds have seed 0")
    given = parser.parse_args()
    tracker = load(given.model)
    print("| world | scenes | AP | AP50 | HOTA | identity switches | frames/s, drawing included |")
    print("|---|---|---|---|---|---|---|")
    for name in given.worlds:
        world = World(name, split="test", seed=given.seed, videos=given.videos)
        began = time.perf_counter()
        results = predict(tracker.model, world, tracker.config, tracker.names)
        speed = given.videos * world.config.frames / (time.perf_counter() - began)
        report = evaluate(world.dataset(), results)
        ap, ap50 = 100 * report.ap, 100 * report.summary["AP50"]
        print(
            f"| {name} | {given.videos} | {ap:.1f} | {ap50:.1f} | {100 * report.tracking.hota:.1f} | "
            f"{report.tracking.switches} | {speed:.0f} |"
        )


if __name__ == "__main__":
    main()
