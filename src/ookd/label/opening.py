"""The labeller for a teacher's name and options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ookd.errors import UserError
from ookd.label import follow as following
from ookd.label import sam3
from ookd.label.borrowed import BorrowedFolder, borrowed_folder
from ookd.label.both_ways import BothWays
from ookd.label.finders import TEXT_DETECTORS, FrameFinder, TextFinder
from ookd.label.follow import FollowLabeller
from ookd.label.labeller import Labeller
from ookd.label.prompts import Prompts
from ookd.label.sam3 import Sam3Labeller
from ookd.label.saved import SavedLabeller
from ookd.models import zoo
from ookd.tracking.torch_model import device_named

SAM2 = "facebook/sam2.1-hiera-small"  # default follower of text detectors


@dataclass(frozen=True, slots=True)
class LabellerChoice:
    """The labeller's options on the command line."""

    teacher: str
    texts: Sequence[str] = ()
    follow: str | None = None
    key_frames: int = following.KEY_FRAMES
    size: int | None = None
    objects: int | None = None
    both_ways: bool = False
    device: str = "auto"


def open_labeller(choice: LabellerChoice) -> Labeller:
    """The labeller, with its model loaded."""
    inner = _one_way(choice)
    return BothWays(inner) if choice.both_ways else inner


def _one_way(choice: LabellerChoice) -> Labeller:
    teacher, device = choice.teacher, device_named(choice.device)
    folder = borrowed_folder(teacher) if _may_be_borrowed(teacher) else None
    kind = "" if folder is None else folder.kind
    if choice.size is not None and kind != sam3.KIND:
        raise UserError("--size: only SAM 3 has this option")
    if kind == following.KIND:
        raise UserError(f"--teacher {teacher}: SAM 2 only follows; give it as --follow to a detector")
    if kind != sam3.KIND and kind not in TEXT_DETECTORS:
        if choice.texts:
            raise UserError(f"--text: {teacher} has fixed classes; --text is only for text teachers")
        saved = zoo.load(teacher)
        saved.model.to(device)
        if choice.follow is None:
            return SavedLabeller(saved, teacher)
        finder = FrameFinder(saved, teacher)
        return FollowLabeller(finder, _sam2(choice.follow), device, choice.objects, choice.key_frames)
    assert folder is not None
    if not choice.texts:
        raise UserError(f"--teacher {teacher}: say what to find: --text person --text forklift=vehicle")
    prompts = Prompts.parse(choice.texts)
    if kind == sam3.KIND:
        if choice.follow is not None:
            raise UserError("--follow: SAM 3 follows what it finds by itself")
        return Sam3Labeller(folder, prompts, device, choice.objects, choice.size)
    tracker = _sam2(choice.follow or SAM2)
    return FollowLabeller(
        TextFinder(folder, prompts, device), tracker, device, choice.objects, choice.key_frames
    )


def _may_be_borrowed(teacher: str) -> bool:
    """False for bundled models, which need no access to the hub."""
    return teacher not in zoo.bundled()


def _sam2(source: str) -> BorrowedFolder:
    folder = borrowed_folder(source)
    if folder is None or folder.kind != following.KIND:
        raise UserError(f"--follow {source}: must be a SAM 2 for videos, such as {SAM2}")
    return folder
