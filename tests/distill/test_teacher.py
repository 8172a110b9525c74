"""What a teacher is shown, and what its classes are to the student."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill.test_families import task_of
from ookd import config
from ookd.clips.loader import collate
from ookd.clips.sampling import DistillSampler
from ookd.clips.sources import ClipDataset
from ookd.config import Distill
from ookd.distill.cache import TeacherCache, cache_key
from ookd.distill.fill import FillPlan
from ookd.distill.teacher import LiveTeacher, class_columns, resized_clips
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.preprocess import IMAGENET
from ookd.models.protocols import OfflineModel
from ookd.structures import Batch, ClipQueries
from ookd.worlds import World
from toy_family import toy_family


class Shown(OfflineModel):
    """A teacher of two queries that says what was asked of it: fixed classes, masks where it is bright."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.config = given
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, clip: Tensor, pad: Tensor) -> ClipQueries:
        b, t = clip.shape[:2]
        self.seen = clip.shape
        logits = torch.tensor([[2.0, -1.0, 0.5, -3.0], [-2.0, -1.0, 3.0, 1.0]]).expand(b, -1, -1)
        bright = (clip[:, :, 0, ::4, ::4] > 0).float().unsqueeze(1).expand(-1, 2, -1, -1, -1) * 20 - 10
        rows = torch.arange(b).unsqueeze(1)
        ones = torch.ones(b, 2, 3)
        by_frame = torch.ones(b, t, 2, 3)
        return ClipQueries(logits, None, ones, by_frame, lambda select: bright[rows, select])


SHOWN = toy_family(Shown, 4)
NAMES = ["sedan", "person", "truck", "Vehical"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    zoo.save_pretrained(Shown(SHOWN), tmp_path / "teacher", NAMES)
    return tmp_path / "teacher"


def spec(folder: Path, **fields: Any) -> Distill:
    return Distill(teacher=str(folder), **fields)


def batch_of(world: World) -> Batch:
    clips = ClipDataset(world, DistillSampler(length=4))
    return collate([clips[0, 0], clips[0, 1]])


WORLD = {"videos": 2, "height": 64, "width": 96, "frames": 6, "crowd": [2, 3]}


def test_renamed_classes_are_one_to_the_student(folder: Path) -> None:
    rename = {"sedan": "car", "truck": "car", "Vehical": "vehicle"}
    teacher = LiveTeacher(spec(folder, rename=rename), ["vehicle", "owl", "car", "person"])
    assert teacher.known.tolist() == [True, False, True, True]
    answer = teacher.infer(batch_of(World("ytvis-like", **WORLD)))[0]
    assert answer.queries.logits[0].tolist() == [[-3.0, -20.0, 2.0, -1.0], [1.0, -20.0, 3.0, -1.0]]


def test_without_new_names_each_class_is_its_namesake() -> None:
    assert class_columns(NAMES, ["person", "car", "truck"], {}).tolist() == [[1], [-1], [2]]
    assert class_columns(["a", "b"], ["a"], {"b": "a"}).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        ({"lorry": "car"}, "rename: lorry: car: the teacher has no class lorry; it has sedan, person"),
        ({"truck": "bus"}, "rename: truck: bus: the student has no class bus; it has car, person"),
    ],
)
def test_a_name_that_nobody_has_is_one_line(rename: dict[str, str], words: str, folder: Path) -> None:
    with pytest.raises(UserError, match=words):
        LiveTeacher(spec(folder, rename=rename), ["car", "person"])


def test_a_teacher_of_other_classes_says_what_would_help(folder: Path) -> None:
    with pytest.raises(UserError, match=r"none of the classes owl; it knows sedan, .*distill\.rename"):
        LiveTeacher(spec(folder), ["owl"])


def test_the_teacher_sees_larger_frames(folder: Path) -> None:
    teacher = LiveTeacher(spec(folder, teacher_side=128), ["person"])
    batch = batch_of(World("ytvis-like", **WORLD))
    answer = teacher.infer(batch)[0].queries
    assert teacher.model.seen == (2, 4, 3, 128, 192)
    assert answer.masks(torch.zeros(2, 1, dtype=torch.long)).shape == (2, 1, 4, 32, 48)
    assert LiveTeacher(spec(folder), ["person"]).infer(batch)[0].queries.masks(
        torch.zeros(2, 1, dtype=torch.long)
    ).shape == (2, 1, 4, 16, 24)


def test_enlarged_frames_show_the_same_places() -> None:
    frames = torch.zeros(1, 2, 3, 48, 96, dtype=torch.uint8)
    frames[..., 12:24, 24:48] = 200
    pad = torch.zeros(1, 2, 48, 96, dtype=torch.bool)
    pad[..., 32:, :] = True
    larger, outside = resized_clips(frames, pad, 64, IMAGENET)
    assert larger.shape == (1, 2, 3, 96, 192)
    assert not outside[..., :64, :].any()
    assert outside[..., 64:, :].all()
    assert (larger[..., 28:44, 52:92] == 200).all()
    assert larger[..., 50:, :].sum() == 0
    same, _ = resized_clips(frames[..., :32, :], pad[..., :32, :], None, IMAGENET)
    assert same.dtype == torch.uint8  # untouched
    assert resized_clips(frames, pad, None, IMAGENET)[0].shape[-2:] == (64, 96)  # the next multiples


def test_a_run_with_a_larger_teacher_pairs_and_learns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World("ytvis-like", **WORLD)
    rule = "filter: {kind: none}, associate: prediction, pair_iou: 0, teacher_side: 128"
    with caplog.at_level(logging.WARNING):
        task = task_of("nano", "nano-clip", world, tmp_path, rule).train()
    assert "sees the student's frames enlarged to 128; with a cache" in caplog.text
    terms = task(batch_of(world))
    assert terms["kept_pairs"] > 0
    assert all(term.isfinite().all() for term in terms.values())
    assert terms["kd_mask"] > 0


def test_a_cache_is_filled_from_original_frames_of_that_side(folder: Path, tmp_path: Path) -> None:
    recipe = config.load(
        "nano-distill",
        [
            "data.train=[{kind: world, videos: 1, change: {height: 256, width: 320, frames: 4}}]",
            f"distill={{teacher: {folder}, cache: {tmp_path / 'cache'}, teacher_side: 128, "
            "rename: {sedan: car}}",
            "data.augment.sides=[64]",
        ],
    )
    plan = FillPlan(recipe, "cpu")
    plan.run()
    assert plan.teacher.model.seen == (1, 4, 3, 128, 160)
    assert recipe.distill is not None
    other = cache_key(plan.teacher.model, recipe.data, recipe.distill.model_copy(update={"rename": {}}))
    with pytest.raises(UserError, match="holds a cache of classes of other names"):
        TeacherCache(tmp_path / "cache", other)
    smaller = recipe.distill.model_copy(update={"teacher_side": None})
    assert cache_key(plan.teacher.model, recipe.data, smaller).short_side == 64
