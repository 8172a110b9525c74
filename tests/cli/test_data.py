"""`ookd data` as a user meets it: answers, messages, exit codes, files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

import small_set
from ookd.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["data", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_set.write_set(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def splits(folder: Path) -> Path:
    shutil.copy(folder / "instances.json", folder / "instances_val.json")
    (folder / "instances.json").rename(folder / "instances_train.json")
    return folder


def test_check_looks_at_all_splits_or_one(splits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "4 videos, 8 frames, 12 masks, no problems" in run(capsys, "check", splits)[1]
    assert "2 videos, 4 frames, 6 masks" in run(capsys, "check", splits, "--split", "val")[1]
    code, out, err = run(capsys, "check", splits, "--split", "test")
    assert (code, out) == (2, "")
    assert err == f"error: {splits}: has no split 'test'; it has train, val\n"


def test_check_with_frames_elsewhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "JPEGImages").rename(folder.parent / "elsewhere")
    code, out, _ = run(capsys, "check", folder)
    assert code == 2
    assert "none of its 4 frames" in out
    assert run(capsys, "check", folder, "--frames", folder.parent / "elsewhere")[0] == 0


def test_real_sets_are_clean(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", real_data / "davis240", "--quick", "--json")
    checked = json.loads(out)
    assert (code, checked["problems"]) == (0, [])
    assert [checked[key] for key in ("sets", "videos", "frames", "tracks", "masks")] == [
        2,
        50,
        1734,
        50,
        1725,
    ]
    code, out, _ = run(capsys, "check", real_data / "coco128", "--json")
    assert (code, json.loads(out)["problems"], json.loads(out)["masks"]) == (0, [], 900)


def test_stats_as_table_and_as_json(splits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "stats", splits)
    assert code == 0
    assert out.count("2, 4 frames") == 2
    described = json.loads(run(capsys, "stats", splits, "--split", "val", "--minor-paste", "--json")[1])
    assert [item["name"] for item in described] == ["val"]
    assert [item["tracks"] for item in described[0]["classes"]] == [1, 2]
    assert len(described[0]["with_minor_paste"]) == 2


def test_plot_is_not_overwritten_unasked(splits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = splits.parent / "plot.png"
    assert run(capsys, "stats", splits, "--plot", plot)[0] == 0
    assert {path.name for path in plot.parent.glob("plot*.png")} == {"plot-train.png", "plot-val.png"}
    assert run(capsys, "stats", splits, "--split", "val", "--plot", plot)[0] == 0
    plot.write_text("precious")
    assert run(capsys, "stats", splits, "--split", "val", "--plot", plot)[0] == 2
    assert plot.read_text() == "precious"


@pytest.mark.parametrize("to", ["ytvis", "coco", "davis", "mots", "yolo"])
def test_convert_makes_folders_that_are_clean(
    to: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "out"
    code, answer, err = run(capsys, "convert", folder, "--to", to, "--out", out, "--json")
    assert code == 0
    assert json.loads(answer)["format"] == to
    assert ("warning" in err) == bool(json.loads(answer)["lost"]) == (to == "yolo")
    shutil.rmtree(folder)  # what was written stands alone
    split = ["--split", "train"] if to == "yolo" else []  # its data.yaml names the same images as val, too
    code, answer, _ = run(capsys, "check", out, *split, "--json")
    assert (code, json.loads(answer)["masks"]) == (0, 6)


def test_convert_annotations_only_refers_to_the_frames(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "out"
    assert run(capsys, "convert", folder, "--to", "coco", "--out", out, "--annotations-only")[0] == 0
    assert sorted(path.name for path in out.iterdir()) == ["dataset.yaml", "instances.json"]
    assert run(capsys, "check", out)[0] == 0


@pytest.mark.parametrize("to", ["davis", "mots", "yolo"])
def test_convert_names_a_mask_that_cannot_be_read(
    to: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = small_set.document()
    content["annotations"][0]["segmentations"][1]["counts"][0] = -3
    (folder / "instances.json").write_text(json.dumps(content))
    code, _, err = run(capsys, "convert", folder, "--to", to, "--out", folder.parent / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "video 1, frame 1, track 1: a run length is a whole number of at least 0" in err
    assert not (folder.parent / "out").exists()


def test_convert_refuses_what_it_does_not_know(splits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = splits.parent / "out"
    assert (
        "unknown format 'voc'"
        in run(capsys, "convert", splits, "--split", "val", "--to", "voc", "--out", out)[2]
    )
    assert "holds several sets" in run(capsys, "convert", splits, "--to", "coco", "--out", out)[2]
    assert not out.exists()


def test_nothing_is_written_over_what_is_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even if asked, and not even where frames and annotations lie apart."""
    elsewhere = folder.parent / "elsewhere"
    (folder / "JPEGImages").rename(elsewhere)
    (folder / "dataset.yaml").write_text("train: {annotations: instances.json, frames: ../elsewhere}")
    before = (folder / "instances.json").read_bytes()
    for out in (folder, folder.parent):
        for arguments in (
            ["convert", folder, "--to", "coco", "--out", out, "--overwrite"],
            ["synth", "--composite", folder, "--out", out, "--overwrite"],
        ):
            code, _, err = run(capsys, *arguments)
            assert code == 2
            assert "holds the data that is read" in err or "not a folder that this command wrote" in err
    assert (folder / "instances.json").read_bytes() == before
    assert len(list(elsewhere.rglob("*.png"))) == 4


