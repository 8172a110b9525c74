"""`ookd.load` and `ookd.track` as users call them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

import ookd
from ookd.api import Tracker
from ookd.config.tracker import TrackerConfig
from ookd.drawing.overlay import as_supervision
from ookd.models import zoo
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.idol.family import IDOL
from ookd.models.idol.model import Idol, IdolConfig
from tracking.colour_model import NAMES, ColourModel, scene

TINY = IdolConfig(
    backbone=ResNetConfig(width=8),
    classes=3,
    queries=10,
    dim=64,
    heads=2,
    encoder_layers=1,
    decoder_layers=2,
    ffn=32,
)


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(ColourModel(), NAMES, TrackerConfig(), torch.device("cpu"))


@pytest.fixture
def folder(tmp_path):
    for frame in range(12):
        cv2.imwrite(str(tmp_path / f"{frame:03d}.png"), scene(frame)[:, :, ::-1])
    return tmp_path


def test_track_gives_one_result_a_frame(tracker: Tracker, folder) -> None:
    session = tracker.session()
    results = list(ookd.track(folder, tracker))
    assert [result.index for result in results] == list(range(12))
    for frame, result in enumerate(results):
        np.testing.assert_array_equal(result.image, scene(frame))
        np.testing.assert_array_equal(result.ids, session.step(scene(frame)).ids)
        assert result.names == NAMES


def test_a_part_of_a_source_keeps_its_frame_numbers(tracker: Tracker, folder) -> None:
    results = list(ookd.track(folder, tracker, start=3, end=10, every=3))
    assert [result.index for result in results] == [3, 6, 9]
    assert all(result.seconds is not None for result in results)


def test_classes_and_score_choose_what_is_shown(tracker: Tracker, folder) -> None:
    shown = [result.labels for result in ookd.track(folder, tracker, classes=["plum"])]
    assert set(np.concatenate(shown).tolist()) == {2}
    assert all(len(result) == 0 for result in ookd.track(folder, tracker, score=0.99))


def test_an_unknown_class_names_the_nearest(tracker: Tracker) -> None:
    with pytest.raises(ookd.UserError, match="no class aple; did you mean apple"):
        tracker.session(classes=["aple"])
    with pytest.raises(ookd.UserError, match="it knows apple, leaf, plum"):
        tracker.session(classes=["zebra"])


def test_a_saved_model_tracks(tmp_path) -> None:
    torch.manual_seed(0)
    zoo.save_pretrained(Idol(TINY), tmp_path / "tiny", ["a", "b", "c"], {"mask_nms": 0.7, "short_side": 64})
    tracker = ookd.load(tmp_path / "tiny", device="cpu")
    assert tracker.config == IDOL.tracker.changed({"mask_nms": 0.7, "short_side": 64})
    result = tracker.session().step(scene(0))
    assert result.masks.shape[1:] == (96, 128)
    assert result.names == ["a", "b", "c"]
    assert [len(one) for one in tracker.sessions(2).step([scene(0), scene(1)])] == [len(result)] * 2


def test_a_wrong_tracker_constant_in_a_model_is_named(tmp_path) -> None:
    zoo.save_pretrained(Idol(TINY), tmp_path, ["a", "b", "c"])
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tracker": {"match": "high"}}))
    with pytest.raises(ookd.UserError, match="tracker constants: match = 'high'"):
        ookd.load(tmp_path, "cpu")


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ookd.UserError, match="device warp is not available"):
        ookd.load("anything", device="warp")


def test_as_supervision(tracker: Tracker) -> None:
    result = tracker.session().step(scene(0))
    detections = as_supervision(result)
    np.testing.assert_array_equal(detections.xyxy, result.boxes_xyxy)
    np.testing.assert_array_equal(detections.mask, result.masks)
    np.testing.assert_array_equal(detections.tracker_id, result.ids)
    assert detections.data["class_name"].tolist() == [NAMES[label] for label in result.labels]
    nothing = as_supervision(tracker.session().step(np.full((96, 128, 3), 128, np.uint8)))
    assert len(nothing) == 0
