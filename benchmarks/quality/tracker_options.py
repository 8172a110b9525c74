"""The effect of each tracker option: track AP with one option changed and all else equal.

The model sees the videos of a synthetic world once; every row replays the tracking. The interval is that of
the difference from the model's own constants: 95 % of a paired bootstrap over videos.
"""

from __future__ import annotations

import argparse

from measuring import Table
from ookd.api import load
from ookd.tune.replay import gain
from ookd.tune.search import cache_queries
from ookd.worlds import World

OPTIONS = {
    "associator": ("consecutive", "slot"),
    "match": (0.5, 0.6, 0.7, 0.8),
    "nearness": (0.0, 0.03, 0.06, 0.12),
    "far": (2.0, 4.0, 6.0),
    "motion": (0.0, 0.2, 0.5, 1.0),
    "whole_track": (0.0, 0.3, 0.7, 1.0),
    "other_class": (0.0, 0.05, 0.1, 0.2),
    "growth": (0.0, 0.02, 0.05),
    "memory_length": (1, 3, 5, 8),
    "prefer_recent": (False, True),
    "horizon": (10, 20, 40, 60),
    "new_score": (0.1, 0.2, 0.4),
    "select_score": (0.1, 0.2, 0.3),
    "mask_nms": (0.3, 0.5, 0.7),
    "doubt": (0.0, 1.0, 3.0, 8.0),
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    parser.add_argument("--world", default="ytvis-like")
    parser.add_argument("--split", default="val")
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--device", default="auto")


def run(given: argparse.Namespace) -> None:
    tracker = load(given.model, given.device)
    world = World(given.world, split=given.split, videos=given.videos)
    cache = cache_queries(tracker.model, world, world.dataset(), tracker.names, tracker.config)
    columns = {"option": "", "AP": ".1f", **dict.fromkeys(["difference", "low", "high"], "+.1f")}
    with Table(given, columns) as table:
        own = gain(cache, tracker.config, tracker.config).a
        table.add("the model's own constants", 100 * own, None, None, None)
        for name, values in OPTIONS.items():
            for value in values:
                config = tracker.config.model_copy(update={name: value})
                if config != tracker.config:
                    one = gain(cache, tracker.config, config)
                    numbers = (one.a, one.difference, one.low, one.high)
                    table.add(f"{name} {value}", *(100 * number for number in numbers))
