"""What lies in a folder: which annotations, in which format, for which split, and where their frames are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ookd.data.frames import is_archive, read_bytes, through_video
from ookd.errors import UserError

_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test", "tune": "tune",
}  # fmt: skip
_NOT_ANNOTATIONS = {"meta.json", "config.json", "results.json", "package.json"}


@dataclass(frozen=True, slots=True)
class Source:
    """One set of annotations."""

    kind: str  # "json" (YTVIS, OVIS or COCO, told apart by content), "davis", "mots", "yolo"
    path: Path  # the JSON file or the folder
    split: str = ""  # "train", "val", "test", "tune", or as the data names it; empty where it names none
    frames: Path | None = None  # where file names start; None: to be found
    names: tuple[str, ...] = ()  # class names and order given from outside

    @property
    def title(self) -> str:
        return f"{self.path} ({self.split})" if self.split and self.kind != "json" else str(self.path)


def find(path: Path) -> list[Source]:
    """All annotations that a path stands for."""
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.suffix.lower() != ".json":
        raise UserError(f"{path}: is neither a folder, a .json annotation file nor a dataset.yaml")
    return [Source("json", path, split_of(path))]


def choose(sources: list[Source], path: Path, split: str | None) -> Source:
    """The one that is meant; an error that lists the choices where that is not clear."""
    meant = [source for source in sources if split in (None, source.split, source.path.stem)]
    if len(meant) == 1:
        return meant[0]
    choices = ", ".join(source.split or source.path.name for source in sources)
    if split is not None and not meant:
        raise UserError(f"{path}: has no split '{split}'; it has {choices}")
    raise UserError(f"{path}: holds several sets ({choices}); name one as the split")


def _in_folder(folder: Path) -> list[Source]:
    for name in ("dataset.yaml", "dataset.yml", "data.yaml", "data.yml"):
        if (folder / name).is_file():
            return find(folder / name)
    if found := list(_annotation_files(folder)):
        return found
    raise UserError(
        f"{folder}: no annotations found; expected a dataset.yaml, a YTVIS, OVIS or COCO .json, or a DAVIS, "
        "MOTS or YOLO-seg folder"
    )


def _annotation_files(folder: Path) -> Iterator[Source]:
    files = [
        file
        for place in (folder, folder / "annotations")
        for file in sorted(place.glob("*.json"))
        if file.name not in _NOT_ANNOTATIONS and not _is_list(file)
    ]
    instances = [file for file in files if file.name.startswith("instances")]
    for file in instances or files:  # beside its instances COCO has captions and keypoints
        yield Source("json", file, split_of(file))


def _is_list(file: Path) -> bool:
    """Predictions are a list; annotations are an object."""
    with file.open("rb") as opened:
        return opened.read(64).lstrip().startswith(b"[")


def split_of(path: Path) -> str:
    """The split that a file name speaks of: instances_train2017.json -> train."""
    for word in reversed(re.findall(r"[a-z]+", path.stem.lower())):
        if word in _SPLITS:
            return _SPLITS[word]
    return ""


def with_frames(source: Source, frames: Path | None) -> Source:
    return source if frames is None else replace(source, frames=frames)


def find_frames(annotations: Path, file_name: str) -> Path:
    """The folder, archive or video that a file name is relative to, by trying where the data sets keep it.

    Where the file is nowhere, the annotations' own folder, so that messages name a sensible path.
    """
    words = [word for word in re.split(r"[_\-.]", annotations.stem) if word]  # train2017, valid, ...
    for base in (annotations.parent, annotations.parent.parent):
        for inner in ("", *words, *(f"images/{word}" for word in words)):
            for leaf in ("", "JPEGImages", "images", "frames", "img"):
                if _holds(base / inner / leaf, file_name):
                    return base / inner / leaf
        for archive in (*(f"{word}.zip" for word in words), "JPEGImages.zip", "images.zip", "frames.zip"):
            for inner in ("", Path(archive).stem, f"{Path(archive).stem}/JPEGImages"):
                if _holds(base / archive / inner, file_name):
                    return base / archive / inner
    return annotations.parent


def _holds(folder: Path, file_name: str) -> bool:
    path = folder / file_name
    if path.is_file():
        return True
    if (video := through_video(path)) is not None:
        return video[0].is_file()
    if any(is_archive(parent) and parent.is_file() for parent in path.parents):
        try:
            read_bytes(path)
        except UserError:
            return False
        return True
    return False
