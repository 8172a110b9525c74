"""The value of association: the same detections joined to tracks in different ways.

The model sees the tune and test videos of a world once. Every arm gets the same number of trials for its
constants on the tune videos, together with the score and the overlap from which detections count. All
figures are of the test videos; intervals are a paired bootstrap over them. What was computed is kept in
--out, so that arms can be added. Trackers of other packages need `pip install --no-deps trackers==2.6.0`.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from measuring import Table
from ookd.api import load
from ookd.config.tracker import TrackerConfig
from ookd.evaluation.compare import RESAMPLINGS
from ookd.evaluation.hota import TrackingCounts
from ookd.evaluation.returns import resampled
from ookd.evaluation.run import evaluate
from ookd.masks import Ints
from ookd.models.families import family_named
from ookd.tracking import linker
from ookd.tracking.associators import make_associator
from ookd.tracking.associators.ranges import Range
from ookd.tracking.predict import predict
from ookd.tune import replay
from ookd.tune.replay import Cache, CachedVideo, Follow
from ookd.tune.search import ANY_TRACKER, cache_queries, maximise, values_of
from ookd.worlds import World
from quality import peers

WORLDS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "hard": ("identity", {"association": 0.6, "size": (0.3, 0.6), "height": 128, "width": 224}),
    "returns": ("identity", {"association": 0.9, "frames": 64}),
    "ytvis-like": ("ytvis-like", {}),
    "ovis-like": ("ovis-like", {}),
}
MIXED = ("hard", "ytvis-like", "ovis-like")  # `--world mixed`: the videos of these together
# the tracker that `nano` had first: IDOL's with cosines and places
MEMORY = {
    "associator": "memory",
    "similarity": "cosine",
    "scale": 20.0,
    "match": 0.3,
    "nearness": 2.0,
    "memory_length": 5,
    "horizon": 20,
    "first_score": 0.2,
    "new_score": 0.4,
}
SINCE = (
    "normalise",
    "far",
    "overlap",
    "doubt",
)  # constants that the search of `memory` did not know at first
ARMS = (
    "own",
    "bundled",
    "memory-untuned",
    "memory-then",
    "memory",
    "consecutive",
    *peers.PEERS,
    "assignment",
    "link-4",
    "link-12",
    "link-all",
    "true",
)
SPLITS = ("tune", "test")


@dataclass(frozen=True)
class Arm:
    """A way to join detections."""

    plan: Callable[[Mapping[str, Any], str], tuple[TrackerConfig, Follow]]  # from its constants, for a split
    ranges: Mapping[str, Range] | None = None  # where its constants are searched
    start: Mapping[str, Any] | None = None  # where the search begins
    after: str | None = None  # the arm whose constants it has besides


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--world", default="hard", choices=[*WORLDS, "mixed"])
    parser.add_argument(
        "--arms", nargs="+", default=ARMS[1:], choices=ARMS, metavar="ARM", help=" ".join(ARMS)
    )
    parser.add_argument("--against", default="memory", choices=ARMS, help="what all others are compared with")
    parser.add_argument("--tune-videos", type=int, default=100)
    parser.add_argument("--test-videos", type=int, default=200)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument(
        "--searches", type=int, default=1, help="of each arm's constants; scores are their means"
    )
    parser.add_argument("--seed", type=int, default=501, help="of the tune videos; test videos have the next")
    parser.add_argument("--out", type=Path, default=Path("runs/association"))


def run(given: argparse.Namespace) -> None:
    experiment = Experiment(given, given.searches)
    for name in given.arms:  # all searches before the first row
        for search in range(given.searches):
            experiment.constants(name, search)
    compared = experiment.scores(given.against)
    spread = {"low": "+.1f", "high": "+.1f"}
    columns = {"arm": "", "AP": ".1f", "above": "+.1f", **spread}
    columns |= {"returns kept": ".1f", "more kept": "+.1f", "from": "+.1f", "to": "+.1f"}
    with Table(given, {**columns, "returns": "", "switches": "", "frames to recover": ".0f"}) as table:
        for name in given.arms:
            found = experiment.scores(name)
            numbers = []
            for score in ("ap", "share_kept"):
                above = 100 * (found[score] - compared[score])
                low, high = np.nanpercentile(above[1:], [2.5, 97.5])
                numbers += [100 * found[score][0], above[0], low, high]
            counts = [int(found[count][0]) for count in ("returns", "switches")]
            table.add(name, *numbers, *counts, found["frames_to_recover"][0])


class Experiment:
    """One world. Its detections and the constants of its arms are each computed once and kept in a folder."""

    def __init__(self, given: argparse.Namespace, searches: int = 1, tracker: Any = None) -> None:
        self.given, self.world, self.searches = given, given.world, searches
        self.folder = given.out / given.world
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tracker = tracker or load(given.model)
        self.own_arms = own_arms(self.tracker.online()[1])
        self.detections, self.motion = cache(self._detections), cache(self._motion)

    def arm(self, name: str) -> Arm:
        """An arm by name; those of other packages need theirs."""
        return self._peer(name) if name in peers.PEERS else self.own_arms[name]

    def scores(self, name: str) -> dict[str, np.ndarray]:
        """AP, returns and switches [1 + R] of an arm: of the test videos as they are, then resampled."""
        found = [self._scores(name, search) for search in range(self.searches)]
        return {score: np.mean([one[score] for one in found], 0) for score in found[0]}

    def _scores(self, name: str, search: int) -> dict[str, np.ndarray]:
        found = self.detections("test")
        config, follow = self.arm(name).plan(self.constants(name, search), "test")
        weights = resamplings(len(found.videos))
        counts = [replay.returns(video, config, follow) for video in found.videos]
        ap = replay.resampled_ap(found, replay.tracks(found, config, follow), weights)
        returns = weights @ [count.returns for count in counts]
        return {"ap": ap, "returns": returns, **resampled(counts, weights)}

    def hota(self, name: str) -> np.ndarray:
        """HOTA [1 + R] of an online arm, as `scores`. It needs masks, so the model sees the videos again."""

        def compute() -> list[TrackingCounts]:
            config, follow = self.arm(name).plan(self.constants(name), "test")
            assert follow is replay.online
            network, own = self.tracker.online()
            config, world = config.changed({"short_side": own.short_side}), self._world("test")
            found = predict(network, world, config, self.tracker.names)
            measured = evaluate(world.dataset(), found).measured
            return [sum(video.counts.values(), TrackingCounts()) for video in measured]

        counts: list[TrackingCounts] = self._kept(f"{name}-tracking.pickle", compute)
        return resampled_hota(counts, resamplings(len(counts)))

    def constants(self, name: str, search: int = 0) -> dict[str, Any]:
        """The constants of an arm with the best AP on the tune videos."""
        arm = self.arm(name)
        start = self.constants(arm.after, search) if arm.after else {}
        if arm.ranges is None:
            return start

        def score(trials: list[dict[str, Any]]) -> Iterator[float]:
            for drawn in trials:
                yield replay.average_precision(self.detections("tune"), *arm.plan(start | drawn, "tune"))

        def compute() -> dict[str, Any]:
            best, ap = maximise(arm.ranges or {}, score, 0.0, self.given.trials, search, start=arm.start)
            return {"tune_ap": ap, "constants": start | best}

        found: dict[str, Any] = self._kept(f"{name}-{search}.json" if search else f"{name}.json", compute)
        return found["constants"]

    def _detections(self, split: str) -> Cache:
        if self.world == "mixed":
            return together([self._of(world).detections(split) for world in MIXED])

        def compute() -> Cache:
            world, tracker = self._world(split), self.tracker
            return cache_queries(*tracker.online()[:1], world, world.dataset(), tracker.names, tracker.config)

        found: Cache = self._kept(f"{split}.pickle", compute)
        return found

    def _of(self, world: str) -> Experiment:
        return Experiment(argparse.Namespace(**{**vars(self.given), "world": world}))

    def _motion(self, split: str) -> peers.Motion:
        if self.world == "mixed":
            found = [motion for world in MIXED for motion in self._of(world).motion(split).values()]
            return dict(enumerate(found, 1))
        kept: peers.Motion = self._kept(f"{split}-motion.pickle", lambda: peers.motion(self._world(split)))
        return kept

    def _world(self, split: str) -> World:
        preset, change = WORLDS[self.world]
        videos = self.given.tune_videos if split == "tune" else self.given.test_videos
        seed = self.given.seed + SPLITS.index(split)
        return World(preset, split=split, seed=seed, videos=videos, **change)

    def _kept(self, name: str, compute: Callable[[], Any]) -> Any:
        """The result of `compute`, read from a file if it was computed before.

        Pickles run code: `--out` must be your own folder.
        """
        path = self.folder / name
        if not path.is_file():
            answer = compute()
            path.write_bytes(
                pickle.dumps(answer) if path.suffix == ".pickle" else json.dumps(answer, indent=1).encode()
            )
        data = path.read_bytes()
        return pickle.loads(data) if path.suffix == ".pickle" else json.loads(data)

    def _peer(self, name: str) -> Arm:
        start = family_named("compact").tracker

        def plan(values: Mapping[str, Any], split: str) -> tuple[TrackerConfig, Follow]:
            return peers.plan(name, self.motion(split), start, values)

        return Arm(plan, peers.ranges(name), peers.constants(name))


def resamplings(videos: int) -> Ints:
    """[1 + R, V] how often each video counts: once, then as drawn for a bootstrap."""
    drawn = np.random.default_rng(0).multinomial(videos, np.full(videos, 1 / videos), RESAMPLINGS)
    weights: Ints = np.concatenate([np.ones((1, videos), np.int64), drawn])
    return weights


def resampled_hota(counts: Sequence[TrackingCounts], weights: Ints) -> np.ndarray:
    """HOTA [1 + R] of videos that count as often as `weights` [1 + R, V] says."""
    matched = np.tensordot(weights, [count.matched for count in counts], 1)  # [1 + R, 3, A]
    right, _, associated = matched.transpose(1, 0, 2)
    masks = weights @ [count.truths + count.results for count in counts]
    hota: np.ndarray = np.sqrt(associated / np.maximum(1, masks[:, None] - right)).mean(1)
    return hota


def together(caches: Sequence[Cache]) -> Cache:
    """All videos, under numbers of their own."""
    first = caches[0]
    videos = [video for cache in caches for video in cache.videos]
    numbered = [replace(video, id=number) for number, video in enumerate(videos, 1)]
    return Cache(numbered, first.label_of, first.classes)


def own_arms(model: TrackerConfig) -> dict[str, Arm]:
    """The model's own tracker, with its constants and others, the associators, the linker, the truth."""
    family = family_named("compact").tracker

    def arm(
        config: TrackerConfig,
        follow: Follow,
        ranges: Mapping[str, Range] | None = None,
        after: str | None = None,
    ) -> Arm:
        first = values_of(config, ranges) if ranges else None
        return Arm(lambda values, _: (config.changed(values), follow), ranges, first, after)

    arms = {"bundled": arm(model, replay.online)}
    arms["own"] = arm(model, replay.online, ranges={**ANY_TRACKER, **make_associator(model).ranges})
    for name in ("memory", "consecutive", "assignment"):
        start = family.changed(MEMORY if name == "memory" else {"associator": name})
        arms[name] = arm(start, replay.online, ranges={**ANY_TRACKER, **make_associator(start).ranges})
    start = family.changed(MEMORY)
    arms["memory-untuned"] = arm(start, replay.online)
    known = {**ANY_TRACKER, **make_associator(start).ranges}
    then = {name: found for name, found in known.items() if name not in SINCE}
    arms["memory-then"] = arm(start, replay.online, ranges=then)
    start = family.changed({"associator": "assignment"})
    arms["link-all"] = arm(start, replay.linked(None), ranges=linker.RANGES, after="assignment")
    for ahead in (4, 12):
        arms[f"link-{ahead}"] = arm(start, replay.linked(ahead), after="link-all")
    arms["true"] = arm(start, truth, after="assignment")
    return arms


def truth(video: CachedVideo, selected: Sequence[Ints], config: TrackerConfig) -> Iterator[Ints]:
    """True identities where a detection is on an object; elsewhere those of the online tracker."""
    for frame, (rows, ids) in enumerate(zip(selected, replay.online(video, selected, config), strict=True)):
        true = replay.true_ids(video, frame, rows)
        yield np.where(true >= 0, true, np.where(ids >= 0, ids + len(video.truth_label), -1))
