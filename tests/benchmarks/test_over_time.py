"""What the frames before say of a mask, and what the camera does to places."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from ookd.masks import Floats, Geometry
from ookd.tracking.select import mask_places
from ookd.worlds import World
from quality.mask_prior import MaskPrior, Step
from quality.over_time import camera_undone

GEOMETRY = Geometry(128, 224, 160, 280, stride=4)


def disc(x: float, y: float, radius: float) -> Floats:
    """Mask logits, in cells."""
    down, across = np.mgrid[:40, :72] + 0.5
    logits: Floats = (2 * (radius - np.hypot(across - x, down - y))).astype(np.float32)
    return logits


def place(mask: Floats) -> Floats:
    found: Floats = mask_places(mask[None] > 0, 4 / 160)[0]
    return found


def overlap(one: Floats, other: Floats) -> float:
    return float(((one > 0) & (other > 0)).sum() / ((one > 0) | (other > 0)).sum())


@pytest.mark.parametrize("follow", [0.0, 1.0])
def test_the_last_mask_goes_where_its_object_goes(follow: float) -> None:
    prior, masks = MaskPrior(GEOMETRY), [disc(20 + 4 * t, 15 + 2 * t, 6) for t in range(3)]
    for t in (0, 1):
        prior.keep(5, t, masks[t], place(masks[t]))
    nothing_known = np.zeros_like(masks[2])
    (moved,) = prior.candidates(5, 2, nothing_known, place(masks[2]), [Step(1, 1, follow=follow)])
    assert overlap(moved, masks[2]) > 0.95
    assert overlap(masks[1], masks[2]) < 0.6


def test_a_sure_mask_stays_and_a_new_track_has_no_prior() -> None:
    prior, own = MaskPrior(GEOMETRY), disc(20, 15, 6)
    assert not list(prior.candidates(0, 0, own, place(own), [Step(1, 1)]))
    prior.keep(0, 0, disc(40, 20, 6), np.array([0.9, 0.5, 0.3], np.float32))
    (mixed,) = prior.candidates(0, 1, own, place(own), [Step(1, 3)])
    sure = np.abs(own) >= 3
    assert np.array_equal(mixed[sure], own[sure])
    assert not np.array_equal(mixed, own)


def test_taking_the_camera_out_brings_places_back() -> None:
    world = World("identity", videos=1, frames=8)
    scene = world.scene(0)
    before, height = np.array([[0.3, 0.2], [1.1, 0.9]]), world.config.height
    for t, (turn, shift, scale) in enumerate(camera_undone(scene.layout)):
        view = scene._view(t)
        filmed = (before * height @ view[:, :2].T + view[:, 2]) / height
        assert filmed @ turn.T + shift == pytest.approx(before, abs=1e-6)
        assert scale * scene.layout.camera.zoom[t] == pytest.approx(1)
