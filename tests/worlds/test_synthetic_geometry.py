"""Outlines, paths and layers of synthetic worlds against formulas and hand-made cases."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from ookd.worlds.drawn import RecentCache
from ookd.worlds.events import pull
from ookd.worlds.layers import Region, SceneLayer, compose, full_masks, region_of, visible_masks
from ookd.worlds.layout import SceneLayout, drift
from ookd.worlds.motion import GAITS, plan
from ookd.worlds.shapes import RIGID, Body, BodyPart, Deform, K, corners, ellipse, limb
from ookd.worlds.species import SPECIES


def test_outlines_enclose_what_their_formulas_say() -> None:
    polygon = K / (2 * np.pi) * np.sin(2 * np.pi / K)  # a regular K-gon's share of its circle
    assert cv2.contourArea(ellipse(1, 2, 0.3, 0.2, 0.7)) == pytest.approx(np.pi * 0.06 * polygon, rel=1e-4)
    assert cv2.contourArea(corners("0,0 100,0 100,50 0,50")) == pytest.approx(0.5, rel=1e-5)
    assert cv2.contourArea(limb((0, 0), (1, 0), 0.2, 0.2)) == pytest.approx(0.2 + np.pi * 0.01, rel=0.01)


def test_joints_swing_and_wheels_turn() -> None:
    leg = BodyPart(corners("0,0 10,0 10,100 0,100"), pivot=(0.0, 0.0), swing=0.5)
    wheel = BodyPart(ellipse(0, 0, 0.2, 0.1), spin=True)
    body = Body.build([leg, wheel], RIGID, np.random.default_rng(0))
    at_rest, swung = body.pose(0.0), body.pose(np.pi / 2)
    c, s = np.cos(0.5), np.sin(0.5)
    assert swung[0] == pytest.approx(at_rest[0] @ np.array([[c, s], [-s, c]]), abs=1e-5)
    assert swung[1] == pytest.approx(at_rest[1] @ np.array([[0, 1], [-1, 0]]), abs=1e-5)
    assert body.pose(np.pi)[0] == pytest.approx(at_rest[0], abs=1e-5)


def test_a_pulse_trades_length_for_height() -> None:
    body = Body.build([BodyPart(ellipse(0, 0, 0.5, 0.5))], Deform(pulse=0.2), np.random.default_rng(0))
    rest, full = np.ptp(body.pose(0.0)[0], axis=0), np.ptp(body.pose(np.pi / 2)[0], axis=0)
    assert full / rest == pytest.approx([1.2, 0.8], rel=1e-4)


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_bodies_are_about_one_long_centred_and_moving(species: object) -> None:
    body = Body.build(species.parts, species.deform, np.random.default_rng(1))  # type: ignore[attr-defined]
    poses = np.stack([body.pose(phase) for phase in (0.0, 2.0, 4.0)])
    assert 0.75 < np.ptp(poses, axis=(0, 1, 2)).max() < 1.7
    assert np.abs((poses.max((0, 1, 2)) + poses.min((0, 1, 2))) / 2).max() < 0.25
    assert np.abs(poses[1] - poses[0]).max() > 0.01


def test_a_pull_reaches_its_target_stays_and_lets_go() -> None:
    path = np.stack([np.linspace(0, 1, 62), np.full(62, 0.5)], -1)  # frames -1..60
    before = path.copy()
    pull(path, np.array([0.5, 0.2]), centre=30, half=3)
    assert path[31 - 3 : 31 + 4] == pytest.approx(np.tile([0.5, 0.2], (7, 1)))
    ramp = 1.5 * np.hypot(before[31, 0] - 0.5, 0.3) / 0.06
    assert path[: 31 - 3 - int(ramp) - 1] == pytest.approx(before[: 31 - 3 - int(ramp) - 1])
    steps = np.hypot(*np.diff(path - before, axis=0).T)
    assert steps.max() < 1.2 * 0.06  # no jump


def test_what_stands_on_the_ground_is_larger_and_nearer_the_lower_it_is() -> None:
    rng = np.random.default_rng(0)
    layout = SceneLayout(80, 1.8, 0.3, 0.0, drift(rng, 80))
    poses = plan(rng, ["walk"] * 6, np.full(6, 0.3), range(6), layout)
    order = np.argsort(poses.depth, axis=None)
    assert (np.diff(poses.length.ravel()[order]) >= -1e-12).all()
    assert poses.length.max() / poses.length.min() > 1.3


def test_steps_stay_steps() -> None:
    """Nothing jumps: what a class's own speed and a few pulls at once can ask for in one frame."""
    rng = np.random.default_rng(1)
    gaits = list(GAITS) * 4
    layout = SceneLayout(60, 1.8, 0.3, 1.0, drift(rng, 60))
    poses = plan(rng, gaits, np.full(len(gaits), 0.3), [0] * len(gaits), layout)
    assert np.hypot(*np.moveaxis(poses.velocity, -1, 0)).max() < 0.35
    assert np.abs(np.diff(poses.phase)).max() <= 2 * np.pi * 0.2 + 1e-9


def test_the_nearer_hides_the_farther_and_a_cover_hides_all() -> None:
    def layer(top: int, left: int, bottom: int, right: int) -> SceneLayer:
        return SceneLayer(
            Region(top, left, bottom, right), np.full((bottom - top, right - left), 255, np.uint8)
        )

    layers = [layer(0, 0, 10, 10), layer(0, 5, 10, 15), None, layer(0, 0, 3, 5)]
    visible = visible_masks(layers, [1, 0, 3], 20, 20, [layer(8, 0, 20, 20)])
    assert visible.sum((1, 2)).tolist() == [8 * 10 - 3 * 5, 8 * 5, 0, 0]  # 15 pixels are too few to count
    assert full_masks(layers, 20, 20).sum((1, 2)).tolist() == [100, 100, 0, 15]


def test_windows_hold_the_warped_box_within_the_frame() -> None:
    turn = compose(
        np.array([[1.0, 0, 10], [0, 1, 5]]), np.array([[0.0, -1, 0], [1, 0, 0]])
    )  # (x, y) -> (10 - y, 5 + x)
    assert region_of(turn, (0, 0, 4, 8), 20, 20) == Region(5, 2, 9, 10)
    assert region_of(turn, (0, 0, 40, 80), 20, 20) == Region(5, 0, 20, 10)
    assert region_of(turn, (0, -30, 4, -20), 20, 20) is None


def test_recent_things_are_made_once_and_stay_at_home() -> None:
    made: list[int] = []
    recent: RecentCache[int, int] = RecentCache(2)
    for key in (1, 2, 1, 3, 1, 2):
        assert recent.get(key, lambda key=key: made.append(key) or key * 10) == key * 10  # type: ignore[func-returns-value]
    assert made == [1, 2, 3, 2]  # 2 was forgotten for 3
    assert len(pickle.dumps(recent)) < 200
