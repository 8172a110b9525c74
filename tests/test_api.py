"""`ookd.load` and `ookd.track` as users call them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import ookd
from ookd.api import Tracker
from ookd.config.tracker import TrackerConfig
from ookd.drawing.overlay import Overlay
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


def test_images_are_a_source_wherever_they_are(
    tracker: Tracker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = [scene(frame) for frame in range(4)]
    files = sorted(folder.glob("*.png"))[:4]
    expected = [result.boxes_xyxy.tolist() for result in ookd.track(arrays, tracker)]
    assert len(expected) == 4
    assert any(expected)
    for source in (
        np.stack(arrays),
        map(Image.fromarray, arrays),
        (str(file) for file in files),
        files,
    ):
        assert [result.boxes_xyxy.tolist() for result in ookd.track(source, tracker)] == expected
    part = list(ookd.track(iter(arrays), tracker, start=1, every=2))
    assert [(result.index, result.seconds) for result in part] == [(1, 0.1), (3, 0.3)]
    (single,) = ookd.track(Image.fromarray(arrays[0]), tracker)
    assert single.boxes_xyxy.tolist() == expected[0]


def test_a_generator_is_not_read_far_ahead(tracker: Tracker) -> None:
    taken: list[int] = []

    def endless() -> Iterator[np.ndarray]:
        for frame in count():
            taken.append(frame)
            yield scene(frame)

    with closing(ookd.track(endless(), tracker)) as results:
        assert [next(results).index for _ in range(3)] == [0, 1, 2]
    assert len(taken) < 12


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([], "no image to track"),
        ([3], "an array, a PIL image or the path of an image file, not int"),
        (np.zeros((8, 8), np.uint8), r"uint8 \[height, width, 3\]"),
        ([np.zeros((8, 8, 3))], "uint8"),
        (["none.png"], "none.png: no such file"),
    ],
)
def test_what_is_no_image_is_one_line(source: Any, says: str, tracker: Tracker) -> None:
    with pytest.raises(ookd.UserError, match=says):
        list(ookd.track(source, tracker))


def test_a_session_takes_files_and_pil_images(tracker: Tracker, folder: Path) -> None:
    file = sorted(folder.glob("*.png"))[0]
    results = [tracker.session().step(given) for given in (scene(0), file, str(file), Image.open(file))]
    assert len(results[0])
    for result in results:
        np.testing.assert_array_equal(result.masks, results[0].masks)
        np.testing.assert_array_equal(result.image, scene(0))
    (folder / "broken.png").write_bytes(file.read_bytes()[:60])
    with pytest.raises(ookd.UserError, match=r"broken.png: not a readable image"):
        tracker.session().step(folder / "broken.png")


@pytest.mark.parametrize("score", [2, -0.1, float("nan")])
def test_a_score_is_a_share(score: float, tracker: Tracker) -> None:
    with pytest.raises(ookd.UserError, match="must lie between 0 and 1"):
        tracker.session(score=score)


def test_a_result_draws_itself(tracker: Tracker) -> None:
    result = tracker.session().step(scene(0))
    drawn = result.plot()
    np.testing.assert_array_equal(drawn, Overlay().draw(result))
    assert (drawn != scene(0)).any()


def test_as_supervision(tracker: Tracker) -> None:
    result = tracker.session().step(scene(0))
    detections = result.to_supervision()
    np.testing.assert_array_equal(detections.xyxy, result.boxes_xyxy)
    np.testing.assert_array_equal(detections.mask, result.masks)
    np.testing.assert_array_equal(detections.tracker_id, result.ids)
    assert detections.data["class_name"].tolist() == [NAMES[label] for label in result.labels]
    nothing = tracker.session().step(np.full((96, 128, 3), 128, np.uint8)).to_supervision()
    assert len(nothing) == 0
