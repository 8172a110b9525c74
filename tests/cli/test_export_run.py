"""`ookd train --export`: from a teacher's labels to an exported model and a report, in one command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ookd.api import load as load_model
from ookd.cli import main
from ookd.clips.opening import open_source, part_of
from ookd.config import FolderData
from ookd.data.formats import load, save_ytvis
from ookd.engine import begun
from ookd.errors import UserError
from ookd.structures import Category, Dataset, Track, Video
from ookd.worlds import World, write

SMALL = {"height": 64, "width": 96, "frames": 5, "crowd": [2, 3]}
FEW = [
    *("run.threads=1", "run.steps=1", "optim.warmup=1", "data.workers=0", "data.batch=2"),
    *("data.augment.sides=[64]", "tracker.short_side=64", "model.start=nano", "optim.lr=1e-7"),
]
CHANGES = [word for change in FEW for word in ("--set", change)]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve labelled videos with a name for their labeller."""
    folder = tmp_path_factory.mktemp("own") / "labels"
    write(World("ytvis-like", "train", 0, 12, **SMALL), folder)
    dataset = load(folder)
    dataset.extra["info"] = {"teacher": {"id": "big/teacher", "licence": "mit"}}
    save_ytvis(dataset, folder / "instances.json", overwrite=True)
    return folder


def command(verb: str, recipe: str, labels: Path, run: Path, *more: str) -> list[str]:
    return [verb, recipe, "--data", str(labels), "--out", str(run), "--device", "cpu", *CHANGES, *more]


def test_labels_become_an_exported_model_and_a_report(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(command("train", "nano", labels, run, "--export", "openvino")) == 0
    told = capsys.readouterr().out
    assert f"{run / 'agreement.html'}: how far to trust it" in told
    assert f"ookd track VIDEO --model {run / 'exported'}" in told
    numbers = json.loads((run / "agreement.json").read_text())
    assert numbers["labelled_by"] == "big/teacher (mit)"
    assert numbers["export"]["size"] == [64, 96]
    assert numbers["videos"] == 2
    held_out = load(labels)
    held_out.videos = held_out.videos[::10]
    assert numbers["all"]["teacher"] == sum(len(video.tracks) for video in held_out.videos)
    student = load_model(run / "exported")
    assert list(student.names) == [category.name for category in held_out.categories]

    held, predicted = tmp_path / "held", tmp_path / "predicted"
    held.mkdir()
    save_ytvis(held_out, held / "instances.json")
    (held / "JPEGImages").symlink_to(labels / "JPEGImages")
    assert main(["predict", str(held), "--model", str(run / "exported"), "--out", str(predicted)]) == 0
    capsys.readouterr()
    assert main(["eval", "--gt", str(held), "--pred", str(predicted), "--agreement", "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert {key: numbers[key] for key in counted} == counted

    page = (run / "agreement.html").read_text()
    assert "big/teacher" in page
    for name, row in counted["per_class"].items():
        assert (f"<td>{name}</td>" in page) == bool(row["teacher"] or row["student"])
    assert page.count("data:image/jpeg") == 2

    begun.remove(run)  # as --overwrite does
    assert not list(run.iterdir())


def test_a_split_for_validation_is_what_is_held_out(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "train").symlink_to(labels)
    write(World("ytvis-like", "val", 0, 1, **SMALL), tmp_path / "my" / "val")
    run = tmp_path / "run"
    assert main(command("train", "nano", tmp_path / "my", run, "--export", "onnx")) == 0
    numbers = json.loads((run / "agreement.json").read_text())
    assert numbers["videos"] == 1
    assert numbers["labelled_by"] == ""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["train", "nano-clip"], "trains a model of whole clips; only online models export"),
        (["train", "nano", "--set", "data.val=null"], "name some in data.val"),
        (["distill", "nano-distill", "--set", "data.val=null"], "name some in data.val"),
    ],
)
def test_what_cannot_end_in_a_report_does_not_begin(
    given: list[str], says: str, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--data", str(labels), "--out", str(tmp_path / "run"), "--export", "openvino"]
    assert main([*given, *place]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_parts_share_no_video_and_every_tenth_with_labels_is_held_out(labels: Path) -> None:
    def ids(part: str) -> list[int]:
        source = open_source(FolderData.model_validate({"kind": "folder", "path": str(labels), "part": part}))
        return [video.id for video in source.dataset.videos]  # type: ignore[attr-defined]

    assert ids("held-out") == [1, 11]
    assert sorted(ids("train") + ids("held-out")) == ids("all") == list(range(1, 13))


def test_videos_without_labels_are_not_what_a_report_is_about() -> None:
    shown = Track(1, 1, [None], [None], [None])
    videos = [Video(n, 8, 8, ["0.png"], [shown] if n in (3, 5) else []) for n in range(1, 7)]
    data = Dataset([Category(1, "cat")], videos)
    assert [video.id for video in part_of(data, "held-out").videos] == [3]
    assert [video.id for video in part_of(data, "train").videos] == [1, 2, 4, 5, 6]
    with pytest.raises(UserError, match="too few to hold one out"):
        part_of(replace(data, videos=videos[:3]), "train")
