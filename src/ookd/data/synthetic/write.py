"""Drawn video as files: a YTVIS folder that any program can read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2

from ookd.data.formats import save_ytvis
from ookd.data.synthetic.drawn import DrawnVideos
from ookd.errors import UserError


def write(world: DrawnVideos[Any], folder: str | Path, quality: int = 95) -> Path:
    """Write JPEGImages/VIDEO/00000.jpg and instances.json; the folder must not exist or be empty.

    Everything is made beside it and renamed, so that a folder is whole or not there. Masks are exact for the
    frames before JPEG; `quality` 100 keeps them nearly so.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists; give the name of a new or empty folder")
    beside = folder.with_name(folder.name + ".partial")
    if beside.exists():
        shutil.rmtree(beside)
    dataset = world.dataset()
    for index, video in enumerate(dataset.videos):
        images = world.clip(index, range(video.length)).images
        for name, image in zip(video.file_names, images, strict=True):
            path = beside / "JPEGImages" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]):
                raise UserError(f"{path}: could not be written")
    save_ytvis(dataset, beside / "instances.json")
    if folder.exists():
        folder.rmdir()
    beside.rename(folder)
    return folder
