"""Whole videos through the small reference IDOL: from pixels to the released program's results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import golden_cases
from models import published
from ookd.config.tracker import TrackerConfig
from ookd.data.rle import decode_many, encode
from ookd.tracking.frame_model import detect
from ookd.tracking.torch_model import TorchFrameModel
from ookd.tracking.video_tracker import VideoTracker
from tracking.test_tracker_golden import config_of

CASES = golden_cases("idol_video_e2e*.npz")


def either(data: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """Stored with or without the prefix that tracker sequences use."""
    key = next((key for key in (name, f"out_{name}") if key in data), None)
    if key is None:
        pytest.skip(f"the reference has no {name}")
    return data[key]


@pytest.mark.skipif(not CASES, reason="no reference videos (set OOKD_GOLDEN)")
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_video(case: Path) -> None:
    data, log = np.load(case), json.loads(case.with_suffix(".json").read_text())
    images = list(either(data, "frames").transpose(0, 2, 3, 1))
    size = either(data, "masks_shape")[-2:].tolist()
    config = config_of(log["tracker"], log["post"]) if "tracker" in log and "post" in log else TrackerConfig()
    model = published.idol(case.parent)
    tracker = VideoTracker(config, final=True)
    predictions, _ = TorchFrameModel(model).infer(images, config.short_side)
    for found in detect(predictions, config):
        tracker.step(replace(found, geometry=replace(found.geometry, height=size[0], width=size[1])))

    tracks = list(tracker.results.tracks(1, range(model.config.classes)))
    assert [track.category_id for track in tracks] == either(data, "labels").tolist()
    np.testing.assert_allclose([track.score for track in tracks], either(data, "scores"), atol=2e-5)
    wanted = np.unpackbits(either(data, "masks_packed"), axis=-1)[..., : size[1]].astype(bool)
    nothing = encode(np.zeros(size, bool))
    actual = np.stack([decode_many([mask or nothing for mask in track.segmentations]) for track in tracks])
    assert (actual != wanted).mean() < 1e-5  # logits that rounding moves over 0
