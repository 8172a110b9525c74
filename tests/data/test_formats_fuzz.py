"""Whatever the annotations hold, reading ends in a data set or in one line, and checking never fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import small_set
from ookd.clips.stats import describe
from ookd.data import rle
from ookd.data.check import check
from ookd.data.formats import FORMATS, AnnotationSource, coco, load, ytvis
from ookd.errors import UserError
from stress.odd import json_values, places

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ODD_NUMBERS = st.sampled_from([0, 1, 2, 3, -1, 1.5, 2**31, 2**63, 10**30, float("nan"), float("inf")])
ODD_TEXTS = st.sampled_from(
    ["", "a/00000.png", "../x", "\0", "\ud800", "no.mp4/3", "x.zip/y", "é", "." * 5000]
)
KEYS = st.sampled_from(["id", "size", "counts", "track_id", "attributes", "bbox"]) | st.text(max_size=3)
VALUES = json_values(ODD_NUMBERS, ODD_TEXTS, KEYS)


def as_coco() -> Any:
    document = small_set.document()
    images = [
        {"id": 10 * video["id"] + frame, "file_name": name, "width": 12, "height": 8}
        for video in document["videos"]
        for frame, name in enumerate(video["file_names"])
    ]
    annotations = [
        {
            "id": 10 * track["id"] + frame,
            "image_id": 10 * track["video_id"] + frame,
            "category_id": track["category_id"],
            "segmentation": mask,
            "bbox": track["bboxes"][frame],
            "area": track["areas"][frame],
            "track_id": track["id"],
        }
        for track in document["annotations"]
        for frame, mask in enumerate(track["segmentations"])
        if mask is not None
    ]
    return {"images": images, "annotations": annotations, "categories": document["categories"]}


DOCUMENTS = {"ytvis": small_set.document, "coco": as_coco}


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A sound document in which up to three places hold something else or nothing."""
    document = DOCUMENTS[draw(st.sampled_from(sorted(DOCUMENTS)))]()
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(places(document)))
        if draw(st.booleans()) or isinstance(container, list):
            container[key] = draw(VALUES)
        else:
            del container[key]
        if not places(document):
            break
    return document


def survives(path: Path, folder: Path) -> None:
    problems = check([AnnotationSource(FORMATS["json"], path, frames=folder / "JPEGImages")]).problems
    for problem in problems:
        assert "\n" not in str(problem)
        str(problem).encode("utf-8")
    try:
        dataset = load(path)
    except UserError:
        assert problems
        return
    describe(dataset)
    for video in dataset.videos if not problems else ():
        for track in video.tracks:
            for mask in track.segmentations:
                if mask is not None:
                    rle.decode(rle.from_any(mask, video.height, video.width))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    small_set.write_set(folder)
    return folder


@QUICK
@given(document=damaged())
def test_damaged_documents(document: Any, folder: Path) -> None:
    path = folder / "fuzzed.json"
    path.write_text(json.dumps(document))
    survives(path, folder)


@QUICK
@given(
    document=VALUES
    | st.dictionaries(st.sampled_from(["videos", "images", "annotations", "categories"]), VALUES, max_size=4)
)
def test_any_document(document: Any, folder: Path) -> None:
    path = folder / "fuzzed.json"
    path.write_text(json.dumps(document))
    survives(path, folder)


@QUICK
@given(at=st.integers(0, 3000), bits=st.integers(1, 255), keep=st.integers(0, 3000))
def test_flipped_and_missing_bytes(at: int, bits: int, keep: int, folder: Path) -> None:
    raw = bytearray(orjson.dumps(small_set.document()))
    if at < len(raw):
        raw[at] ^= bits
    path = folder / "fuzzed.json"
    path.write_bytes(raw[:keep] if keep > len(raw) // 2 else raw)
    survives(path, folder)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_what_is_fuzzed_is_sound_before(kind: str, folder: Path) -> None:
    path = folder / "fuzzed.json"
    path.write_text(json.dumps(DOCUMENTS[kind]()))
    assert check([AnnotationSource(FORMATS["json"], path, frames=folder / "JPEGImages")]).problems == []
    write = {"ytvis": ytvis.to_document, "coco": coco.to_document}[kind]
    assert len(write(load(path))["annotations"]) == len(DOCUMENTS[kind]()["annotations"])
