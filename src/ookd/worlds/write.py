"""Write drawn video as a YTVIS folder that any program can read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from ookd.data.formats import save_ytvis
from ookd.errors import UserError
from ookd.files import new_folder
from ookd.worlds.drawn import DrawnVideos


def write(
    source: DrawnVideos[Any],
    folder: str | Path,
    overwrite: bool = False,
    on_video: Callable[[], None] = lambda: None,
) -> None:
    """Write JPEGImages/VIDEO/00000.jpg and instances.json.

    Masks are exact for the frames as drawn; JPEG compression blurs edges a little. `on_video` is called after
    each video.
    """
    dataset = source.dataset()
    with new_folder(Path(folder), overwrite, ("instances.json",)) as part:
        for index, video in enumerate(dataset.videos):
            images = source.clip(index, range(video.length)).images
            for name, image in zip(video.file_names, images, strict=True):
                path = part / "JPEGImages" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]):
                    raise UserError(f"{folder}: frame {name} cannot be written; is the disk full?")
            on_video()
        save_ytvis(dataset, part / "instances.json")
