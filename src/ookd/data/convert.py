"""Convert a data set into another annotation format: a folder that is complete in itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ookd.data.formats import FORMATS, Output, writable
from ookd.data.formats.format import SPLITS
from ookd.data.frames import named_videos
from ookd.errors import UserError
from ookd.files import check_apart, new_folder
from ookd.structures import Dataset, Video


def convert(
    dataset: Dataset,
    out: Path,
    to: str,
    split: str = "train",
    frames: bool = True,
    overwrite: bool = False,
    on_frame: Callable[[], None] = lambda: None,
) -> list[str]:
    """Write `dataset` in the format `to` into the folder `out`; return what the format cannot hold.

    Without `frames` only annotations are written; JSON ones then refer to the images where they are.
    `on_frame` is called for each frame that is done.
    """
    format = FORMATS.get(to)
    if format is None or format.write is None:
        raise UserError(f"unknown format '{to}'; choose from {', '.join(writable())}")
    check_apart(out, (dataset.root or Path()).resolve())
    with new_folder(out, overwrite, markers()) as folder:
        output = Output(folder, split if split in SPLITS else "train", frames)
        return format.write(dataset, _counted(dataset, on_frame), output)


def markers() -> tuple[str, ...]:
    """Files by which a folder that `convert` wrote is known: each holds one of them."""
    return tuple(dict.fromkeys(format.marker for format in FORMATS.values() if format.marker))


def _counted(dataset: Dataset, on_frame: Callable[[], None]) -> Iterator[tuple[str, Video]]:
    for name, video in named_videos(dataset):
        yield name, video
        for _ in range(video.length):
            on_frame()
