"""Finding the objects of a file by counting braces, in blocks of any size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ookd import UserError
from ookd.evaluation import json_index


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_lists_are_found_whatever_the_block(
    block: int, indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_index, "_BLOCK", block)
    entries = [{"video_id": i % 3, "masks": [{"counts": "]\\[a"}, None], "n": i} for i in range(7)]
    document = {"info": {"a": {"b": 1}}, "videos": [{"id": 1}], "annotations": entries, "licenses": []}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document, indent=indent))
    found = json_index.index_json(path)
    assert found.parsed is None
    assert found.read("annotations", [2, 0]) == [entries[2], entries[0]]
    assert found.by_video("annotations") == {0: [0, 3, 6], 1: [1, 4], 2: [2, 5]}
    path.write_text(json.dumps(entries, indent=indent))
    assert json_index.index_json(path).read("", list(range(7))) == entries


def test_a_video_id_deeper_inside_does_not_mislead(tmp_path: Path) -> None:
    entries = [{"extra": {"video_id": 5}, "video_id": 1}, {"extra": {"video_id": 6}}, {"video_id": 2.5}]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(entries))
    assert json_index.index_json(path).by_video("") == {1: [0], None: [1, 2]}


def test_braces_within_strings_fall_back_to_parsing_the_whole(tmp_path: Path) -> None:
    entries = [{"video_id": 1, "name": "}"}, {"video_id": 2, "name": "{"}, {"video_id": 3, "name": "a{b}"}]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(entries))
    assert json_index.index_json(path).read("", [0, 1, 2]) == entries

    entries = [{"video_id": 1, "name": "{"}, {"name": "}"}]  # looks like one object
    path.write_text(json.dumps(entries))
    with pytest.raises(json_index.NotIndexable):
        json_index.index_json(path).read("", [0])
    assert json_index.index_json(path, whole=True).read("", [0, 1]) == entries


def test_nan_as_python_writes_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[{"video_id": 1, "score": NaN}]')
    (entry,) = json_index.index_json(path).read("", [0])
    assert entry["score"] != entry["score"]


@pytest.mark.parametrize("text", ["", "{", "[{]}", "}{", '[{"a":1}', "nonsense", '{"a": [}'])
def test_what_is_no_json_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.json: not JSON"):
        json_index.index_json(path)
