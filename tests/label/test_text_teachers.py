"""SAM 3, and text detectors with SAM 2, with random weights and the folders that `transformers` writes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from label import tiny_teachers
from ookd.cli import main
from ookd.clips.opening import videos_of
from ookd.data import rle
from ookd.data.formats import load
from ookd.data.video.source import Span
from ookd.errors import UserError
from ookd.label import follow as following
from ookd.label import sam3 as sam3_room
from ookd.label.borrowed import borrowed_folder
from ookd.label.finders import Finds, best
from ookd.label.mask_cleaning import MaskKernels
from ookd.label.opening import LabellerChoice, open_labeller
from ookd.label.prompts import Prompts
from ookd.label.selection import selected
from ookd.label.track_memory import CurrentFrame
from ookd.structures import TrackResult
from ookd.tracking.recordings import Recording
from ookd.worlds import World
from ookd.worlds.write import write


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teachers")
    tiny_teachers.sam3(folder / "sam3", hotstart_delay=0, hotstart_unmatch_thresh=0, hotstart_dup_thresh=0)
    tiny_teachers.sam2(folder / "sam2")
    tiny_teachers.grounding_dino(folder / "dino")
    return folder


def video(length: int, seed: int = 0) -> Recording:
    def read(frames: Any) -> Iterator[Any]:
        for frame in frames:
            yield np.random.default_rng([seed, frame]).integers(0, 256, (60, 80, 3), np.uint8)

    return Recording(3, length, read)


def sam3(teachers: Path, **more: Any) -> Any:
    return open_labeller(
        LabellerChoice(str(teachers / "sam3"), ["person", "fork=vehicle"], device="cpu", **more)
    )


def two_stages(teachers: Path, **more: Any) -> Any:
    choice = {
        "texts": ["person", "forklift=vehicle"],
        "follow": str(teachers / "sam2"),
        "device": "cpu",
        **more,
    }
    return open_labeller(LabellerChoice(str(teachers / "dino"), **choice))


def check(tracks: list[TrackResult], length: int) -> None:
    """What every track promises."""
    assert tracks
    for track in tracks:
        assert track.video_id == 3
        assert track.category_id in (1, 2)
        assert track.frame_scores is not None
        assert len(track.segmentations) == len(track.frame_scores) == length
        for mask, score in zip(track.segmentations, track.frame_scores, strict=True):
            assert (mask is None) == (score is None)
            assert score is None or 0 <= score <= 1
            if mask is not None:
                rle.check(mask, 60, 80)


def test_sam3_finds_what_the_library_finds_that_forgets_nothing(teachers: Path) -> None:
    """The same frames through the library's own loop over a whole video, all held in memory."""
    from transformers.models.sam3_video import modeling_sam3_video as theirs

    labeller = sam3(teachers)
    found = list(labeller.tracks(video(24)))
    check(found, 24)
    session = labeller._session(CurrentFrame(24))
    vars(theirs)["cv_utils_kernel"] = MaskKernels
    frames = [
        sam3_room.pixels(image, sam3_room.squared(112, 127.5), 112, torch.device("cpu"))[0]
        for image in video(24).images()
    ]
    session.processed_frames = dict(enumerate(frames))
    seen: dict[int, dict[int, float]] = {}
    for answer in labeller._model.propagate_in_video_iterator(session):
        for id in answer.obj_id_to_mask.keys() - answer.suppressed_obj_ids - answer.removed_obj_ids:
            score = answer.obj_id_to_tracker_score[id] * answer.obj_id_to_score[id]
            if (answer.obj_id_to_mask[id] > 0).any():
                seen.setdefault(id, {})[answer.frame_idx] = score
    for track in found:
        scores = {t: s for t, s in enumerate(track.frame_scores or []) if s is not None}
        assert any(scores.items() <= known.items() for known in seen.values())


def held(session: Any) -> int:
    """Bytes of the tensors that a session holds."""

    def size(value: Any) -> int:
        if isinstance(value, torch.Tensor):
            return value.numel() * value.element_size()
        if isinstance(value, dict):
            return sum(map(size, dict.values(value)))
        return sum(map(size, value)) if isinstance(value, list | tuple) else 0

    return (
        size(session.processed_frames) + size(session.output_dict_per_obj) + size(session.mask_inputs_per_obj)
    )


