"""What an annotation format is, and one set of annotations as it lies on disk before it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ookd.data.formats.problems import Report
from ookd.data.frames import copy_frames, frame_stems
from ookd.errors import UserError
from ookd.structures import Dataset, Video

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
    "tune": ("tune",),
}
SPLITS = tuple(_SPLIT_WORDS)


@dataclass(frozen=True, slots=True)
class AnnotationSource:
    """One set of annotations: a file or a folder."""

    format: Format
    path: Path
    split: str = ""  # train, val, test, tune, or as the data calls it; empty where it has no name
    subset: str = ""  # which videos of a folder that lists several sets; empty: all
    frames: Path | None = None  # the folder, archive or video that file names start from; None: to be found
    names: tuple[str, ...] = ()  # class names and their order, given from outside


@dataclass(frozen=True, slots=True)
class Output:
    """Where and how a data set is written."""

    folder: Path
    split: str = "train"
    frames: bool = True  # copy the images, too


NamedVideos = Iterable[tuple[str, Video]]  # each video with a name for its files


@dataclass(frozen=True, slots=True)
class Format:
    """An annotation format. What it cannot do is None."""

    name: str  # as `ookd data convert --to` takes it
    title: str  # in messages: "a YOLO-seg folder of images"
    # the sets at a path, a file or a folder; none if the path is not of this format
    find: Callable[[Path], list[AnnotationSource]] | None = None
    # everything that is right about a set; problems go to the report; None if nothing can be read
    read: Callable[[AnnotationSource, Report], Dataset | None] | None = None
    # writes the videos of a data set, and returns a line for each thing that the format cannot hold
    write: Callable[[Dataset, NamedVideos, Output], list[str]] | None = None
    marker: str = ""  # a file that every written folder holds
    server_numbers: bool = False  # class numbers are those that a benchmark's server expects


def frame_files(dataset: Dataset, name: str, video: Video, output: Output) -> list[str]:
    """How written annotations name the images of a video: copies beside them, or where they lie."""
    if not output.frames:
        root = (dataset.root or Path()).resolve()
        return [str(root / file) for file in video.file_names]
    copied = copy_frames(dataset, video, output.folder / "frames" / name, frame_stems(video))
    return [f"frames/{name}/{file}" for file in copied]


def crowds_left_out(dataset: Dataset) -> list[str]:
    """What a format without crowd regions loses, as a writer tells it."""
    crowds = any(track.iscrowd for video in dataset.videos for track in video.tracks)
    return ["crowd regions: left out"] if crowds else []


def choose(sources: Sequence[AnnotationSource], path: Path, split: str | None) -> AnnotationSource:
    """The one source that is meant; an error lists the choices where that is not clear."""
    meant = [source for source in sources if split in (None, source.split, source.path.stem)]
    if len(meant) == 1:
        return meant[0]
    choices = ", ".join(source.split or source.path.name for source in sources)
    if split is not None and not meant:
        raise UserError(f"{path}: has no split '{split}'; it has {choices}")
    raise UserError(f"{path}: holds several sets ({choices}); name one as the split (--split)")


def split_of(name: str) -> str:
    """The split that a file or folder name mentions: instances_train2017 -> train."""
    for word in reversed(re.findall(r"[a-z]+", name.lower())):
        for split, words in _SPLIT_WORDS.items():
            if word in words:
                return split
    return ""
