"""Result lists that do not fit the truth: one line each, or left out and counted; never a traceback."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ookd
from evaluation.scenes import as_json, mask, results_json, truth, tube
from ookd import UserError
from ookd.structures import TrackResult

BOX = (3, 3, 23, 23)
GOOD = [TrackResult(1, 1, 0.9, tube(BOX, BOX, None, BOX)), TrackResult(2, 2, 0.8, tube(BOX, BOX, BOX, BOX))]
TRUTH = truth([(1, 1, tube(BOX, BOX, None, BOX)), (2, 2, tube(BOX, BOX, BOX, BOX))])


def put(*path: Any) -> Callable[[Any], Any]:
    """Damage: set the value at the end of a path into the entry."""

    def damage(entry: dict[str, Any]) -> Any:
        *inner, last, value = path
        place: Any = entry
        for key in inner:
            place = place[key]
        place[last] = value
        return entry

    return damage


def without(key: str) -> Callable[[Any], Any]:
    return lambda entry: {name: value for name, value in entry.items() if name != key}


RLE = ("segmentations", 1)
DAMAGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "unknown video": (put("video_id", 77), "video 77 is not in the ground truth"),
    "video as text": (put("video_id", "1"), "video_id '1' is not a whole number"),
    "endless video": (put("video_id", 10**40), "video_id 1e"),
    "no video": (without("video_id"), "has no video_id"),
    "unknown category": (put("category_id", 9), "category 9 is not in the ground truth"),
    "category as text": (put("category_id", "1"), "category '1'"),
    "no category": (without("category_id"), "has no category_id"),
    "score nan": (put("score", float("nan")), "score nan is not a finite number"),
    "score infinite": (put("score", float("inf")), "score inf is not a finite number"),
    "score as text": (put("score", "0.9"), "score '0.9'"),
    "score true": (put("score", True), "score True"),
    "no score": (without("score"), "has no score"),
    "no segmentations": (without("segmentations"), "has no segmentations"),
    "segmentations null": (put("segmentations", None), "segmentations is not a list"),
    "too few frames": (put("segmentations", [None]), "1 segmentations for a video of 4 frames"),
    "too many frames": (put("segmentations", [None] * 5), "5 segmentations for a video of 4 frames"),
    "wrong size": (
        put(*RLE, mask((0, 0, 4, 4), 20, 30)),
        r"frame 1: size is \[20, 30\], the frame is \[40, 60\]",
    ),
    "truncated counts": (put(*RLE, "counts", "`n1P"), "frame 1: counts break off"),
    "foreign character": (put(*RLE, "counts", "`n1 "), "frame 1: counts hold a character"),
    "counts too short": (put(*RLE, "counts", "`n0"), "frame 1: runs do not add up"),
    "counts null": (put(*RLE, "counts", None), "frame 1: counts"),
    "mask is a number": (put(*RLE, 7), "frame 1: a segmentation is run lengths or"),
    "entry is a number": (lambda entry: 7, "is not an object"),
    "entry is a list": (lambda entry: [entry], "is not an object"),
}


def written(tmp_path: Path, entries: list[Any]) -> tuple[Path, Path]:
    gt, pred = tmp_path / "gt.json", tmp_path / "pred.json"
    gt.write_text(json.dumps(as_json(TRUTH)))
    pred.write_text(json.dumps(entries))
    return gt, pred


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_entry_has_its_line_and_can_be_left_out(kind: str, tmp_path: Path) -> None:
    damage, line = DAMAGE[kind]
    entries = results_json(copy.deepcopy(GOOD))
    gt, pred = written(tmp_path, [entries[0], damage(copy.deepcopy(entries[0])), entries[1]])
    with pytest.raises(UserError, match=line) as raised:
        ookd.evaluate(gt, pred)
    assert "entry 1" in str(raised.value)
    assert str(raised.value).startswith("1 entries do not fit")
    report = ookd.evaluate(gt, pred, lenient=True)
    assert len(report.dropped) == 1
    assert report.predictions == 2
    assert report.ap == pytest.approx(1)


def test_every_damaged_entry_has_its_own_line(tmp_path: Path) -> None:
    entries = [damage(results_json(copy.deepcopy(GOOD))[0]) for damage, _ in DAMAGE.values()]
    gt, pred = written(tmp_path, entries)
    with pytest.raises(UserError) as raised:
        ookd.evaluate(gt, pred)
    lines = str(raised.value).splitlines()
    assert len(lines) == 1 + len(DAMAGE)
    assert {f"entry {i}" in line for i, line in enumerate(lines[1:])} >= {True}
    for i in range(len(DAMAGE)):
        assert sum(f"entry {i}:" in line or f"entry {i} (" in line for line in lines) == 1


def test_results_in_memory_are_checked_too() -> None:
    bad = TrackResult(1, 1, float("nan"), GOOD[0].segmentations)
    stray = TrackResult(5, 1, 0.5, GOOD[0].segmentations)
    with pytest.raises(UserError, match=r"result 1 \(video 1\): score nan"):
        ookd.evaluate(TRUTH, [GOOD[0], bad])
    with pytest.raises(UserError, match="result 0: video 5"):
        ookd.evaluate(TRUTH, [stray])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "not JSON"),
        ("[{", "not JSON"),
        ('[{"video_id": 1,]', "not JSON"),
        ('[{"video_id": 1}} ]', "not JSON"),
        ("7", "neither a list nor an object"),
        ('{"results": []}', "a list of entries"),
    ],
)
def test_a_file_that_is_no_result_list(text: str, line: str, tmp_path: Path) -> None:
    gt, pred = written(tmp_path, [])
    pred.write_text(text)
    with pytest.raises(UserError, match=line):
        ookd.evaluate(gt, pred)


def test_missing_files_are_named(tmp_path: Path) -> None:
    gt, pred = written(tmp_path, [])
    with pytest.raises(UserError, match=r"nowhere.json: no such file"):
        ookd.evaluate(gt, tmp_path / "nowhere.json")
    with pytest.raises(UserError, match=r"nowhere.json"):
        ookd.evaluate(tmp_path / "nowhere.json", pred)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (put("annotations", 0, "category_id", 9), "annotation 0 of video 1: category 9"),
        (put("annotations", 0, "video_id", 9), "names video 9"),
        (put("annotations", 1, "segmentations", [None]), "track 2 of video 2: 1 segmentations"),
        (put("annotations", 1, "segmentations", 0, "counts", "P"), "track 2 of video 2: frame 0"),
        (put("annotations", 1, "areas", "many"), "'areas' must be a list"),
        (put("annotations", 1, "id", None), "'id' must be a whole number, not None"),
        (put("categories", []), "at least one class"),
        (put("categories", 0, {"name": "x"}), "'id' must be a whole number, not missing"),
        (put("videos", 0, "file_names", None), "'file_names' must be a list"),
        (put("videos", 0, 5), "must be an object, not None"),
        (put("videos", 0, "id", 2), "the id 2 is used twice"),
        (put("annotations", 0, "iscrowd", "0"), "'iscrowd' must be 0 or 1, not '0'"),
        (put("annotations", 0, "category_id", True), "'category_id' must be a whole number, not True"),
        (put("annotations", 0, "category_id", [1]), "'category_id' must be a whole number"),
        (put("annotations", 0, "id", 10**400), "'id' is .*at most 53 bits|must be a whole number"),
        (put("annotations", 1, "areas", [-1.0]), "area -1.0 must be a number of pixels"),
        (put("annotations", 1, "areas", [float("nan")]), "area nan must be a number of pixels"),
        (put("annotations", 1, "areas", [1e308]), "area 1e.308 must be a number of pixels"),
        (put("annotations", 1, "areas", [True]), "area True must be a number of pixels"),
        (put("categories", 0, "id", [1]), "'id' must be a whole number"),
        (put("categories", 0, "name", ["x"]), "'name' must be a text"),
        (put("categories", 0, "name", "x" * 10**6), "more than 1000 characters in the name"),
        (put("categories", 0, "name", "\x1b[31mx"), "holds characters that cannot be shown"),
        (put("videos", 0, "width", 2**17), "more than 65536 pixels along a side"),
        (put("videos", 0, "height", "7" * 5000), "'height' must be a whole number"),
    ],
)
def test_damaged_ground_truth_is_refused(damage: Callable[[Any], Any], line: str, tmp_path: Path) -> None:
    gt, pred = written(tmp_path, [])
    gt.write_text(json.dumps(damage(json.loads(gt.read_text()))))
    with pytest.raises(UserError, match=line):
        ookd.evaluate(gt, pred)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["video_id", "size", "counts", "score", "{", "}"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_fuzzed_entries_are_scored_or_told_never_crash(tmp_path_factory: Any, data: st.DataObject) -> None:
    entries: list[Any] = results_json(copy.deepcopy(GOOD))
    for _ in range(data.draw(st.integers(1, 3))):
        entry = data.draw(st.sampled_from([e for e in entries if isinstance(e, dict)] or [{}]))
        key = data.draw(
            st.sampled_from(["video_id", "category_id", "score", "segmentations", "mask", "entry"])
        )
        if key == "entry":
            entries.append(data.draw(JUNK))
        elif key == "mask" and isinstance(entry.get("segmentations"), list) and entry["segmentations"]:
            entry["segmentations"][0] = data.draw(JUNK | st.builds(dict, size=st.just([40, 60]), counts=JUNK))
        else:
            entry[key] = data.draw(JUNK)
    gt, pred = written(tmp_path_factory.mktemp("fuzz"), entries)
    report = ookd.evaluate(gt, pred, lenient=True)
    assert report.predictions + len(report.dropped) == len(entries)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_fuzzed_bytes_are_scored_or_told(tmp_path_factory: Any, data: st.DataObject) -> None:
    gt, pred = written(tmp_path_factory.mktemp("fuzz"), results_json(GOOD))
    text = bytearray(pred.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"{", b"}", b'"', b"[", b"]"])
        )
    pred.write_bytes(bytes(text))
    with contextlib.suppress(UserError):
        report = ookd.evaluate(gt, pred, lenient=True)
        assert 0 <= report.ap <= 1
