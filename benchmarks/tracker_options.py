"""What each tracker option is worth to a model: track AP with it changed and everything else as it is.

The model sees the videos of a synthetic world once; every row replays the tracking. The interval is that of
the difference to the model's own constants, 95 % of a paired bootstrap over videos.

    python benchmarks/tracker_options.py MODEL --world ytvis-like --videos 100
"""

from __future__ import annotations

import argparse

from ookd.api import load
from ookd.tune.replay import gain
from ookd.tune.search import cache_queries
from ookd.worlds import World

OPTIONS = {
    "nearness": (0.0, 1.0, 2.0, 4.0),
    "memory_length": (1, 3, 5, 8),
    "prefer_recent": (False,),
    "memory": ("momentum",),
    "prefer_lasting": (False,),
    "horizon": (5, 10, 20, 40),
    "scale": (10.0, 20.0, 40.0),
    "match": (0.1, 0.3, 0.5),
    "new_score": (0.1, 0.2, 0.4),
    "mask_nms": (0.3, 0.5, 0.7),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--world", default="ytvis-like")
    parser.add_argument("--split", default="val")
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    tracker = load(arguments.model, arguments.device)
    world = World(arguments.world, split=arguments.split, videos=arguments.videos)
    cache = cache_queries(tracker.model, world, world.dataset(), tracker.names, tracker.config)
    own = gain(cache, tracker.config, tracker.config).a
    print(f"| {arguments.world}, {len(cache.videos)} videos | AP | difference | interval |")
    print("|---|---|---|---|")
    print(f"| the model's own constants | {100 * own:.1f} | | |")
    for name, values in OPTIONS.items():
        for value in values:
            config = tracker.config.model_copy(update={name: value})
            if config == tracker.config:
                continue
            one = gain(cache, tracker.config, config)
            spread = f"{100 * one.low:+.1f} to {100 * one.high:+.1f}"
            print(f"| {name} {value} | {100 * one.a:.1f} | {100 * one.difference:+.1f} | {spread} |")


if __name__ == "__main__":
    main()
