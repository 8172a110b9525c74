"""What the frames before are worth to masks and places: masks that take in the last one, a camera held still.

The detections are those of `association`. Each arm changes one thing: the mask of a track's detection becomes
the truth, or takes in the track's last mask; or places are told as if the camera did not move. Identities
are decided before masks change. Constants are searched on the tune videos, with as many trials for every arm.
Figures are of the test videos if `--split` does not say otherwise; intervals are a paired bootstrap over the
videos. What was computed is kept in --out, and what is there of `association` is used.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measuring import Table
from ookd.config.tracker import TrackerConfig
from ookd.evaluation.compare import RESAMPLINGS
from ookd.evaluation.returns import resampled
from ookd.masks import Floats, Geometry, Ints, full_size
from ookd.models.families import family_named
from ookd.tracking.associators import make_associator
from ookd.tracking.associators.ranges import Range
from ookd.tracking.predict import detect_video
from ookd.tune import replay
from ookd.tune.replay import Cache, CachedTracks, CachedVideo, Follow
from ookd.tune.search import ANY_TRACKER, LOOSEST, maximise
from ookd.worlds.layout import SceneLayout
from quality.association import SPLITS, WORLDS, Experiment
from quality.mask_prior import BEST_OF, PRIOR, MaskPrior, Step

Motion = tuple[NDArray[Any], NDArray[Any], float]  # of places in a frame: turned, shifted; sides scaled
Change = Callable[[CachedVideo, TrackerConfig], CachedVideo]  # a video as an arm sees it


@dataclass(frozen=True)
class Arm:
    """Something that is known of the frames before, or of the truth."""

    change: Callable[[Mapping[str, Any], str], Change]  # from the constants of the step, for a split
    tracker: Mapping[str, Range]  # the constants of the tracker that are searched
    step: Mapping[str, Range]  # the constants of the step that are searched
    after: str | None = None  # the arm whose constants it begins with
    masks_only: bool = False  # identities stay


@dataclass(frozen=True)
class Seen:
    """Videos as an arm sees them, and how it joins their detections."""

    cache: Cache
    videos: Iterable[CachedVideo]
    config: TrackerConfig
    follow: Follow

    def tracks(self) -> list[CachedTracks]:
        return [replay.track(video, self.config, self.follow) for video in self.videos]


ARMS = (
    "bundled",
    "assignment",
    "true-masks",
    "true-camera",
    "shaken",
    "best-prior",
    "prior",
)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--world", default="hard", choices=WORLDS)
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS, metavar="ARM", help=" ".join(ARMS))
    parser.add_argument("--against", default="assignment", choices=ARMS)
    parser.add_argument("--tune-videos", type=int, default=100)
    parser.add_argument("--test-videos", type=int, default=200)
    parser.add_argument("--split", default="test", choices=SPLITS, help="whose scores are told")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seed", type=int, default=501, help="of the tune videos; test videos have the next")
    parser.add_argument("--out", type=Path, default=Path("runs/association"))


def run(given: argparse.Namespace) -> None:
    study = Study(given)
    for name in given.arms:  # all searches before the first row
        study.constants(name)
    compared = study.scores(given.against)
    columns = {"arm": "", "AP": ".1f", "above": "+.1f", "low": "+.1f", "high": "+.1f"}
    columns |= {"returns kept": ".1f", "more kept": "+.1f", "from": "+.1f", "to": "+.1f"}
    with Table(given, columns) as table:
        for name in given.arms:
            found, numbers = study.scores(name), []
            for score in ("ap", "share_kept"):
                above = 100 * (found[score] - compared[score])
                low, high = np.nanpercentile(above[1:], [2.5, 97.5])
                numbers += [100 * found[score][0], above[0], low, high]
            table.add(name, *numbers)


class Study(Experiment):
    """One world, with the masks of its detections and the truth."""

    def __init__(self, given: argparse.Namespace) -> None:
        super().__init__(given)
        self.model, self.own = self.tracker.online()
        self.start = family_named("compact").tracker.changed({"associator": "assignment"})
        searched = {**ANY_TRACKER, **make_associator(self.start).ranges}
        still: Callable[..., Change] = lambda step, split: lambda video, config: video  # noqa: E731
        self.studied = {
            "bundled": Arm(still, {}, {}),
            "assignment": Arm(still, searched, {}),
            "true-masks": Arm(lambda *_: true_masks, {}, {}, after="assignment", masks_only=True),
            "true-camera": Arm(self._without_camera, {}, {}, after="assignment"),
            "shaken": Arm(lambda *_: shaken, {}, {}, after="assignment"),
            "best-prior": Arm(self._best_prior, {}, {}, after="assignment", masks_only=True),
            "prior": Arm(self._prior, {}, PRIOR, after="assignment", masks_only=True),
        }
        self.scores, self.camera, self.followed = map(cache, (self._scored, self._camera, self._followed))

    def constants(self, name: str) -> dict[str, Any]:
        """The constants of the tracker and of the step with the best AP on the tune videos."""
        arm = self.studied[name]
        start = self.constants(arm.after) if arm.after else {"tracker": {}, "step": {}}
        if not (arm.tracker or arm.step):
            return start

        def split(drawn: Mapping[str, Any]) -> dict[str, Any]:
            return {
                "tracker": start["tracker"] | {key: drawn[key] for key in arm.tracker if key in drawn},
                "step": start["step"] | {key: drawn[key] for key in arm.step if key in drawn},
            }

        def score(trials: list[dict[str, Any]]) -> Iterator[float]:
            once = np.ones((1, self.given.tune_videos), np.int64)
            for drawn in trials:
                seen = self._seen(name, split(drawn), "tune")
                yield float(replay.resampled_ap(seen.cache, seen.tracks(), once)[0])

        def search() -> dict[str, Any]:
            best, ap = maximise({**arm.tracker, **arm.step}, score, 0.0, self.given.trials)
            return {"tune_ap": ap, "constants": split(best)}

        found: dict[str, Any] = self._kept(f"over-time-{name}.json", search)
        return found["constants"]

    def _seen(self, name: str, constants: Mapping[str, Any], split: str) -> Seen:
        """The videos of a split as an arm sees them."""
        count = self.given.tune_videos if split == "tune" else self.given.test_videos
        found, arm = self.detections(split)[:count], self.studied[name]
        config = self.own if name == "bundled" else self.start.changed(constants["tracker"])
        change = arm.change(constants["step"], split)
        follow = partial(self._known, split) if arm.masks_only else replay.online
        return Seen(found, (change(video, config) for video in found.videos), config, follow)

    def _scored(self, name: str) -> dict[str, np.ndarray]:
        seen = self._seen(name, self.constants(name), self.given.split)
        count = len(seen.cache.videos)
        drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLINGS)
        weights = np.concatenate([np.ones((1, count), np.int64), drawn])
        seen = replace(seen, videos=list(seen.videos))
        counts = [replay.returns(video, seen.config, seen.follow) for video in seen.videos]
        return {"ap": replay.resampled_ap(seen.cache, seen.tracks(), weights), **resampled(counts, weights)}

    def _known(
        self, split: str, video: CachedVideo, selected: Sequence[Ints], config: TrackerConfig
    ) -> Iterator[Ints]:
        return (ids for _, ids, _ in self.followed(split, video.id, config))

    def _without_camera(self, step: Mapping[str, Any], split: str) -> Change:
        return lambda video, config: moved(video, self.camera(split, video.id))

    def _camera(self, split: str, video: int) -> list[Motion]:
        world = self._world(split)
        return camera_undone(world.scene(video - 1).layout)

    def _prior(self, step: Mapping[str, Any], split: str) -> Change:
        return lambda video, config: self._with_prior(video, config, split, [Step(**step)])

    def _best_prior(self, step: Mapping[str, Any], split: str) -> Change:
        return lambda video, config: self._with_prior(video, config, split, BEST_OF)

    def _with_prior(
        self, video: CachedVideo, config: TrackerConfig, split: str, steps: Sequence[Step]
    ) -> CachedVideo:
        """Masks after the step; of several steps the best for each detection, as the truth tells."""
        masks, prior, frames = self._masks(split, video), None, []
        for t, (rows, ids, things) in enumerate(self.followed(split, video.id, config)):
            frame, truth = video.frames[t], masks.truth(t)
            prior = prior or MaskPrior(masks.geometry)
            overlap = frame.overlap.copy()
            for row, id, thing in zip(rows.tolist(), ids.tolist(), things.tolist(), strict=True):
                if id < 0:
                    continue
                own, place = masks.logits[t][row].astype(np.float32), frame.queries.places[row]
                chosen = own
                found = list(prior.candidates(id, t, own, place, steps))
                if found and (thing >= 0 or len(steps) == 1):
                    full, _ = full_size(np.stack(found), masks.geometry)
                    flat = full.reshape(len(full), -1).astype(np.float32)
                    counted = np.concatenate([flat.sum(1)[:, None], flat @ truth.T], 1).astype(np.int64)
                    best = 0
                    if len(steps) > 1:
                        counted = np.concatenate([counted, overlap[row : row + 1]])
                        best = int(iou(counted, video.truth_area[t], thing).argmax())
                    overlap[row], chosen = counted[best], [*found, own][best]
                prior.keep(id, t, chosen, place)
            frames.append(replace(frame, overlap=overlap))
        return replace(video, frames=frames)

    def _followed(self, split: str, number: int, config: TrackerConfig) -> list[tuple[Ints, Ints, Ints]]:
        """Of each frame the selected rows, their ids, and the true tracks that they show."""
        video = self.detections(split).videos[number - 1]
        selected = [replay.select(frame, config) for frame in video.frames]
        ids = replay.online(video, selected, config)
        return [
            (rows, found, replay.true_ids(video, t, rows))
            for t, (rows, found) in enumerate(zip(selected, ids, strict=True))
        ]

    def _masks(self, split: str, video: CachedVideo) -> VideoMasks:
        def compute() -> VideoMasks:
            scene = self._world(split).scene(video.id - 1)
            drawn = [scene.frame(t) for t in range(len(video.frames))]
            images, masks = zip(*drawn, strict=True)
            loose = self.own.model_copy(update={"select_score": LOOSEST, "box_nms": 1.0, "mask_nms": 1.0})
            truth = np.stack(masks)
            truth = truth[:, truth.any((0, 2, 3))]
            assert np.array_equal(truth.sum((2, 3)), video.truth_area)
            logits = []
            for frame, found in zip(video.frames, detect_video(self.model, iter(images), loose), strict=True):
                assert np.array_equal(found.query, frame.queries.query)
                logits.append(found.masks.astype(np.float16))
                geometry = found.geometry
            packed = np.packbits(truth.reshape(*truth.shape[:2], -1), axis=-1)
            return VideoMasks(logits, packed, geometry)

        (self.folder / f"{split}-masks").mkdir(exist_ok=True)
        found: VideoMasks = self._kept(f"{split}-masks/{video.id:04d}.pickle", compute)
        return found


@dataclass(frozen=True)
class VideoMasks:
    """The masks of one video."""

    logits: list[NDArray[np.float16]]  # [n, h, w] of the detections of each frame
    packed: NDArray[np.uint8]  # [T, G, H W / 8] the true masks
    geometry: Geometry

    def truth(self, t: int) -> Floats:
        """True masks [G, H W] of a frame."""
        pixels = self.geometry.height * self.geometry.width
        return np.unpackbits(self.packed[t], axis=-1, count=pixels).astype(np.float32)


def iou(counted: Ints, areas: Ints, thing: int) -> NDArray[np.float64]:
    """Of masks with a true one, from their rows of `CachedFrame.overlap`."""
    shared = counted[:, 1 + thing]
    found: NDArray[np.float64] = shared / np.maximum(counted[:, 0] + areas[thing] - shared, 1)
    return found


def true_masks(video: CachedVideo, config: TrackerConfig) -> CachedVideo:
    """Each detection that shows an object has its true mask."""
    frames = []
    for t, frame in enumerate(video.frames):
        rows = replay.select(frame, config)
        things, overlap = replay.true_ids(video, t, rows), frame.overlap.copy()
        for row, thing in zip(rows, things, strict=True):
            if thing >= 0:
                overlap[row] = 0
                overlap[row, [0, 1 + thing]] = video.truth_area[t, thing]
        frames.append(replace(frame, overlap=overlap))
    return replace(video, frames=frames)


def shaken(video: CachedVideo, config: TrackerConfig) -> CachedVideo:
    """Places as an unsteady hand films them: slow sways of up to a third of the height, and jolts."""
    random = np.random.default_rng(video.id)
    frames = len(video.frames)
    rate, start, reach = (
        random.uniform(0.1, 0.5, 2),
        random.uniform(0, 2 * np.pi, 2),
        random.uniform(0, 0.3, 2),
    )
    sway = reach * np.sin(np.outer(np.arange(frames), rate) + start)
    jolts = np.cumsum((random.random((frames, 1)) < 0.1) * random.normal(0, 0.1, (frames, 2)), 0)
    return moved(video, [(np.eye(2), shift, 1.0) for shift in sway + jolts])


def camera_undone(layout: SceneLayout) -> list[Motion]:
    """What undoes the camera's zoom and roll in each frame. Its pan moves the ground, but no object."""
    camera, middle = layout.camera, np.array([layout.aspect, 1]) / 2
    undone = []
    for zoom, roll in zip(camera.zoom, camera.roll, strict=True):
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]) / zoom
        undone.append((turn, middle - turn @ middle, 1 / zoom))
    return undone


def moved(video: CachedVideo, motion: Sequence[Motion]) -> CachedVideo:
    """The places of all detections turned, shifted and scaled, in each frame by its own motion."""
    frames = []
    for frame, (turn, shift, scale) in zip(video.frames, motion, strict=True):
        places = frame.queries.places
        centres = places[:, :2] @ turn.T + shift
        there = np.concatenate([centres, places[:, 2:] * scale], 1).astype(np.float32)
        frames.append(replace(frame, queries=replace(frame.queries, places=there)))
    return replace(video, frames=frames)