def test_the_memory_of_sam3_does_not_grow(teachers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labeller, sizes = sam3(teachers), []
    forget = sam3_room.Sam3Labeller._forget

    def measured(self: Any, session: Any, frame: int) -> None:
        forget(self, session, frame)
        sizes.append(held(session) / max(1, len(session.obj_ids)))
        assert all(len(by_frame) <= 2 for by_frame in session.frames_tracked_per_obj.values())
        assert len(session.obj_id_to_tracker_score_frame_wise) <= 1

    monkeypatch.setattr(sam3_room.Sam3Labeller, "_forget", measured)
    list(labeller.tracks(video(36)))
    assert max(sizes[24:]) <= max(sizes[:24])


def test_an_object_that_is_gone_for_long_is_let_go(teachers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the last one, with which the library would forget what it looks for."""
    monkeypatch.setattr(sam3_room, "PATIENCE", 2)
    monkeypatch.setattr(sam3_room.Sam3Labeller, "_keep", lambda *_: [])
    labeller, held_ids = sam3(teachers), []
    forget = sam3_room.Sam3Labeller._forget

    def noted(self: Any, session: Any, frame: int) -> None:
        held_ids.append(list(session.obj_ids))
        assert list(session.prompts.values()) == ["person", "fork"]
        forget(self, session, frame)

    monkeypatch.setattr(sam3_room.Sam3Labeller, "_forget", noted)
    assert list(labeller.tracks(video(8))) == []
    assert max(map(len, held_ids)) <= 4
    known = list(dict.fromkeys(id for ids in held_ids for id in ids))
    assert known == sorted(known)
    assert len(known) > len(held_ids[0])


def test_sam3_at_another_size(teachers: Path) -> None:
    with pytest.raises(UserError, match="multiples of 14"):
        sam3(teachers, size=100)
    assert sam3(teachers, size=56).settings["image_size"] == 56


def test_a_detector_and_sam2(teachers: Path) -> None:
    labeller = two_stages(teachers)
    assert labeller.names == ("person", "vehicle")
    assert labeller.teacher["licence"] == "apache-2.0"
    assert labeller.teacher["prompts"] == {"person": "person", "forklift": "vehicle"}
    tracks = list(labeller.tracks(video(12)))
    check(tracks, 12)
    began = {next(t for t, m in enumerate(track.segmentations) if m) for track in tracks}
    assert began <= {0, 5, 10}
    assert len(began) > 1  # objects may come later
    at_once = [sum(track.segmentations[t] is not None for track in tracks) for t in range(12)]
    few = list(two_stages(teachers, objects=1).tracks(video(12)))
    assert (
        max(sum(track.segmentations[t] is not None for track in few) for t in range(12)) == 1 <= max(at_once)
    )


class Marks:
    """Finds the bright rectangles of a frame as class 0, with masks."""

    names, teacher, settings = ("mark",), {"id": "marks", "revision": "1", "licence": ""}, {}

    def find(self, image: Any) -> Finds:
        bright = image[..., 0] > 128
        left, right = bright.copy(), bright.copy()
        left[:, 40:] = False
        right[:, :40] = False
        masks = np.array([mask for mask in (left, right) if mask.any()]).reshape(-1, *bright.shape)
        boxes = np.zeros((len(masks), 4), np.float32)
        return Finds([0] * len(masks), [0.9] * len(masks), boxes, masks)


def test_masks_of_new_objects_are_taken_as_they_are_and_old_ones_known_again(teachers: Path) -> None:
    """One mark from the start and one from frame 6 on; neither moves."""

    def read(frames: Any) -> Iterator[Any]:
        for frame in frames:
            image = np.zeros((64, 80, 3), np.uint8)
            image[8:32, 4:28] = 255
            if frame >= 6:
                image[24:56, 48:76] = 255
            yield image

    folder = borrowed_folder(str(teachers / "sam2"))
    assert folder is not None
    labeller = following.FollowLabeller(Marks(), folder, torch.device("cpu"), key_frames=3)
    tracks = list(labeller.tracks(Recording(3, 8, read)))
    first = [next(t for t, m in enumerate(track.segmentations) if m) for track in tracks]
    assert first[0] == 0
    assert 6 in first
    mask = tracks[0].segmentations[0]
    assert mask is not None
    assert rle.box_xywh(mask) == pytest.approx([4, 8, 24, 24], abs=2)
    assert tracks[0].frame_scores is not None
    assert tracks[0].frame_scores[0] == pytest.approx(0.9, abs=1e-3)


def test_the_better_of_two_equal_boxes_of_a_class() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [50, 0, 60, 9]], np.float32)
    found = best(np.array([0, 0, 1, 0]), np.array([0.5, 0.9, 0.4, 0.1], np.float32), boxes)
    assert (found.labels, found.scores) == ([0, 1], pytest.approx([0.9, 0.4]))


def test_texts_and_their_classes() -> None:
    prompts = Prompts.parse(["person", "forklift=vehicle", "truck = vehicle"])
    assert prompts.texts == ("person", "forklift", "truck")
    assert prompts.names == ("person", "vehicle")
    assert prompts.labels == (0, 1, 1)
    for wrong in ("=car", "car=", " "):
        with pytest.raises(UserError, match='as "person" or'):
            Prompts.parse([wrong])
    with pytest.raises(UserError, match="given twice"):
        Prompts.parse(["car", "car=truck"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "sam3"}, "--text person"),
        ({"teacher": "sam2", "texts": ["car"]}, "SAM 2 only follows"),
        ({"teacher": "nano", "texts": ["car"]}, "has fixed classes"),
        ({"teacher": "nano", "size": 560}, "only SAM 3 has this option"),
        ({"teacher": "dino", "texts": ["car"], "follow": "sam3"}, "must be a SAM 2"),
        ({"teacher": "sam3", "texts": ["car"], "follow": "sam2"}, "SAM 3 follows what it finds by itself"),
        (
            {"teacher": "dino", "texts": ["forklift " * 90, "fork " * 90], "follow": "sam2"},
            "256 are possible",
        ),
    ],
)
def test_what_does_not_fit_together(teachers: Path, options: dict[str, Any], message: str) -> None:
    for name in ("teacher", "follow"):
        if (teachers / options.get(name, "-")).is_dir():
            options = {**options, name: str(teachers / options[name])}
    with pytest.raises(UserError, match=message):
        open_labeller(LabellerChoice(**options, device="cpu"))


CPU = ["--device", "cpu"]


def command(data: Path, out: Path, teachers: Path) -> list[str]:
    teacher = ["--teacher", str(teachers / "dino"), "--follow", str(teachers / "sam2")]
    texts = ["--text", "person", "--text", "forklift=vehicle"]
    return [
        "label",
        str(data),
        *teacher,
        *texts,
        "--out",
        str(out),
        "--device",
        "cpu",
        "--both-ways",
        "--score",
        "0.1",
    ]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    write(World("ytvis-like", videos=3, height=64, width=96, frames=6, crowd=[2, 2]), tmp_path / "videos")
    return tmp_path / "videos"


def test_labels_say_who_made_them(teachers: Path, videos: Path, tmp_path: Path) -> None:
    call = [*command(videos, tmp_path / "labels", teachers), "--every", "2", "--start", "1"]
    assert main(call) == 0
    dataset = load(tmp_path / "labels")
    assert [category.name for category in dataset.categories] == ["person", "vehicle"]
    assert {video.length for video in dataset.videos} == {3}
    assert dataset.videos[0].file_names[0].endswith("00001.jpg")
    teacher = dataset.extra["info"]["teacher"]
    assert teacher["id"] == "dino + sam2"
    assert teacher["licence"] == "apache-2.0"
    assert teacher["prompts"] == {"person": "person", "forklift": "vehicle"}
    assert all("scores" in track.extra for video in dataset.videos for track in video.tracks)
    with pytest.raises(UserError, match="no times"):
        selected(videos_of(videos), Span.parse("0:01", None, 1))


def test_a_killed_run_goes_on_to_the_same_bytes(teachers: Path, videos: Path, tmp_path: Path) -> None:
    """Killed with -9 once the first video is done."""
    assert main(command(videos, tmp_path / "whole", teachers)) == 0
    out, begun = tmp_path / "out", tmp_path / "out.begun"
    call = [sys.executable, "-m", "ookd", *command(videos, out, teachers)]
    with subprocess.Popen(call, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 120
        while not list(begun.glob("videos/*.jsonl")):
            assert run.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        run.kill()
    assert not out.exists()
    assert main(command(videos, out, teachers)) == 0
    assert [(file.name, file.read_bytes()) for file in sorted(out.iterdir())] == [
        (file.name, file.read_bytes()) for file in sorted((tmp_path / "whole").iterdir())
    ]
    assert not begun.exists()