SMALL = ["--set", "height=48", "--set", "width=64", "--set", "frames=4", "--set", "crowd=[1, 2]"]


def test_synth_writes_the_same_clean_set_for_a_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in ("one", "two"):
        code, answer, _ = run(capsys, "synth", "--out", tmp_path / out, "--videos", 2, *SMALL, "--json")
        assert (code, json.loads(answer)["recipe"]["world"]["crowd"]) == (0, [1, 2])
    assert "2 videos, 8 frames" in run(capsys, "check", tmp_path / "one")[1]
    one, two = (tmp_path / out / "instances.json" for out in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert run(capsys, "synth", "--out", tmp_path / "one", "--videos", 1, *SMALL)[0] == 2
    assert one.read_bytes() == two.read_bytes()
    assert run(capsys, "synth", "--out", tmp_path / "one", "--videos", 1, *SMALL, "--overwrite")[0] == 0
    assert "1 video, 4 frames" in run(capsys, "check", tmp_path / "one")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "frames"], "write KEY=VALUE"),
        (["--set", "frame=4"], "frames"),
        (["--set", "appearance=7"], "appearance"),
        (["--preset", "nonsense"], "ytvis-like"),
        (["--split", "nonsense"], "train"),
    ],
)
def test_synth_says_what_would_be_right(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "synth", "--out", tmp_path / "out", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_composite_uses_real_tracks(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--composite", real_data / "davis240", "--split", "val"]
    assert run(capsys, "synth", *data, "--out", tmp_path / "out", "--videos", 1, "--set", "frames=3")[0] == 0
    assert run(capsys, "check", tmp_path / "out")[0] == 0


def test_preview_draws_a_sheet_and_videos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    code, answer, _ = run(capsys, "preview", folder, "--out", out, "--mp4", "--json")
    assert (code, json.loads(answer)["files"]) == (0, ["00000.mp4", "a.mp4", "sheet.png"])
    assert Image.open(out / "sheet.png").width > 1000
    with av.open(str(out / "a.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 3
    assert run(capsys, "preview", folder, "--out", out)[0] == 2
    assert run(capsys, "preview", folder, "--out", out, "--minor-paste", "--overwrite")[0] == 0


@pytest.mark.parametrize("verb", ["check", "stats", "convert", "synth", "preview"])
def test_every_sub_command_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert "--json" in out


def test_missing_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments: Any
    for arguments in (
        ["check"],
        ["stats"],
        ["convert", "--to", "coco", "--out", tmp_path / "out"],
        ["preview", "--out", tmp_path / "out"],
    ):
        code, out, err = run(capsys, arguments[0], tmp_path / "nowhere", *arguments[1:])
        assert (code, out, err) == (2, "", f"error: {tmp_path / 'nowhere'}: no such file or folder\n")
