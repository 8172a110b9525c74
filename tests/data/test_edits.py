"""Corrections of labels: a log beside the annotations that reading applies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ookd.clips.sources import DatasetClips
from ookd.data.formats import load
from ookd.data.formats.edits import check_no_edits, cut_track, joined_tracks, log_beside
from ookd.errors import UserError
from ookd.structures import Track

MASK = {"size": [4, 4], "counts": [0, 4, 12]}


def track(id: int, *scores: float | None, **more: Any) -> dict[str, Any]:
    seen = [score is not None for score in scores]
    known = [score for score in scores if score is not None]
    return {
        "id": id,
        "video_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "segmentations": [MASK if here else None for here in seen],
        "bboxes": [[0, 0, 1, 4] if here else None for here in seen],
        "areas": [4 if here else None for here in seen],
        "score": sum(known) / len(known),
        "scores": list(scores),
        **more,
    }


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Two tracks that are one object, a doubtful one, and one that is none."""
    names = [f"v/{n}.png" for n in range(4)]
    document = {
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "videos": [{"id": 1, "width": 4, "height": 4, "length": 4, "file_names": names}],
        "annotations": [
            track(1, 0.9, 0.8, None, None),
            track(2, None, None, 0.6, 0.4),
            track(3, 0.3, 0.3, 0.3, 0.3, iscrowd=1),
            track(4, 0.7, 0.7, 0.7, 0.7),
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(document))
    return tmp_path / "labels.json"


def log(labels: Path, *edits: dict[str, Any] | str) -> None:
    lines = [edit if isinstance(edit, str) else json.dumps({"video": 1, **edit}) for edit in edits]
    log_beside(labels).write_text("".join(f"{line}\n" for line in lines))


def tracks(labels: Path) -> dict[int, Track]:
    return {track.id: track for track in load(labels).videos[0].tracks}


def test_what_training_reads_has_the_edits(labels: Path) -> None:
    before = labels.read_bytes()
    source = DatasetClips(load(labels))
    assert source.labels(0) == [0, 0, 0]
    log(
        labels,
        {"op": "drop", "track": 4},
        {"op": "rename", "track": 1, "name": "dog"},
        {"op": "join", "track": 1, "other": 2},
        {"op": "keep", "track": 3},
        {"op": "done", "done": True},
    )
    corrected = DatasetClips(load(labels))
    assert corrected.labels(0) == [1, 0]
    assert corrected.identity() != source.identity()
    found = tracks(labels)
    assert found[1].extra["scores"] == [0.9, 0.8, 0.6, 0.4]
    assert all(found[1].segmentations)
    assert not found[3].iscrowd
    assert "scores" not in found[3].extra
    assert load(labels).videos[0].extra["reviewed"] is True
    assert labels.read_bytes() == before


def test_cut_and_undo(labels: Path) -> None:
    cut = {"op": "cut", "track": 4, "frame": 1, "new": 9}
    log(labels, cut)
    found = tracks(labels)
    assert [mask is not None for mask in found[4].segmentations] == [True, False, False, False]
    assert [box is not None for box in found[9].boxes_xywh] == [False, True, True, True]
    assert found[9].extra["scores"] == [None, 0.7, 0.7, 0.7]
    log(labels, {"op": "drop", "track": 1}, cut, {"op": "undo"})
    assert set(tracks(labels)) == {2, 3, 4}
    log(labels, {"op": "drop", "track": 1}, cut, {"op": "undo"}, {"op": "undo"})
    assert set(tracks(labels)) == {1, 2, 3, 4}


def test_where_both_are_seen_the_first_ones_mask_counts() -> None:
    other = {"size": [4, 4], "counts": [4, 4, 8]}
    a = Track(1, 1, [MASK, MASK, None], [[0, 0, 1, 4]] * 2 + [None], [4, 4, None], extra={"score": 1.0})
    b = Track(2, 2, [None, other, other], [None] + [[1, 0, 1, 4]] * 2, [None, 4, 4], extra={"score": 0.5})
    both = joined_tracks(a, b)
    assert (both.id, both.category_id) == (1, 1)
    assert both.segmentations == [MASK, MASK, other]
    assert both.boxes_xywh == [[0, 0, 1, 4], [0, 0, 1, 4], [1, 0, 1, 4]]
    with pytest.raises(ValueError, match="not seen on both sides of frame 2"):
        cut_track(a, 2, 9)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("{", "line 1: Invalid JSON"),
        ({"op": "burn"}, "line 1: op: Input should be 'drop', 'keep'"),
        ({"op": "drop"}, "line 1: Value error, 'drop' needs exactly track"),
        ({"op": "drop", "track": 1, "frame": 2}, "needs exactly track"),
        ({"op": "drop", "track": "1"}, "track: Input should be a valid integer"),
        ({"op": "undo"}, "video 1: there is nothing to take back"),
        ({"op": "drop", "track": 7}, "video 1: 'drop': there is no track 7"),
        ({"op": "drop", "track": 1, "video": 5}, "corrects video 5, which the annotations do not have"),
        ({"op": "rename", "track": 1, "name": "owl"}, "no class 'owl'; choose from cat, dog"),
        ({"op": "join", "track": 1, "other": 1}, "no other track 1"),
        ({"op": "cut", "track": 4, "frame": 2, "new": 1}, "the id 1 is taken"),
    ],
)
def test_a_bad_log_is_one_line(labels: Path, edit: Any, message: str) -> None:
    log(labels, edit)
    with pytest.raises(UserError) as caught:
        load(labels)
    assert message in str(caught.value)
    assert "labels.edits.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_with_corrections_is_not_replaced(labels: Path) -> None:
    check_no_edits(labels.parent)
    log(labels, {"op": "drop", "track": 1})
    with pytest.raises(UserError, match="holds corrections"):
        check_no_edits(labels.parent)
