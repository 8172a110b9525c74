"""Overlays and contact sheets: what is drawn where, and that it can be told apart."""

from __future__ import annotations

import numpy as np
import pytest

from ookd.drawing.overlay import COLOURS, Overlay, captions, colour, contact_sheet, text_colour
from ookd.errors import UserError
from ookd.structures import FrameResult, no_image

GREY = 90


def scene(
    height: int, width: int, ids: list[int], shift: int = 0, names: tuple[str, ...] = ("cat", "dog")
) -> FrameResult:
    """Disks side by side in the lower half of a grey image."""
    y, x = np.mgrid[:height, :width]
    radius = min(height / 5, width / (3 * max(1, len(ids))))
    centres = [shift + (i + 0.5) * width / len(ids) for i in range(len(ids))]
    masks = np.array([(y - 0.7 * height) ** 2 + (x - c) ** 2 < radius**2 for c in centres], bool)
    masks = masks.reshape(-1, height, width)
    boxes = [[c - radius, 0.7 * height - radius, c + radius, 0.7 * height + radius] for c in centres]
    n = len(ids)
    return FrameResult(
        0,
        np.array(ids, np.int64),
        np.arange(n) % 2,
        np.linspace(0.9, 0.5, n).astype(np.float32),
        np.array(boxes, np.float32).reshape(-1, 4),
        masks,
        names,
        np.full((height, width, 3), GREY, np.uint8),
    )


def luminance(rgb: tuple[int, int, int]) -> float:
    """WCAG 2's relative luminance."""
    values = [v / 255 for v in rgb]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_frame_itself_is_not_touched() -> None:
    result = scene(120, 160, [3, 4])
    drawn = Overlay().draw(result)
    assert drawn.shape == result.image.shape
    assert drawn.dtype == np.uint8
    assert (result.image == GREY).all()
    assert not np.array_equal(drawn, result.image)


def test_an_empty_result_is_the_frame() -> None:
    result = scene(120, 160, [])
    np.testing.assert_array_equal(Overlay().draw(result), result.image)


def test_a_result_without_a_frame_cannot_be_drawn() -> None:
    result = scene(120, 160, [1])
    result.image = no_image()
    with pytest.raises(UserError, match="no image"):
        Overlay().draw(result)


def test_fill_lets_the_object_show_through() -> None:
    result = scene(240, 320, [5])
    drawn = Overlay().draw(result)
    inside = drawn[int(0.7 * 240), 160].astype(int)
    expected = 0.6 * GREY + 0.4 * np.array(colour(5))
    np.testing.assert_allclose(inside, expected, atol=2)
    np.testing.assert_array_equal(drawn[-1], GREY)  # far from object and label
    np.testing.assert_array_equal(drawn[:60], GREY)


def test_the_outline_is_in_full_colour() -> None:
    result = scene(240, 320, [5])
    drawn = Overlay().draw(result)
    row = drawn[int(0.7 * 240)]
    left = int(np.flatnonzero(result.masks[0][int(0.7 * 240)])[0])
    np.testing.assert_array_equal(row[left], colour(5))


def test_colour_belongs_to_the_identity_alone() -> None:
    alone, together = Overlay().draw(scene(240, 320, [5])), Overlay().draw(scene(240, 960, [9, 5, 2]))
    np.testing.assert_array_equal(alone[168, 160], together[168, 480])


def test_colours_of_neighbours_differ() -> None:
    colours = np.array([colour(i) for i in range(COLOURS + 1)], int)
    for step in (1, 2, 3):
        assert np.abs(np.diff(colours[::step], axis=0)).sum(1).min() > 120
    assert len(set(map(tuple, colours[:COLOURS]))) == COLOURS


def test_text_has_contrast_on_every_colour() -> None:
    """WCAG's contrast ratio, of which 4.5 is asked for."""
    for identity in range(COLOURS):
        background = colour(identity)
        bright, dark = sorted((luminance(background), luminance(text_colour(background))), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) > 4.5


@pytest.mark.parametrize("size", [(32, 32), (96, 128), (480, 854), (1080, 1920), (2160, 3840)])
def test_labels_at_any_size(size: tuple[int, int]) -> None:
    """The label is at least ten pixels high, lies in the image, and grows with it."""
    result = scene(*size, [5])
    drawn = Overlay().draw(result)
    above = drawn[: int(result.boxes_xyxy[0, 1]) - 1]
    label = (above == colour(5)).all(-1)
    rows = np.flatnonzero(label.any(1))
    height = rows[-1] - rows[0] + 1
    assert max(10, size[0] / 40) <= height <= max(24, size[0] / 12)
    inside = above[rows[0] : rows[-1] + 1][:, np.flatnonzero(label.any(0))].astype(int)
    assert (np.abs(inside - text_colour(colour(5))).max(-1) < 100).sum() > 20  # letters


def test_captions() -> None:
    result = scene(96, 128, [12, 3, 40], names=("cat",))
    assert captions(result) == ["cat #12  90%", "class 1 #3  70%", "cat #40  50%"]


def test_trails_show_where_objects_came_from() -> None:
    with_trails, without = Overlay(trails=True), Overlay()
    for step in range(20):
        result = scene(240, 640, [5], shift=12 * step - 200)
        drawn, plain = with_trails.draw(result), without.draw(result)
    extra = (drawn != plain).any(-1)
    columns = np.flatnonzero(extra.any(0))
    assert columns[0] < 170 < 320 < columns[-1]  # from the first frame's place to the last's
    np.testing.assert_array_equal(drawn[extra][0], colour(5))


def test_contact_sheet() -> None:
    images = [np.full((90, 160, 3), 40 * i, np.uint8) for i in range(5)]
    sheet = contact_sheet(images, columns=3, cell_width=160)
    gap = 2
    assert sheet.shape == (2 * 90 + 3 * gap, 3 * 160 + 4 * gap, 3)
    for i in range(5):
        row, column = divmod(i, 3)
        top, left = gap + row * (90 + gap), gap + column * (160 + gap)
        np.testing.assert_array_equal(sheet[top : top + 90, left : left + 160], 40 * i)
    titled = contact_sheet(images, columns=3, titles=["first", "second"], cell_width=160)
    assert titled.shape[0] > sheet.shape[0]
    below = titled[gap + 90 : gap + 90 + 10]
    assert (below[:, :160] < 100).any()
    assert not (below[:, 340:480] < 100).any()  # the third has no title


def test_contact_sheet_keeps_proportions() -> None:
    tall, wide = np.full((100, 50, 3), 10, np.uint8), np.full((50, 100, 3), 20, np.uint8)
    sheet = contact_sheet([tall, wide], columns=8, cell_width=100)
    heights = [(sheet[:, :, 0] == value).any(1).sum() for value in (10, 20)]
    widths = [(sheet[:, :, 0] == value).any(0).sum() for value in (10, 20)]
    assert heights == [200, 50]
    assert widths == [100, 100]
