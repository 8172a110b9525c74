"""The HTML report: whole in one file, with every section, and pictures where frames are at hand."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

import ookd
from evaluation.scenes import H, W, random_world, truth, tube
from ookd.reports.page import write_page
from ookd.structures import Dataset, TrackResult


class Tags(HTMLParser):
    """Checks that tags nest and gathers what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "path", "rect", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def read(path: Path) -> Tags:
    tags = Tags()
    text = path.read_text().replace('stroke="var(--line)"/>', 'stroke="var(--line)">').replace("/>", ">")
    tags.feed(text)
    assert tags.open == []
    return tags


def test_one_file_with_every_section_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    dataset, results = random_world(2, videos=5)
    write_page(ookd.evaluate(dataset, results), tmp_path / "new" / "report.html")
    tags = read(tmp_path / "new" / "report.html")
    assert tags.sources == []
    expected = {
        "Precision and recall",
        "Classes",
        "Tracking",
        "Returns and lost ids",
        "AP by kind of track",
        "All classes in numbers",
    }
    assert expected <= set(tags.headings)
    assert "Worst tracks" not in tags.headings  # no frames at hand
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["report.html"]


def with_frames(dataset: Dataset, folder: Path) -> None:
    for video in dataset.videos:
        for name in video.file_names:
            path = folder / Path(name).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((H, W, 3), 90, np.uint8))
        video.file_names = [str(Path(name).with_suffix(".png")) for name in video.file_names]


def test_worst_tracks_are_shown_with_truth_and_prediction(tmp_path: Path) -> None:
    dataset, results = random_world(2, videos=5)
    with_frames(dataset, tmp_path)
    report = ookd.evaluate(dataset, results)
    write_page(report, tmp_path / "report.html", tmp_path)
    tags = read(tmp_path / "report.html")
    assert "Worst tracks" in tags.headings
    assert len(tags.sources) == 8
    assert all(source.startswith("data:image/jpeg;base64,") for source in tags.sources)


@pytest.mark.parametrize(
    ("predictions", "said"),
    [
        (
            [(2, 0.08, 20), (1, 0.3, 20), (1, 0.85, 19)],
            "class1 0.85, IoU 0.47",
        ),  # of those alike its own class
        (
            [(2, 0.08, 20), (2, 0.9, 20), (1, 0.85, 10)],
            "class2 0.90, IoU 0.50",
        ),  # another class, but where it is
        ([(2, 0.9, 1), (1, 0.9, 0)], "class2 0.90, IoU 0.03"),  # its own class, but elsewhere
    ],
)
def test_the_best_prediction_is_the_one_a_reader_would_name(
    predictions: list[tuple[int, float, int]], said: str, tmp_path: Path
) -> None:
    """A true track 40 wide; predictions of a class and score, so wide of it."""
    dataset = truth([(1, 1, tube(*[(0, 0, 40, 20)] * 4))], videos=1)
    with_frames(dataset, tmp_path)
    results = [
        TrackResult(1, category, score, tube(*[(0, 0, width, 20) if width else (50, 0, 60, 20)] * 4))
        for category, score, width in predictions
    ]
    write_page(ookd.evaluate(dataset, results), tmp_path / "report.html", tmp_path)
    assert f"best prediction: {said}" in (tmp_path / "report.html").read_text()


def test_frames_that_are_not_where_they_should_be_are_told(tmp_path: Path) -> None:
    dataset, results = random_world(2, videos=5)
    with pytest.raises(ookd.UserError):
        write_page(ookd.evaluate(dataset, results), tmp_path / "report.html", tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_names_from_the_data_cannot_write_into_the_page(tmp_path: Path) -> None:
    dataset, results = random_world(2)
    evil = "<script>alert(1)</script>"
    dataset.categories[0] = type(dataset.categories[0])(dataset.categories[0].id, evil)
    write_page(ookd.evaluate(dataset, results), tmp_path / "report.html")
    assert "<script" not in (tmp_path / "report.html").read_text()


def test_nothing_to_score_is_a_page_too(tmp_path: Path) -> None:
    dataset, _ = random_world(2)
    for video in dataset.videos:
        video.tracks = []
    write_page(ookd.evaluate(dataset, []), tmp_path / "report.html")
    read(tmp_path / "report.html")
