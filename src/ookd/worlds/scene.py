"""One video of a world: its objects, where they are in each frame, and how a frame is drawn.

Random streams are separate for cast, motion, proportions, looks and frames. So no setting of one kind
disturbs another, and any frame can be drawn alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ookd.worlds.backdrop import MARGIN, Backdrop, backdrop, occluder_outline, occluder_paint
from ookd.worlds.config import WorldConfig
from ookd.worlds.drawn import FrameTruth
from ookd.worlds.layers import (
    Affine,
    Image,
    Mask,
    SceneLayer,
    blend,
    compose,
    full_masks,
    region_of,
    visible_masks,
    warp_into,
)
from ookd.worlds.layout import SceneLayout, drift, obstacles
from ookd.worlds.motion import GAITS, Poses, plan
from ookd.worlds.render import Silhouette, expose, paint_body, silhouette, streak
from ookd.worlds.shapes import Body
from ookd.worlds.species import SPECIES, Species
from ookd.worlds.texture import coat

_CAST, _MOTION, _BODY, _LOOK, _PLACE, _FRAME = range(6)


def class_probabilities(imbalance: float) -> NDArray[np.float64]:
    """Probability of each class: a Zipf law in the order of `SPECIES`."""
    weight = np.arange(1, len(SPECIES) + 1) ** -imbalance
    return np.asarray(weight / weight.sum())


@dataclass(frozen=True)
class Cast:
    """The objects: class, body length in frame heights, and which one each looks like (itself if none)."""

    labels: NDArray[np.int64]
    sizes: NDArray[np.float64]
    twins: list[int]


class Scene:
    """A video as a function of time."""

    def __init__(self, config: WorldConfig, key: tuple[int, ...]) -> None:
        self.config = config
        self._key = key

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng(
            np.random.SeedSequence(self._key[0], spawn_key=(*self._key[1:], *stream))
        )

    @cached_property
    def cast(self) -> Cast:
        config, rng = self.config, self._rng(_CAST)
        count = int(rng.integers(config.crowd[0], config.crowd[1] + 1))
        labels = rng.choice(len(SPECIES), count, p=class_probabilities(config.imbalance))
        sizes = np.exp(rng.uniform(np.log(config.size[0]), np.log(config.size[1]), count))
        clone, whom = rng.random(count), rng.random(count)
        twins = list(range(count))
        for i in range(1, count):
            if clone[i] < 0.12 + 0.7 * config.association:
                j = twins[int(whom[i] * i)]
                twins[i], labels[i] = j, labels[j]
                sizes[i] = sizes[j] * (sizes[i] / sizes[j]) ** (0.6 * (1 - config.association))
        sizes *= [SPECIES[label].size for label in labels]
        return Cast(labels, sizes, twins)

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.cast.labels

    @cached_property
    def _set(self) -> tuple[SceneLayout, Poses]:
        config, cast, rng = self.config, self.cast, self._rng(_MOTION)
        aspect = config.width / config.height
        horizon = float(rng.uniform(0.2, 0.5)) if rng.random() < 0.65 else 0.0
        camera = drift(rng, config.frames)
        things = obstacles(rng, config.association, aspect)
        layout = SceneLayout(config.frames, aspect, horizon, config.association, camera, things)
        return layout, plan(rng, [species.gait for species in self.species], cast.sizes, cast.twins, layout)

    @property
    def layout(self) -> SceneLayout:
        return self._set[0]

    @property
    def poses(self) -> Poses:
        return self._set[1]

    @property
    def species(self) -> list[Species]:
        return [SPECIES[label] for label in self.cast.labels]

    @cached_property
    def bodies(self) -> list[Body]:
        return [
            Body.build(species.parts, species.deform, self._rng(_BODY, twin))
            for species, twin in zip(self.species, self.cast.twins, strict=True)
        ]

    @cached_property
    def place(self) -> Backdrop:
        config = self.config
        return backdrop(
            self._rng(_PLACE), config.height, config.width, self.layout.horizon, config.appearance
        )

    @cached_property
    def coats(self) -> list[Image]:
        config, looks = self.config, []
        for i, (species, twin) in enumerate(zip(self.species, self.cast.twins, strict=True)):
            shift = 0.0 if i == twin else (6 + 18 * (1 - config.association)) * (-1) ** i
            palette, markings = self._rng(_LOOK, twin), self._rng(_LOOK, twin, i)
            looks.append(coat(species, palette, markings, config.appearance, self.place.colour, shift))
        return looks

    @cached_property
    def _covers(self) -> list[tuple[Image, Affine]]:
        """The cover of each occluder, and where its pixels lie on screen while the camera does not pan."""
        height, made = self.config.height, []
        for k, thing in enumerate(self.layout.occluders):
            h, w = max(4, round(thing.height * height)), max(4, round(thing.width * height))
            corner = np.array([[1, 0, thing.x * height - w / 2], [0, 1, thing.y * height - h / 2]])
            made.append((occluder_outline(thing.kind, self._rng(_BODY, 1000 + k), h, w), corner))
        return made

    @cached_property
    def _cover_paints(self) -> list[Image]:
        rng = self._rng(_PLACE, 1)
        return [
            occluder_paint(thing.kind, rng, cover, self.place.colour)
            for thing, (cover, _) in zip(self.layout.occluders, self._covers, strict=True)
        ]

    def _view(self, t: int) -> Affine:
        """Screen pixels -> frame pixels: the zoom and roll of the camera about the middle of the frame."""
        config, view = self.config, self.layout.camera
        centre = (config.width / 2, config.height / 2)
        turn = cv2.getRotationMatrix2D(centre, float(np.degrees(view.roll[t])), float(view.zoom[t]))
        return np.asarray(turn, np.float64)

    def _drift(self, t: int) -> Affine:
        dx, dy = self.layout.camera.pan[t] * self.config.height
        return np.array([[1, 0, -dx], [0, 1, -dy]])

    def silhouettes(self, t: int) -> list[Silhouette | None]:
        """The outline of every object in frame t, in the order of the cast."""
        config, poses, view = self.config, self.poses, self._view(t)
        shapes = []
        for i, body in enumerate(self.bodies):
            unit = poses.length[i, t] * config.height
            c, s, flip = np.cos(poses.angle[i, t]), np.sin(poses.angle[i, t]), poses.flip[i, t]
            place = np.array(
                [
                    [unit * c * flip, -unit * s, poses.x[i, t] * config.height],
                    [unit * s * flip, unit * c, poses.y[i, t] * config.height],
                ]
            )
            affine = compose(view, place)
            shapes.append(silhouette(body, poses.phase[i, t], affine, config.height, config.width, 4))
        return shapes

    def frame(self, t: int) -> tuple[Image, Mask]:
        """Frame t [H, W, 3] RGB and its visible masks [N, H, W]."""
        config = self.config
        shapes = self.silhouettes(t)
        canvas = self._ground(t)
        self._cast_shadows(canvas, shapes, t)
        shutter = (0.25 + 0.75 * config.appearance) * config.height
        for i in self._far_to_near(t):
            shape = shapes[i]
            if shape is not None:
                smear = streak(*(self.poses.velocity[i, t] * shutter))
                paint_body(canvas, self.bodies[i], self.coats[i], shape, smear)
        covers = self._covers_at(t)
        for k, cover in covers.items():
            paint = warp_into(self._cover_paints[k], self._cover_affine(k, t), cover.region)
            blend(canvas, paint, cover.alpha, cover.region)
        rng = self._rng(_FRAME, t)
        noise, blur = 1.5 + 11 * config.appearance, 1.1 * config.appearance
        return expose(canvas, rng, self._light(t), blur, noise), self._visible(t, shapes, covers)

    def truth(self, t: int) -> FrameTruth:
        """The masks of frame t; nothing is painted."""
        shapes = self.silhouettes(t)
        full = full_masks(_layers(shapes), self.config.height, self.config.width)
        return FrameTruth(self._visible(t, shapes, self._covers_at(t)), full)

    def _far_to_near(self, t: int) -> list[int]:
        return [int(i) for i in np.argsort(self.poses.depth[:, t], kind="stable")]

    def _visible(self, t: int, shapes: list[Silhouette | None], covers: dict[int, SceneLayer]) -> Mask:
        height, width = self.config.height, self.config.width
        return visible_masks(_layers(shapes), self._far_to_near(t), height, width, covers.values())

    def _ground(self, t: int) -> Image:
        config, edge = self.config, round(MARGIN * self.config.height)
        to_screen = compose(self._drift(t), np.array([[1.0, 0, -edge], [0, 1, -edge]]))
        affine = compose(self._view(t), to_screen)
        size = (config.width, config.height)
        return np.asarray(cv2.warpAffine(self.place.image, affine, size, borderMode=cv2.BORDER_REFLECT))

    def _cover_affine(self, k: int, t: int) -> Affine:
        return compose(self._view(t), compose(self._drift(t), self._covers[k][1]))

    def _covers_at(self, t: int) -> dict[int, SceneLayer]:
        """What each visible occluder covers of frame t, by its number."""
        found = {}
        for k, (cover, _) in enumerate(self._covers):
            affine, (h, w) = self._cover_affine(k, t), cover.shape
            region = region_of(affine, (0, 0, w, h), self.config.height, self.config.width)
            if region is not None:
                found[k] = SceneLayer(region, warp_into(cover, affine, region))
        return found

    def _cast_shadows(self, canvas: Image, shapes: list[Silhouette | None], t: int) -> None:
        """Soft shadows under objects on the ground, drawn at half size."""
        height, width = canvas.shape[:2]
        pool = np.full((height // 2, width // 2), 255, np.uint8)
        for i, shape in enumerate(shapes):
            if shape is not None and GAITS[self.species[i].gait].ground:
                low, high = shape.outlines.min((0, 1)), shape.outlines.max((0, 1))
                centre = (int(low[0] + high[0]) // 4, int(high[1]) // 2)
                reach = max(1, int(high[0] - low[0]) // 5)
                cv2.ellipse(pool, centre, (reach, max(1, reach // 4)), 0, 0, 360, 150, -1)
        if pool.min() < 255:
            pool = cv2.resize(cv2.blur(pool, (5, 5)), (width, height))
            cv2.multiply(canvas, cv2.cvtColor(pool, cv2.COLOR_GRAY2BGR), canvas, scale=1 / 255)

    @cached_property
    def _lamps(self) -> NDArray[np.float64]:
        return self._rng(_PLACE, 2).uniform(-1, 1, 10)

    def _light(self, t: int) -> NDArray[np.float32]:
        """Brightness over the frame [6, 10, 3]: flicker, a drifting shade and a slow change of tint."""
        lamp, depth = self._lamps, 0.06 + 0.26 * self.config.appearance
        v, u = np.mgrid[0:1:6j, 0:1:10j]
        rate = 0.06 + 0.1 * np.abs(lamp[:3])
        overall = 1 + depth * np.sin(rate[0] * t + 6 * lamp[3])
        shade = 1 + depth * np.sin(4 * (lamp[4] * u + lamp[5] * v) + rate[1] * t + 6 * lamp[6])
        tint = 1 + 0.3 * depth * np.sin(rate[2] * t + 6 * lamp[7:10])
        return np.asarray(overall * shade[..., None] * tint, np.float32)


def _layers(shapes: list[Silhouette | None]) -> list[SceneLayer | None]:
    return [None if shape is None else shape.layer for shape in shapes]
