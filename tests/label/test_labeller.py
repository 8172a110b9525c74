"""Training sets that a model made from videos without annotation."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ookd.cli import main
from ookd.clips.opening import videos_of
from ookd.clips.sources import DatasetClips
from ookd.data import frames as room
from ookd.data.confidence import is_doubtful, is_sure
from ookd.data.formats import load
from ookd.errors import UserError
from ookd.label.labeller import LabelThresholds, annotated, cut_where_unsure, plausible
from ookd.label.saved import SavedLabeller
from ookd.models import zoo
from ookd.models.families import preset
from ookd.models.protocols import OfflineModel
from ookd.models.zoo import Saved
from ookd.structures import Category, ClipQueries, Rle, TrackResult, Video
from ookd.tracking.recordings import recordings
from ookd.tracking.result_folder import ResultFolder
from ookd.worlds import World
from ookd.worlds.write import write
from toy_family import toy_family


class Halves(OfflineModel):
    """An offline model that sees three things in every clip of 64 x 96: the left half in all frames (class 1,
    sure), the right half in the first two frames (class 0, sure), the top in all (class 0, less sure).
    """

    def __init__(self) -> None:
        super().__init__()
        self.config = HALVES
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, clip: Tensor, pad: Tensor) -> ClipQueries:
        t, h, w = clip.shape[1], clip.shape[3] // 4, clip.shape[4] // 4
        tubes = torch.full((1, 3, t, h, w), -9.0)
        tubes[0, 0, :, :, : w // 2] = 9
        tubes[0, 1, :2, :, w // 2 :] = 9
        tubes[0, 2, :, : h // 4] = 9
        logits = torch.tensor([[[-9.0, 2.2], [2.2, -9.0], [0.4, -9.0]]])  # 0.9, 0.9, 0.6
        features = torch.zeros(1, 3, 4)
        return ClipQueries(logits, None, features, features.unsqueeze(1), lambda s: tubes[:, s[0]])


HALVES = toy_family(Halves, 2)


def saved() -> Saved:
    return Saved(Halves().eval(), ["cat", "dog"])


@pytest.fixture
def world(tmp_path: Path) -> Path:
    source = World("ytvis-like", videos=2, height=64, width=96, frames=5, crowd=[2, 2])
    write(source, tmp_path / "world")
    return tmp_path / "world"


def labelled(data: Path, **rule: Any) -> list[Video]:
    dataset, labeller, thresholds = videos_of(data), SavedLabeller(saved(), "halves"), LabelThresholds(**rule)
    by_id = {video.id: video for video in recordings(dataset)}
    return annotated(
        dataset,
        labeller.names,
        lambda id: plausible(labeller.tracks(by_id[id]), labeller.names, thresholds),
        thresholds,
    ).videos


def taken(data: Path, **rule: Any) -> list[list[tuple[int, int]]]:
    """(category, frames in view) of the tracks of each video."""
    return [
        [
            (track.category_id, sum(box is not None for box in track.boxes_xywh))
            for track in video.tracks
            if not is_doubtful(track)
        ]
        for video in labelled(data, **rule)
    ]


def test_thresholds_decide_what_is_taken(world: Path) -> None:
    assert taken(world, score=0.5, frames=1) == [[(2, 5), (1, 2), (1, 5)]] * 2
    assert taken(world, score=0.5, frames=3) == [[(2, 5), (1, 5)]] * 2
    assert taken(world, score=0.8, frames=1) == [[(2, 5), (1, 2)]] * 2
    assert taken(world, score=0.8, of_class={"cat": 0.55}, frames=3) == [[(2, 5), (1, 5)]] * 2
    with pytest.raises(UserError, match="no class bird; it has cat, dog"):
        LabelThresholds(of_class={"bird": 0.1}).check(["cat", "dog"])


def test_tracks_say_where_things_are_and_how_sure_the_model_was(world: Path) -> None:
    track = labelled(world)[0].tracks[0]
    assert track.boxes_xywh[0] == [0, 0, 48, 64]
    assert track.areas[0] == 48 * 64
    assert track.extra["score"] == pytest.approx(0.9002, abs=1e-3)
    assert track.extra["scores"][0] == pytest.approx(0.9002, abs=1e-3)  # all its pixels are sure
    assert is_sure(track, 0)
    assert labelled(world)[0].tracks[1].extra["scores"][2:] == [None] * 3  # out of view


def test_what_misses_the_thresholds_is_doubtful_and_no_object_to_learn(world: Path) -> None:
    video = labelled(world, score=0.8, frames=3)[0]
    assert [track.iscrowd for track in video.tracks] == [False, True, True]
    source = DatasetClips(annotated_set(world, score=0.8, frames=3))
    assert source.labels(0) == [1]


def annotated_set(data: Path, **rule: Any) -> Any:
    dataset = videos_of(data)
    dataset.videos = labelled(data, **rule)
    dataset.categories = [Category(1, "cat"), Category(2, "dog")]
    return dataset


def track_of(*scores: float | None) -> TrackResult:
    masks: list[Rle | None] = [None if s is None else {"size": [1, 1], "counts": "01"} for s in scores]
    return TrackResult(1, 1, 0.5, masks, list(scores))


def test_a_track_is_cut_after_enough_unsure_frames() -> None:
    two = track_of(0.9, 0.7, 0.1, None, 0.1, 0.1, 0.6, 0.8)
    first, second = cut_where_unsure(two, sure=0.5, unsure=3)
    assert first.frame_scores == [0.9, 0.7, 0.1, None, 0.1, 0.1, None, None]
    assert first.score == pytest.approx(0.8)
    assert second.frame_scores == [None] * 6 + [0.6, 0.8]
    assert second.segmentations[:6] == [None] * 6
    assert cut_where_unsure(two, sure=0.5, unsure=4) == [two]
    at_the_ends = track_of(0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1)
    assert cut_where_unsure(at_the_ends, sure=0.5, unsure=3) == [at_the_ends]


def test_own_videos_and_image_folders(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    (folder / "walk").mkdir(parents=True)
    for frame in range(3):
        cv2.imwrite(str(folder / "walk" / f"{frame}.png"), np.full((64, 96, 3), 50 * frame, np.uint8))
    clip = cv2.VideoWriter(str(folder / "street.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for frame in range(4):
        clip.write(np.full((64, 96, 3), 50 * frame, np.uint8))
    clip.release()
    (folder / "notes.txt").write_text("not a video")
    dataset = videos_of(folder)
    assert [(video.extra["name"], video.length) for video in dataset.videos] == [("street", 4), ("walk", 3)]
    assert taken(folder, score=0.8, frames=3) == [[(2, 4)], [(2, 3)]]


SMALL = {"width": 32, "mask_width": 16, "embed": 16, "heads": 4, "hidden": 64, "queries": 6}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    names = list(World("ytvis-like").names)
    clip: Any = zoo.build(preset("nano-clip", classes=len(names), clip_queries=4, **SMALL))
    torch.nn.init.constant_(clip.presence.bias, 5.0)
    torch.nn.init.constant_(clip.classify.bias, 1.0)
    zoo.save_pretrained(clip, tmp_path / "teacher", names)
    return tmp_path / "teacher"


def command(world: Path, model: Path, out: Path) -> list[str]:
    return [
        "label",
        str(world),
        "--model",
        str(model),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--score",
        "0.1",
    ]


def test_the_folder_is_read_as_training_data(
    world: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels"
    call = command(world, model, out)
    assert main([*call, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["videos"] == 2
    source = DatasetClips(load(out))
    assert source.names == list(World("ytvis-like").names)
    assert sum(source.class_counts()) == summary["tracks"] > 0
    clip = source.clip(0, [0, 3])
    assert clip.images[1].shape == (64, 96, 3)
    assert clip.masks[0].any()
    assert main(call) == 2
    assert "exists" in capsys.readouterr().err
    assert main([*call, "--overwrite"]) == 0
    (out / "instances.edits.jsonl").write_text('{"op": "done", "video": 1, "done": true}\n')
    assert main([*call, "--overwrite"]) == 2
    assert "holds corrections" in capsys.readouterr().err


def test_a_torch_built_for_a_gpu_that_is_not_there(
    world: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    call = [word for word in command(world, model, tmp_path / "labels") if word not in ("--device", "cpu")]
    assert main(call) == 0


def test_a_model_that_is_sure_of_nothing_says_so(
    world: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["label", str(world), "--model", str(model), "--out", str(tmp_path / "o"), "--device", "cpu"]
    assert main([*call, "--score", "1"]) == 2
    assert "no track passes" in capsys.readouterr().err
    assert not list(tmp_path.glob("o*"))
    assert main([*call, "--score-of", "cat"]) == 2
    assert "cat=0.7" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [3, 9])
def test_a_stopped_run_goes_on_to_the_same_labels(
    world: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Two videos of five frames, stopped within the first and within the second."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert main(command(world, model, whole)) == 0
    read, seen = room.read_frame, 0

    def reader(*given: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == stop + 1:
            raise KeyboardInterrupt
        return read(*given)

    monkeypatch.setattr(room, "read_frame", reader)
    assert main(command(world, model, out)) == 130
    assert not out.exists()
    seen = 100
    assert main(command(world, model, out)) == 0
    assert seen - 100 == 10 - stop // 5 * 5  # what was done is not looked at again
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out"]


def test_killed_when_the_labels_were_whole_it_is_done(
    world: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(out: Path) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ResultFolder, "remove", lambda _: sys.exit(9))
            assert main(command(world, model, out)) == 9
        return out.with_name(f"{out.name}.begun")

    out = tmp_path / "out"
    begun = killed(out)
    before = (out / "instances.json").read_bytes()
    for left in (list(begun.rglob("*")), [begun / "videos", begun / "run.json"], [begun / "videos"]):
        for path in begun.rglob("*"):
            if path.is_file() and path not in left:
                path.unlink()
        assert main(command(world, model, out)) == 0
        assert (out / "instances.json").read_bytes() == before
        assert not begun.exists()
        shutil.rmtree(out)
        begun = killed(out)

    shutil.rmtree(out)
    begun = killed(out)
    (out / "instances.json").write_text("{}")  # somebody else's
    assert main(command(world, model, out)) == 2
    assert "exists" in capsys.readouterr().err
    assert begun.is_dir()


def test_labels_of_another_rule_are_not_mixed_in(
    world: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = tmp_path / "out.begun"
    ResultFolder(begun, {"teacher": {"model": "another"}, "sure": [0.5, None]}, overwrite=False)
    call = command(world, model, tmp_path / "out")
    assert main(call) == 2
    assert "started with another teacher and data and score" in capsys.readouterr().err
    assert main([*call, "--overwrite"]) == 0
    assert not begun.exists()
