"""`ookd data check`: clean data passes; each kind of damage is one clear line, exit code 2, never a crash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import small_set
from ookd.cli import main
from ookd.data.check import check
from ookd.data.convert import convert
from ookd.data.formats import FORMATS, AnnotationSource, load
from ookd.data.formats.official import official_categories
from ookd.data.video import VideoWriter

Harm = Callable[[Path], None]  # done to the folder of a clean set


def put(place: str, value: Any) -> Harm:
    """Set one place of the document, as in videos.0.width."""
    *way, last = (int(key) if key.isdecimal() else key for key in place.split("."))

    def harm(folder: Path) -> None:
        path = folder / "instances.json"
        document = inner = json.loads(path.read_text())
        for key in way:
            inner = inner[key]
        if value is DROP:
            del inner[last]
        else:
            inner[last] = value
        path.write_text(json.dumps(document))

    return harm


DROP = object()


def file(change: Callable[[bytes], bytes], name: str = "instances.json") -> Harm:
    def harm(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return harm


def frame(change: Callable[[bytes], bytes]) -> Harm:
    return file(change, "JPEGImages/a/00001.png")


def mask(value: Any) -> Harm:
    return put("annotations.0.segmentations.0", value)


def box(*value: Any) -> Harm:
    return put("annotations.0.bboxes.0", list(value))


def runs(*counts: int) -> Harm:
    return put("annotations.0.segmentations.0.counts", list(counts))


def counts(text: str) -> Harm:
    return mask({"size": [small_set.HEIGHT, small_set.WIDTH], "counts": text})


def resized(folder: Path) -> None:
    path = folder / "JPEGImages/a/00001.png"
    Image.open(path).resize((small_set.HEIGHT, small_set.WIDTH)).save(path)


def video(frames: int, keep: float = 1.0) -> Harm:
    """Frame 7 of an MP4 of so many frames, of whose bytes only a part is kept."""

    def harm(folder: Path) -> None:
        path = folder / "JPEGImages/clip.mp4"
        noise = np.random.default_rng(0)
        with VideoWriter(path, 5) as writer:
            for _ in range(frames):
                writer.write(noise.integers(0, 255, (8, 12, 3), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
        put("videos.1.file_names", ["clip.mp4/7"])(folder)

    return harm


OVIS_BACKWARDS = [{"id": 26 - item.id, "name": item.name} for item in official_categories()["ovis"]]
LATIN_1 = '"chât"'.encode("latin-1")

# name: (what is done, the place that the line names, what it says)
CASES: dict[str, tuple[Harm, str, str]] = {
    "zero bytes": (file(lambda _: b""), "", "is empty"),
    "truncated JSON": (file(lambda raw: raw[: len(raw) // 2]), "line 1, column", "is not valid JSON"),
    "a comma too many": (file(lambda raw: raw.replace(b"[", b"[,", 1)), "line 1", "is not valid JSON"),
    "UTF-16": (file(lambda raw: raw.decode().encode("utf-16")), "byte 0", "is not UTF-8"),
    "Latin-1": (file(lambda raw: raw.replace(b'"cat"', LATIN_1)), "byte", "is not UTF-8"),
    "binary": (file(lambda _: bytes(range(256))), "byte", "is not UTF-8"),
    "no object": (file(lambda _: b'"videos"'), "", "must be a JSON object"),
    "endless nesting": (file(lambda _: b'{"videos":' + b"[" * 100_000), "", "nested too deeply"),
    "neither YTVIS nor COCO": (file(lambda _: b'{"clips": []}'), "", "neither 'videos'"),
    "empty set": (put("videos", []), "", "'videos' is empty"),
    "no categories": (put("categories", DROP), "", "'categories' must be a list of objects, not missing"),
    "empty categories": (put("categories", []), "", "'categories' is empty"),
    "videos of the wrong type": (put("videos", {"a": 1}), "", "'videos' must be a list"),
    "a video that is a text": (put("videos.1", "b"), "videos[1]", "must be an object, not 'b'"),
    "annotations of the wrong type": (put("annotations", 3), "", "'annotations' must be a list"),
    "video id twice": (put("videos.1.id", 1), "video 1", "the id 1 is used twice"),
    "annotation id twice": (put("annotations.1.id", 1), "annotation 1", "the id 1 is used twice"),
    "category id twice": (put("categories.1.id", 3), "category 3", "the id 3 is used twice"),
    "class name twice": (put("categories.1.name", "cat"), "category 1", "'cat' is used twice"),
    "no such video": (put("annotations.0.video_id", 77), "annotation 1", "'video_id' 77 is not the id"),
    "no such category": (put("annotations.1.category_id", 9), "annotation 2", "'category_id' 9 is not in"),
    "id as a text": (put("videos.0.id", "1"), "videos[0]", "'id' must be a whole number, not '1'"),
    "id as a fraction": (put("annotations.0.id", 1.5), "annotations[0]", "'id' must be a whole number"),
    "id missing": (put("videos.1.id", DROP), "videos[1]", "'id' must be a whole number, not missing"),
    "renumbered benchmark": (
        put("categories", OVIS_BACKWARDS),
        "",
        "numbers the classes of ovis differently",
    ),
    "width of zero": (put("videos.0.width", 0), "video 1", "'width' is 0; it must be at least 1"),
    "height as a text": (put("videos.0.height", "8"), "video 1", "'height' must be a whole number"),
    "hostile size": (put("videos.0.width", 10**9), "video 1", "more than 268435456 pixels"),
    "length that lies": (put("videos.0.length", 4), "video 1", "'length' is 4, but 'file_names' has 3"),
    "no file names": (put("videos.0.file_names", None), "video 1", "'file_names' must be a list"),
    "a video of no frames": (put("videos.1.file_names", []), "video 2", "'file_names' is empty"),
    "a file name that is none": (put("videos.0.file_names.2", 5), "video 1, frame 2", "must hold texts"),
    "a frame twice": (put("videos.0.file_names.1", "a/00000.png"), "video 1", "'a/00000.png' 2 times"),
    "too few masks": (put("annotations.0.segmentations.0", DROP), "annotation 1", "'segmentations' has 2"),
    "too few boxes": (put("annotations.0.bboxes.0", DROP), "annotation 1", "'bboxes' has 2 entries"),
    "too many areas": (put("annotations.0.areas", [1] * 4), "annotation 1", "'areas' has 4 entries"),
    "occlusion too short": (put("annotations.0.occlusion", ["x"]), "annotation 1", "'occlusion' has 1"),
    "iscrowd of 7": (put("annotations.0.iscrowd", 7), "annotation 1", "'iscrowd' must be 0 or 1, not 7"),
    "box of three": (box(1, 2, 3), "video 1, annotation 1, frame 0", "must be [x, y, width, height]"),
    "box of texts": (box(1, 2, 3, "4"), "video 1, annotation 1, frame 0", "must be [x, y, width, height]"),
    "box of NaN": (box(1, 1, float("nan"), 3), "annotation 1, frame 0", "with finite numbers"),
    "infinite box": (box(1, 1, float("inf"), 3), "annotation 1, frame 0", "with finite numbers"),
    "negative box": (box(1, 1, -4, 3), "annotation 1, frame 0", "has no area"),
    "box outside": (box(11, 1, 4, 3), "annotation 1, frame 0", "extends 3 pixels over the frame"),
    "area as a text": (put("annotations.0.areas.2", "x"), "annotation 1, frame 2", "area 'x'"),
    "negative area": (put("annotations.0.areas.2", -1), "annotation 1, frame 2", "area -1"),
    "box without mask": (put("annotations.1.bboxes.1", [5, 4, 2, 2]), "annotation 2, frame 1", "no mask"),
    "mask without box": (put("annotations.1.bboxes.0", None), "annotation 2, frame 0", "no box"),
    "mask as a number": (mask(5), "annotation 1, frame 0", "must be an RLE, a list of polygons, or null"),
    "mask of another size": (
        put("annotations.0.segmentations.0.size", [9, 12]),
        "frame 0",
        "size is [9, 12]",
    ),
    "mask of no size": (put("annotations.0.segmentations.0.size", DROP), "frame 0", "size is two whole"),
    "runs too short": (runs(3, 4), "annotation 1, frame 0", "do not add up"),
    "negative run": (runs(-4, 100), "annotation 1, frame 0", "run length"),
    "hostile runs": (runs(2**62, 2**62), "annotation 1, frame 0", "do not add up"),
    "empty mask": (runs(96), "annotation 1, frame 0", "the mask is empty"),
    "counts cut off": (counts("o"), "annotation 1, frame 0", "counts break off"),
    "counts of nothing": (counts(""), "annotation 1, frame 0", "counts are empty"),
    "hostile counts": (counts("oooooooo1"), "annotation 1, frame 0", "longer than any frame"),
    "counts not ASCII": (counts("é"), "annotation 1, frame 0", "a character that no run length uses"),
    "polygon of two points": (mask([[1, 1, 2, 2]]), "annotation 1, frame 0", "at least three points"),
    "polygon of texts": (mask([["a"] * 6]), "annotation 1, frame 0", "coordinates are numbers"),
    "polygon far away": (mask([[0, 0, 1e9, 0, 0, 9]]), "annotation 1, frame 0", "coordinates are numbers"),
    "all frames missing": (lambda folder: shutil.rmtree(folder / "JPEGImages"), "", "none of its 4 frames"),
    "missing image": (
        lambda folder: (folder / "JPEGImages/b/00000.png").unlink(),
        "video 2",
        "no such image",
    ),
    "zero-byte image": (frame(lambda _: b""), "video 1, frame 1", "the image file is empty"),
    "truncated image": (frame(lambda raw: raw[:-60]), "video 1, frame 1", "damaged or cut off"),
    "text as image": (frame(lambda _: b"hello"), "video 1, frame 1", "is not an image"),
    "image of another size": (resized, "video 1, frame 1", "is 8 x 12, but its annotations are for 12 x 8"),
    "missing video": (put("videos.1.file_names", ["no.mp4/7"]), "video 2, frame 0", "no such video"),
    "no frame number": (put("videos.1.file_names", ["no.mp4/x"]), "video 2, frame 0", "names no frame"),
    "short video": (video(3), "clip.mp4: video 2, frame 0", "only 3 frames can be read"),
    "zero-byte video": (video(9, keep=0), "clip.mp4: video 2, frame 0", ""),
    "truncated video": (video(9, keep=0.5), "clip.mp4: video 2, frame 0", ""),
}


def test_clean_set_is_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_set.write_set(tmp_path)
    assert main(["data", "check", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: 2 videos, 4 frames, 6 masks, no problems\n"


@pytest.mark.parametrize(("harm", "where", "says"), CASES.values(), ids=CASES)
def test_damage_is_one_line(
    harm: Harm, where: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_set.write_set(tmp_path)
    harm(tmp_path)
    assert main(["data", "check", str(path)]) == 2
    *lines, _ = capsys.readouterr().out.splitlines()
    assert all(line.startswith(str(tmp_path)) for line in lines)
    assert len([line for line in lines if where in line and says in line]) == 1


def test_all_problems_are_found_in_one_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_set.write_set(tmp_path)
    together = (
        "negative area",
        "no such category",
        "length that lies",
        "truncated image",
        "mask without box",
    )
    for name in ("missing image", *together):
        CASES[name][0](tmp_path)
    assert main(["data", "check", str(tmp_path), "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    # the two wrong annotations are left out before their masks and boxes are compared
    assert [problem["what"].split()[0] for problem in problems] == [
        "'length'",
        "area",
        "'category_id'",
        "the",
        "no",
    ]
    assert all(problem.keys() == {"file", "where", "what"} for problem in problems)


def said_of(folder: Path, rectangle: list[int], bbox: list[float], area: float) -> list[str]:
    """What is said of a rectangle [x, y, width, height] in a frame of 100 x 100 with this box and area."""
    x, y, width, height = rectangle
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": bbox,
        "area": area,
        "segmentation": [polygon],
    }
    document = {
        "images": [{"id": 1, "width": 100, "height": 100, "file_name": "x.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [annotation],
    }
    (folder / "instances.json").write_text(json.dumps(document))
    Image.new("L", (100, 100)).save(folder / "x.png")
    return [
        problem.what
        for problem in check([AnnotationSource(FORMATS["json"], folder / "instances.json")]).problems
    ]


def test_boxes_and_areas_are_held_against_masks(tmp_path: Path) -> None:
    assert said_of(tmp_path, [40, 30, 40, 60], [40, 30, 40, 60], 2400) == []
    (shifted,) = said_of(tmp_path, [40, 30, 40, 60], [0, 0, 40, 60], 2400)
    assert shifted.startswith(
        "box [0, 0, 40, 60] does not fit its mask, whose box is [40.0, 30.0, 40.0, 60.0]"
    )
    (area,) = said_of(tmp_path, [40, 30, 40, 60], [40, 30, 40, 60], 100)
    assert area == "area 100 does not fit its mask of 2400 pixels"


@pytest.mark.parametrize("rectangle", [[40, 30, 40, 60], [10, 10, 30, 30]])
def test_two_corners_are_recognised(rectangle: list[int], tmp_path: Path) -> None:
    """Whether, taken for [x, y, width, height], they extend over the frame or not."""
    x, y, width, height = rectangle
    (what,) = said_of(tmp_path, rectangle, [x, y, x + width, y + height], width * height)
    assert what.endswith("it looks like two corners, but must be [x, y, width, height]")


def test_quick_looks_at_headers_only(tmp_path: Path) -> None:
    path = small_set.write_set(tmp_path)
    CASES["truncated image"][0](tmp_path)
    assert main(["data", "check", str(path)]) == 2
    assert main(["data", "check", str(path), "--quick"]) == 0


def as_format(to: str, folder: Path) -> Path:
    convert(load(small_set.write_set(folder / "source")), folder / to, to)
    return folder / to


def write(name: str, content: bytes | str) -> Harm:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data) and None


def remove(name: str) -> Harm:
    return lambda folder: (folder / name).unlink()


def picture(name: str, mode: str, width: int = small_set.WIDTH) -> Harm:
    return lambda folder: Image.new(mode, (width, small_set.HEIGHT)).save(folder / name)


LABEL = "Annotations/a/00001.png"
LINES = "labels/a/00000.txt"
FOLDER_CASES: dict[str, tuple[str, Harm, str, str]] = {
    "zero-byte label picture": ("davis", write(LABEL, b""), LABEL, "is empty"),
    "text as label image": ("davis", write(LABEL, "x"), LABEL, "not a readable image"),
    "colours as labels": ("davis", picture(LABEL, "RGB"), LABEL, "labels need a palette"),
    "label picture of another size": ("davis", picture(LABEL, "P", 5), LABEL, "is 5 x 8, but its video"),
    "label without image": ("davis", remove("JPEGImages/a/00001.png"), "video 2, frame 1", "no such image"),
    "object without category": (
        "davis",
        write("meta.json", '{"videos": {"a": {"objects": {}}, "00000": {"objects": {}}}}'),
        "meta.json: video 00000",
        "names no category for object 1",
    ),
    "wrong meta.json": ("davis", write("meta.json", '{"videos": []}'), "meta.json", "as in YouTube-VOS"),
    "truncated meta.json": ("davis", write("meta.json", '{"vid'), "meta.json", "is not valid JSON"),
    "damaged 16-bit picture": ("mots", write("instances/a/00001.png", "x"), "00001.png", "not a readable"),
    "wrong classes.txt": (
        "mots",
        write("classes.txt", "car\n"),
        "classes.txt: line 1",
        "a number and a name",
    ),
    "text in labels": ("yolo", write(LINES, "cat 0 0 1 0 1 1\n"), "00000.txt: line 1", "a class number"),
    "unknown class": ("yolo", write(LINES, "2 0 0 1 0 1 1\n"), "line 1", "class 2 is not one of the 2"),
    "box for a polygon": ("yolo", write(LINES, "0 0.5 0.5 1 1\n"), "line 1", "is a box"),
    "odd coordinates": ("yolo", write(LINES, "0 0 0 1 0 1 1 1\n"), "line 1", "has 7 coordinates"),
    "pixels for shares": ("yolo", write(LINES, "0 0 0 9 0 9 9\n"), "line 1", "from 0 to 1"),
    "NaN in labels": ("yolo", write(LINES, "0 0 0 nan 0 1 1\n"), "line 1", "from 0 to 1"),
    "labelled image that is none": ("yolo", write("images/a/00000.png", "x"), "00000.png", "not an image"),
}


@pytest.mark.parametrize(("to", "harm", "where", "says"), FOLDER_CASES.values(), ids=FOLDER_CASES)
def test_damage_of_folders_is_one_line(
    to: str,
    harm: Harm,
    where: str,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = as_format(to, tmp_path)
    split = ["--split", "train"] if to == "yolo" else []
    assert main(["data", "check", str(folder), *split]) == 0
    harm(folder)
    capsys.readouterr()
    assert main(["data", "check", str(folder), *split]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if where in line and says in line]) == 1
