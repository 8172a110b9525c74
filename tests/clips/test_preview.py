"""What people are shown is what the annotations say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ookd.clips.preview import Preview, spaced
from ookd.data.formats import save_ytvis
from ookd.data.rle import encode
from ookd.structures import Category, Dataset, Track, Video


@pytest.fixture
def grey(tmp_path: Path) -> Dataset:
    """A grey video of three frames in which a square walks right and is hidden in the middle."""
    masks = []
    for frame in range(3):
        mask = np.zeros((60, 80), bool)
        mask[20:40, 10 + 20 * frame : 30 + 20 * frame] = True
        masks.append(encode(mask) if frame != 1 else None)
        (tmp_path / "v").mkdir(exist_ok=True)
        Image.new("RGB", (80, 60), (90, 90, 90)).save(tmp_path / "v" / f"{frame}.png")
    boxes = [[10.0, 20.0, 20.0, 20.0], None, [50.0, 20.0, 20.0, 20.0]]
    track = Track(2**40, 1, masks, boxes, [400, None, 400])
    video = Video(1, 80, 60, [f"v/{frame}.png" for frame in range(3)], [track])
    return Dataset([Category(1, "box")], [video], tmp_path)


def coloured(image: np.ndarray) -> np.ndarray:
    """Where a picture is not grey."""
    return image.max(-1).astype(int) - image.min(-1) > 40


def test_objects_are_drawn_where_they_are(grey: Dataset) -> None:
    first, hidden, last = Preview(grey).video(0)
    assert coloured(first)[25:35, 15:25].all()
    assert not coloured(first)[45:, :].any()
    assert not coloured(hidden).any()
    assert coloured(last)[25:35, 55:65].all()
    assert (first[30, 20] == last[30, 60]).all()  # one identity, one colour


def test_sheet_has_a_cell_for_each_frame(grey: Dataset) -> None:
    sheet = Preview(grey).sheet([0], columns=3)
    thirds = np.array_split(coloured(sheet), 3, axis=1)
    assert [bool(third.any()) for third in thirds] == [True, False, True]


def test_minor_paste_is_shown_the_same_for_a_seed(grey: Dataset, tmp_path: Path) -> None:
    other = Dataset(grey.categories, [*grey.videos], grey.root)
    second = Video(2, 80, 60, grey.videos[0].file_names, [Track(5, 1, *_lists(grey.videos[0].tracks[0]))])
    other.videos.append(second)
    save_ytvis(other, tmp_path / "instances.json")
    one, same, different = (Preview(other, minor_paste=True, seed=seed).sheet([0, 1]) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != different).any()
    assert (one != Preview(other).sheet([0, 1])).any()


def _lists(track: Track) -> tuple[list, list, list]:
    return track.segmentations, track.boxes_xywh, track.areas


@pytest.mark.parametrize(
    ("count", "most", "numbers"), [(10, 4, [0, 2, 5, 7]), (3, 4, [0, 1, 2]), (1, 8, [0]), (0, 3, [])]
)
def test_spaced(count: int, most: int, numbers: list[int]) -> None:
    assert spaced(count, most) == numbers
