"""A batch knows where its clips come from, and where each pixel of them was in the video."""

from __future__ import annotations

import numpy as np
import pytest

from ookd.clips.loader import collate
from ookd.clips.sources import hide_labels
from ookd.clips.warps import Crop, Flip, Resize, Rotate, Warp, affine, warp_clip
from ookd.structures import Clip


def clip(mark: tuple[int, int]) -> Clip:
    """Two frames of 40 x 60 with one marked block of 3 x 3 around x, y."""
    image = np.zeros((40, 60, 3), np.uint8)
    mask = np.zeros((1, 40, 60), np.bool_)
    x, y = mark
    mask[0, y - 1 : y + 2, x - 1 : x + 2] = True
    one = np.ones(1, np.int64)
    return Clip([image] * 2, [mask] * 2, one, one, np.array([4, 9]), "v", student=(1,))


@pytest.mark.parametrize(
    "steps",
    [
        [Flip()],
        [Resize(80, 90)],
        [Crop(10, 5, 40, 30)],
        [Rotate(20.0)],
        [Resize(60, 90), Flip(), Crop(12, 3, 50, 50), Rotate(-10.0), Resize(100, 100)],
    ],
)
def test_points_of_the_video_are_found_in_the_batch(steps: list[Warp]) -> None:
    """The middle of the marked block, sent through the map, is the middle of the block after the warps."""
    batch = collate([warp_clip(clip((30, 20)), [steps, []])])
    ys, xs = np.nonzero(batch.tracks[0].masks[0, 0].numpy())
    found = batch.origins[0].placed[0] @ np.array([30.5, 20.5, 1.0])
    np.testing.assert_allclose(found, [xs.mean() + 0.5, ys.mean() + 0.5], atol=0.6)
    np.testing.assert_array_equal(batch.origins[0].placed[1], np.eye(2, 3))


def test_warps_upon_warps() -> None:
    first: list[Warp] = [Crop(10, 5, 40, 30), Flip()]
    then: list[Warp] = [Resize(90, 80)]
    twice = warp_clip(warp_clip(clip((30, 20)), [first, first]), [then, then])
    assert twice.placed is not None
    np.testing.assert_allclose(twice.placed[0], affine([*first, *then], (40, 60)))


def test_a_batch_names_video_and_frames_of_what_the_student_sees() -> None:
    seen = collate([clip((30, 20))]).seen_by_student()
    assert seen.origins[0].video == "v"
    assert seen.origins[0].frames.tolist() == [9]
    assert seen.origins[0].placed.shape == (1, 2, 3)


def test_hidden_labels_leave_pixels_only() -> None:
    batch = collate([hide_labels(clip((30, 20)), np.random.default_rng(0)), clip((30, 20))])
    assert [origin.labelled for origin in batch.origins] == [False, True]
    assert [len(tracks) for tracks in batch.tracks] == [0, 1]
    picked = batch.pick([1])
    assert picked.origins[0].labelled
    assert len(picked.tracks[0]) == 1
    assert picked.frames.shape[0] == 1
