"""Folders, globs and single files of images as a video."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from ookd import untrusted
from ookd.data.image_files import as_rgb, open_image
from ookd.data.video.source import Decode, FrameSource, Image, Span
from ookd.errors import UserError

log = logging.getLogger(__name__)

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
FPS = 10.0  # assumed
ImageLike = Image | Pillow.Image | str | Path  # all that may stand for a frame
_UNREADABLE = (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError)  # of damaged files
_MOST_DIGITS = 300  # of a number in a file name


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key with which frame_9 comes before frame_10."""
    return [
        (int(part[:_MOST_DIGITS]), "") if part.isdecimal() else (-1, part.lower())
        for part in re.split(r"(\d+)", str(path))
    ]


def read_image(path: Path) -> Image:
    """An image file as 8-bit RGB, turned upright by its EXIF data; alpha is dropped."""
    untrusted.check_file(path)
    with open_image(path) as opened:
        return _upright(opened)


def as_image(given: ImageLike) -> Image:
    """The pixels of a file, of a PIL image, or of an array, which must be uint8 [H, W, 3] RGB."""
    if isinstance(given, Pillow.Image):
        return _upright(given)
    if not isinstance(given, str | Path):
        check_image(given)
        return given
    try:
        return read_image(Path(given))
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{given}: not a readable image ({reason})") from None


def check_image(image: object) -> None:
    """Raise for anything that is not a frame's array."""
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        raise UserError(f"a frame must be an array, a PIL image or the path of an image file, not {kind}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f"a frame must be uint8 [height, width, 3] RGB, not {image.dtype} {image.shape}")


def _upright(opened: Pillow.Image) -> Image:
    return as_rgb(ImageOps.exif_transpose(opened))


def try_read(path: Path) -> Image | None:
    try:
        return read_image(path)
    except (UserError, *_UNREADABLE):
        return None


class ImageSource(FrameSource):
    """Frame i is the i-th image; unreadable ones are left out with a warning."""

    def __init__(self, paths: Sequence[Path], name: str, span: Span) -> None:
        super().__init__(span)
        self.name = name
        self._paths = paths
        self.fps = FPS / span.every
        self.length = span.count(len(paths), FPS)
        first = next((image for image in map(try_read, paths) if image is not None), None)
        if first is None:
            raise UserError(f"{name}: none of the {len(paths)} images can be read")
        self.height, self.width = first.shape[:2]

    def read(self) -> Generator[tuple[int, float, Decode], None, None]:
        unreadable: list[Path] = []

        def decode(path: Path) -> Image | None:
            image = try_read(path)
            if image is None:
                if not unreadable:
                    log.warning("%s: not a readable image; left out", path)
                unreadable.append(path)
            return image

        for index, path in enumerate(self._paths):
            yield index, index / FPS, partial(decode, path)
        if len(unreadable) > 1:
            log.warning("%s: %d images were left out", self.name, len(unreadable))
