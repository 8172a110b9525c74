"""Pictures of validation: colours tell which object a prediction covers."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from ookd.engine.samples import _colours, samples
from ookd.structures import TrackResult
from ookd.worlds import World

WORLD = World("ytvis-like", split="val", videos=2, height=64, width=96, frames=6, crowd=(2, 3))


def test_a_found_track_has_the_colour_of_what_it_covers_most() -> None:
    true = np.zeros((2, 2, 4, 4), bool)
    true[0, :, :2], true[1, :, 2:] = True, True
    found = np.zeros((4, 2, 4, 4), bool)
    found[0, :, 2:] = True  # object 1
    found[1, 0, :2], found[1, 1, 3:] = True, True  # 8 pixels of object 0, then 4 of object 1
    found[3, :, :1] = True  # object 0 again: a duplicate
    assert _colours(found, true).tolist() == [1, 0, 2 + 2, 0]
    assert _colours(found, true[:0]).tolist() == [0, 1, 2, 3]


def test_strips_of_the_first_videos_name_what_they_show() -> None:
    truth = WORLD.dataset()
    perfect = [
        TrackResult(video.id, track.category_id, 0.9, track.segmentations)
        for video in truth.videos
        for track in video.tracks
    ]
    again = [TrackResult(one.video_id, one.category_id % 14 + 1, 0.4, one.segmentations) for one in perfect]
    unsure = [TrackResult(one.video_id, one.category_id, 0.1, one.segmentations) for one in perfect]
    found = samples(WORLD, truth, [*again, *perfect])
    assert len(found) == 2
    for video, sample in zip(truth.videos, found, strict=True):
        count = len(video.tracks)
        assert sample.caption.startswith(
            f"video {video.id}, frames 0, 2, 3, 5: {count} objects, {count} tracks"
        )
    image = cv2.imdecode(np.frombuffer(base64.b64decode(found[0].jpeg), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    height = round(64 * 360 / 96)
    assert image.shape == (2 * height + 6, 4 * 360 + 3 * 4, 3)
    assert "0 tracks" in samples(WORLD, truth, unsure)[0].caption
