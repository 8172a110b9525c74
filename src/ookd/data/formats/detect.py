"""What lies in a folder: which annotations, in which format, for which split, and where their frames are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ookd.data.formats.dataset_yaml import sources_of
from ookd.data.formats.davis import davis_splits, is_davis
from ookd.data.formats.mots import is_mots
from ookd.data.formats.source import Source
from ookd.data.frames import is_archive, read_bytes, through_video
from ookd.errors import UserError

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
    "tune": ("tune",),
}
_YAML = ("dataset.yaml", "dataset.yml", "data.yaml", "data.yml")
_NOT_ANNOTATIONS = {"meta.json", "config.json", "results.json", "package.json"}


def find(path: Path) -> list[Source]:
    """All annotations that a path stands for."""
    try:
        return _find(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _find(path: Path) -> list[Source]:
    described = [path / name for name in _YAML if (path / name).is_file()]
    if described or path.suffix.lower() in (".yaml", ".yml"):
        return sources_of(described[0] if described else path, _find_plain)
    return _find_plain(path)


def _find_plain(path: Path) -> list[Source]:
    """What is there apart from a dataset.yaml, which never leads to another one."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        found = _in_folder(path) or _in_split_folders(path)
        if not found:
            raise UserError(
                f"{path}: holds no annotations; expected a dataset.yaml, a YTVIS, OVIS or COCO .json, "
                "or a DAVIS, MOTS or YOLO-seg folder"
            )
        return found
    if path.suffix.lower() == ".json":
        return [Source("json", path, split_of(path.stem))]
    raise UserError(f"{path}: is neither a folder, a .json annotation file nor a dataset.yaml")


def _in_folder(folder: Path) -> list[Source]:
    if files := _annotation_files(folder):
        return [Source("json", file, split_of(file.stem)) for file in files]
    if is_davis(folder):
        return [
            Source("davis", folder, split_of(name) or name, name) for name in davis_splits(folder) or [""]
        ]
    if is_mots(folder):
        return [Source("mots", folder)]
    return []


def _in_split_folders(folder: Path) -> list[Source]:
    """train/ and val/ below, each complete."""
    inner = sorted(item for item in folder.iterdir() if item.is_dir() and split_of(item.name))
    return [replace(source, split=split_of(item.name)) for item in inner for source in _in_folder(item)]


def _annotation_files(folder: Path) -> list[Path]:
    files = [
        file
        for place in (folder, folder / "annotations")
        for file in sorted(place.glob("*.json"))
        if file.name not in _NOT_ANNOTATIONS and not _is_list(file)
    ]
    instances = [file for file in files if file.name.startswith("instances")]
    return instances or files  # beside its instances COCO has captions and keypoints


def _is_list(file: Path) -> bool:
    """Predictions are a list; annotations are an object."""
    with file.open("rb") as opened:
        return opened.read(64).lstrip().startswith(b"[")


def split_of(name: str) -> str:
    """The split that a name speaks of: instances_train2017 -> train."""
    for word in reversed(re.findall(r"[a-z]+", name.lower())):
        for split, words in _SPLIT_WORDS.items():
            if word in words:
                return split
    return ""


def find_frames(annotations: Path, file_name: str) -> Path:
    """The folder, archive or video that a file name is relative to, by trying where the data sets keep it.

    Where the file is nowhere, the annotations' own folder, so that messages name a sensible path.
    """
    words = [word for word in re.split(r"[_\-.]", annotations.stem) if word]  # train2017, valid, ...
    folders = [
        Path(inner, leaf)
        for inner in ("", *words, *(f"images/{word}" for word in words))
        for leaf in ("", "JPEGImages", "images", "frames", "img")
    ]
    archives = [
        Path(f"{name}.zip", inner)
        for name in (*words, "JPEGImages", "images", "frames")
        for inner in ("", name, f"{name}/JPEGImages")
    ]
    for base in (annotations.parent, annotations.parent.parent):
        for inner in (*folders, *archives):
            if _holds(base / inner, file_name):
                return base / inner
    return annotations.parent


def _holds(folder: Path, file_name: str) -> bool:
    path = folder / file_name
    if path.is_file():
        return True
    if (video := through_video(path)) is not None:
        return video[0].is_file()
    if not any(is_archive(parent) and parent.is_file() for parent in path.parents):
        return False
    try:
        read_bytes(path)
    except UserError:
        return False
    return True
