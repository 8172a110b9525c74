"""Image files, opened as what they are: never by a format that runs other programs, as EPS does."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF", "JPEG2000")


def open_image(file: Path | IO[bytes]) -> Image.Image:
    """The image of a file, its pixels not read yet. The content decides on the format, not the name."""
    return Image.open(file, formats=FORMATS)
