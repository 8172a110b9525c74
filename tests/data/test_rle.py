"""Run lengths: the same masks as pycocotools, and no hostile string reaches it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from ookd.data import rle

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def blobs(seed: int, n: int, height: int, width: int) -> np.ndarray:
    """[n, height, width] noisy half planes: long and short runs, some masks empty or full."""
    rng = np.random.default_rng(seed)
    masks = rng.random((n, height, width)) < rng.choice([0, 0.02, 0.5, 1], (n, 1, 1))
    masks[:, : height // 2] ^= rng.random((n, 1, 1)) < 0.5
    return masks


def compress(lengths: list[int]) -> str:
    """The published compression, one number at a time."""
    text = ""
    for i, length in enumerate(lengths):
        number = length - lengths[i - 2] if i > 2 else length
        more = True
        while more:
            digit = number & 31
            number >>= 5
            more = number != (-1 if digit & 16 else 0)
            text += chr(48 + digit + 32 * more)
    return text


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_masks_survive_and_agree_with_pycocotools(mask: np.ndarray) -> None:
    ours = rle.encode(mask)
    reference = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours["counts"].encode() == reference["counts"]
    assert ours["size"] == list(mask.shape)
    assert np.array_equal(rle.decode(ours), mask)
    assert rle.area(ours) == mask.sum()
    assert rle.box_xywh(ours) == coco.toBbox(reference).tolist()
    rle.check(ours, *mask.shape)


def test_many_masks_at_once_equal_one_at_a_time() -> None:
    masks = blobs(0, 50, 61, 83)
    encoded = rle.encode_many(masks)
    assert encoded == [rle.encode(mask) for mask in masks]
    assert np.array_equal(rle.decode_many(encoded), masks)
    assert rle.decode_many([]).shape[0] == 0
    assert rle.encode_many(masks[:0]) == []


def test_polygons_and_plain_counts_become_what_pycocotools_makes_of_them() -> None:
    polygons = [[1.5, 2, 20, 2.5, 11, 18], [25, 25, 29, 25, 29, 29, 25, 29]]
    expected = coco.decode(coco.merge(coco.frPyObjects(polygons, 30, 32))).astype(bool)
    assert np.array_equal(rle.decode(rle.from_any(polygons, 30, 32)), expected)

    mask = blobs(1, 1, 7, 9)[0]
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges, flat.size]).tolist()
    lengths = [0, *lengths] if flat[0] else lengths
    assert np.array_equal(rle.decode(rle.from_any({"size": [7, 9], "counts": lengths}, 7, 9)), mask)
    compressed = {"size": [7, 9], "counts": compress(lengths).encode()}
    assert np.array_equal(rle.decode(rle.from_any(compressed, 7, 9)), mask)


def test_runs_of_length_zero_are_legal() -> None:
    text = compress([0, 2, 0, 3, 1, 0, 6])
    assert rle.decode({"size": [3, 4], "counts": text}).T.ravel().tolist() == [True] * 5 + [False] * 7
    assert rle.area({"size": [3, 4], "counts": text}) == 5
    assert rle.box_xywh({"size": [3, 4], "counts": text}) == [0, 0, 2, 3]


GOOD = compress([5, 4, 3, 2, 6])  # fills 4 x 5

HOSTILE: dict[str, tuple[Any, str]] = {
    "not an object": (7, "list of polygons"),
    "no size": ({"counts": GOOD}, "size"),
    "size of three": ({"size": [4, 5, 1], "counts": GOOD}, "size"),
    "size is true": ({"size": [4, True], "counts": GOOD}, "size"),
    "fractional size": ({"size": [4.0, 5.0], "counts": GOOD}, "size"),
    "sides swapped": ({"size": [5, 4], "counts": GOOD}, r"size is \[5, 4\], the frame is \[4, 5\]"),
    "no counts": ({"size": [4, 5]}, "counts"),
    "empty counts": ({"size": [4, 5], "counts": ""}, "empty"),
    "truncated": ({"size": [4, 5], "counts": GOOD + "P"}, "break off"),
    "a quote": ({"size": [4, 5], "counts": GOOD[:-1] + '"'}, "character"),
    "beyond the alphabet": ({"size": [4, 5], "counts": GOOD + "~"}, "character"),
    "not ascii": ({"size": [4, 5], "counts": GOOD + "é"}, "character"),
    "zero byte": ({"size": [4, 5], "counts": GOOD.encode() + b"\0"}, "character"),
    "endless number": ({"size": [4, 5], "counts": "o" * 40 + "0"}, "longer than any frame"),
    "negative": ({"size": [4, 5], "counts": compress([25, -5])}, "negative"),
    "short": ({"size": [4, 5], "counts": compress([5, 4])}, "add up"),
    "long": ({"size": [4, 5], "counts": compress([5, 4, 12])}, "add up"),
    "list, negative": ({"size": [4, 5], "counts": [25, -5]}, "run length"),
    "list, fraction": ({"size": [4, 5], "counts": [5.5, 14.5]}, "run length"),
    "list, short": ({"size": [4, 5], "counts": [3, 4]}, "add up"),
    "list, huge": ({"size": [4, 5], "counts": [2**40, 4]}, "add up"),
    "empty list": ({"size": [4, 5], "counts": []}, "counts"),
    "no polygon": ([], "list of polygons"),
    "two points": ([[0, 0, 3, 3]], "three points"),
    "odd polygon": ([[0, 0, 3, 3, 1, 1, 2]], "three points"),
    "flat polygon": ([0, 0, 3, 3, 1, 1], "three points"),
    "infinite polygon": ([[0, 0, 3, float("inf"), 1, 1]], "coordinates"),
    "polygon of nan": ([[0, 0, 3, float("nan"), 1, 1]], "coordinates"),
    "polygon of text": ([[0, 0, 3, "3", 1, 1]], "coordinates"),
    "far polygon": ([[0, 0, 1e12, 0, 1, 1]], "coordinates"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_masks_are_refused_with_the_reason(kind: str) -> None:
    segmentation, reason = HOSTILE[kind]
    with pytest.raises(rle.RleError, match=reason):
        rle.from_any(segmentation, 4, 5)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=24) | st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=24))
def test_any_string_is_refused_or_a_whole_mask(counts: str | bytes) -> None:
    try:
        found = rle.from_any({"size": [6, 7], "counts": counts}, 6, 7)
    except rle.RleError:
        return
    assert rle.decode(found).shape == (6, 7)


@settings(max_examples=200, deadline=None)
@given(MASKS, st.data())
def test_a_damaged_string_is_refused_or_a_whole_mask(mask: np.ndarray, data: st.DataObject) -> None:
    text = list(rle.encode(mask)["counts"])
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] = chr(data.draw(st.integers(48, 111)))
    damaged = {"size": list(mask.shape), "counts": "".join(text)}
    try:
        rle.check(damaged, *mask.shape)
    except rle.RleError:
        return
    expected = coco.decode({**damaged, "counts": damaged["counts"].encode()})
    assert np.array_equal(rle.decode(damaged), expected.astype(bool))


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (40, 33)])
def test_encoding_is_that_of_pycocotools_wherever_the_mask_lies(shape: tuple[int, int]) -> None:
    height, width = shape
    rng = np.random.default_rng(0)
    masks = [np.zeros(shape, bool), np.ones(shape, bool), rng.random(shape) > 0.5]
    for rows, columns in [
        (slice(1), slice(None)),
        (slice(None), slice(1)),
        (slice(-1, None), slice(-1, None)),
    ]:
        edge = np.zeros(shape, bool)
        edge[rows, columns] = True
        masks.append(edge)
    inner = np.zeros(shape, bool)
    inner[height // 3 : height // 2 + 1, width // 3 : width // 2 + 1] = True
    masks.append(inner)
    expected = coco.encode(np.asfortranarray(np.stack(masks, 2).astype(np.uint8)))
    for one, other in zip(rle.encode_many(np.stack(masks)), expected, strict=True):
        assert one == {"size": [height, width], "counts": other["counts"].decode()}


def test_many_masks_are_measured_in_any_form_and_each_fault_stays_at_its_place() -> None:
    square = {"size": [4, 5], "counts": [5, 2, 2, 2, 9]}  # rows 1 and 2 of columns 1 and 2
    text = {"size": [4, 5], "counts": compress(square["counts"])}
    polygon = [[1, 1, 3, 1, 3, 3, 1, 3]]
    cut = {"size": [4, 5], "counts": text["counts"][:-1]}
    expected = (4, [1.0, 1.0, 2.0, 2.0])
    assert rle.measure_many([text, square, polygon], 4, 5) == [expected] * 3
    found = rle.measure_many([text, cut, square, [], polygon], 4, 5)
    assert [found[0], found[2], found[4]] == [expected] * 3
    assert str(found[1]).startswith("runs do not add up")
    assert "list of polygons" in str(found[3])
    assert rle.measure_many([], 4, 5) == []
