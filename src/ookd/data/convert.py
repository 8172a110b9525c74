"""One annotation format into another: a folder that is complete in itself, and a list of what was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import yaml

from ookd.data.formats import coco, ytvis
from ookd.data.formats.dataset_yaml import SPLITS
from ookd.data.formats.davis import write_davis
from ookd.data.formats.json_file import write_json
from ookd.data.formats.mots import write_mots
from ookd.data.formats.yolo import write_yolo
from ookd.data.frames import copy_frames, frame_stems, named_videos
from ookd.errors import UserError
from ookd.files import check_apart, new_folder
from ookd.structures import Dataset, Video

Named = Iterable[tuple[str, Video]]  # videos and what to call their files
ANNOTATIONS = "instances.json"
MARKS = ("dataset.yaml", "data.yaml", "meta.json", "classes.txt")  # one is in every folder written here


def convert(
    dataset: Dataset,
    out: Path,
    to: str,
    split: str = "train",
    frames: bool = True,
    overwrite: bool = False,
    step: Callable[[], None] = lambda: None,
) -> list[str]:
    """Write `dataset` as `to`, one of `FORMATS`, into the folder `out`; say what the format cannot hold.

    Without `frames` only annotations are written; JSON ones then refer to the images where they are. `step`
    is called for each frame that is done.
    """
    if to not in FORMATS:
        raise UserError(f"unknown format '{to}'; known are {', '.join(FORMATS)}")
    root = (dataset.root or Path()).resolve()
    check_apart(out, root)
    with new_folder(out, overwrite, MARKS) as folder:
        lost = FORMATS[to](dataset, _stepping(dataset, step), folder, frames)
        if (folder / ANNOTATIONS).exists():
            _describe(folder, split, "frames" if frames else str(root), dataset)
    return lost


def _stepping(dataset: Dataset, step: Callable[[], None]) -> Named:
    for name, video in named_videos(dataset):
        yield name, video
        for _ in range(video.length):
            step()


def _write_ytvis(dataset: Dataset, videos: Named, folder: Path, frames: bool) -> list[str]:
    write_json(folder / ANNOTATIONS, ytvis.to_document(_with_own_frames(dataset, videos, folder, frames)))
    return []


def _write_coco(dataset: Dataset, videos: Named, folder: Path, frames: bool) -> list[str]:
    write_json(folder / ANNOTATIONS, coco.to_document(_with_own_frames(dataset, videos, folder, frames)))
    fields = sorted({key for video in dataset.videos for track in video.tracks for key in track.extra})
    if fields and any(video.length > 1 for video in dataset.videos):
        return [f"what tracks say beside masks and boxes: {', '.join(fields)}"]
    return []


def _with_own_frames(dataset: Dataset, videos: Named, folder: Path, frames: bool) -> Dataset:
    """The same videos with their frames copied below `folder`."""
    if not frames:
        return dataset
    copied: list[Video] = []
    for name, video in videos:
        inside = "" if video.length == 1 else name
        stems = [name] if video.length == 1 else frame_stems(video)
        files = copy_frames(dataset, video, folder / "frames" / inside, stems)
        copied.append(replace(video, file_names=[str(PurePosixPath(inside, file)) for file in files]))
    return replace(dataset, videos=copied)


def _describe(folder: Path, split: str, frames: str, dataset: Dataset) -> None:
    content = {
        "names": [category.name for category in dataset.categories],
        split if split in SPLITS else "train": {"annotations": ANNOTATIONS, "frames": frames},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "dataset.yaml").write_text(text, encoding="utf-8")


FORMATS: dict[str, Callable[[Dataset, Named, Path, bool], list[str]]] = {
    "ytvis": _write_ytvis,
    "coco": _write_coco,
    "davis": write_davis,
    "mots": write_mots,
    "yolo": write_yolo,
}
