"""Image files, opened as what they are: never by a format that runs other programs, as EPS does."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF", "JPEG2000")


def open_image(file: Path | IO[bytes]) -> Image.Image:
    """The image of a file, its pixels not read yet. The content decides on the format, not the name."""
    return Image.open(file, formats=FORMATS)


def as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """[H, W, 3]; alpha is dropped, and 16-bit grey is scaled, which Pillow would clip."""
    if image.mode.startswith("I"):
        grey = (np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:  # of which Pillow warns otherwise
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))
