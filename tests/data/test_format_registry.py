"""A format that is registered is found, read, checked and written like those that come with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import small_set
from ookd.cli import main
from ookd.data import rle
from ookd.data.check import check
from ookd.data.convert import convert
from ookd.data.formats import FORMATS, AnnotationSource, Format, Output, Problem, Report, find, load
from ookd.data.frames import copy_frames
from ookd.errors import UserError
from ookd.structures import Category, Dataset, Track, Video

# A folder with `boxes.txt`: an image, a class and the left, top, right and bottom of a filled box a line.


def find_boxes(path: Path) -> list[AnnotationSource]:
    return [AnnotationSource(BOXES, path)] if (path / "boxes.txt").is_file() else []


def read_boxes(source: AnnotationSource, report: Report) -> Dataset | None:
    videos: dict[str, Video] = {}
    classes: dict[str, Category] = {}
    for number, line in enumerate((source.path / "boxes.txt").read_text().splitlines(), 1):
        name, label, *corners = line.split()
        if len(corners) != 4:
            report(Problem(source.path / "boxes.txt", f"line {number}", "must have four numbers"))
            continue
        with Image.open(source.path / name) as image:
            width, height = image.size
        video = videos.setdefault(name, Video(len(videos) + 1, width, height, [name]))
        category = classes.setdefault(label, Category(len(classes) + 1, label))
        left, top, right, bottom = map(int, corners)
        mask = np.zeros((height, width), bool)
        mask[top:bottom, left:right] = True
        box = [float(left), float(top), float(right - left), float(bottom - top)]
        video.tracks.append(Track(number, category.id, [rle.encode(mask)], [box], [int(mask.sum())]))
    return Dataset(list(classes.values()), list(videos.values()), source.path, source.path.name)


def write_boxes(dataset: Dataset, videos: object, output: Output) -> list[str]:
    names = {category.id: category.name for category in dataset.categories}
    lines = []
    for name, video in videos:  # type: ignore[attr-defined]
        stems = [f"{name}-{frame}" for frame in range(video.length)]
        files = copy_frames(dataset, video, output.folder, stems)
        for track in video.tracks:
            for file, box in zip(files, track.boxes_xywh, strict=True):
                if box is not None:
                    x, y, w, h = map(int, box)
                    lines.append(f"{file} {names[track.category_id]} {x} {y} {x + w} {y + h}\n")
    (output.folder / "boxes.txt").write_text("".join(lines))
    return ["masks: boxes are kept"]


BOXES = Format("boxes", "a folder with boxes.txt", find_boxes, read_boxes, write_boxes, "boxes.txt")


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "boxes", BOXES)


@pytest.mark.usefixtures("boxes")
def test_a_registered_format_goes_all_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = small_set.write_set(tmp_path / "source").parent
    out = tmp_path / "out"
    assert main(["data", "convert", str(source), "--to", "boxes", "--out", str(out)]) == 0
    assert "warning: not held by boxes: masks: boxes are kept" in capsys.readouterr().err
    assert [found.format.name for found in find(out)] == ["boxes"]
    assert main(["data", "check", str(out)]) == 0
    original, dataset = load(source), load(out)
    assert {c.name for c in dataset.categories} == {c.name for c in original.categories}
    boxes = [box for video in original.videos for t in video.tracks for box in t.boxes_xywh if box]
    assert sorted(t.boxes_xywh[0] for v in dataset.videos for t in v.tracks) == sorted(boxes)  # type: ignore[type-var]
    assert convert(dataset, out / "again", "ytvis") == []
    assert main(["data", "convert", str(source), "--to", "boxes", "--out", str(out), "--overwrite"]) == 0


@pytest.mark.usefixtures("boxes")
def test_its_problems_are_reported(tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("a.png cat 1 2 3\n")
    (problem,) = check(find(tmp_path)).problems
    assert problem.where == "line 1"
    with pytest.raises(UserError, match="must have four numbers"):
        load(tmp_path)


def test_a_format_that_is_not_registered_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("")
    with pytest.raises(UserError, match=r"holds no annotations; expected .*YTVIS.*DAVIS.*MOTS"):
        load(tmp_path)
