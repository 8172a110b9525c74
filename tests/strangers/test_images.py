"""Images of kinds that cameras do not make, alone and as frames of a data set."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import small_set
from ookd.data.formats import load
from ookd.data.frames import read_frame
from ookd.data.video import open_source
from strangers.test_videos import png
from strangers.trying import tried

GREY = np.linspace(0, 255, 12 * 8, dtype=np.uint8).reshape(8, 12)


def many_notes(path: Path) -> None:
    """A text of 70 MB in a PNG of a few kB."""
    content = png(12, 8)
    packer = zlib.compressobj(9)
    packed = b"note\0\0" + b"".join(packer.compress(bytes(1 << 20)) for _ in range(70)) + packer.flush()
    part = struct.pack(">I", len(packed)) + b"zTXt" + packed + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    path.write_bytes(content[:33] + part + content[33:])


def exif(orientation: bytes) -> Callable[[Path], None]:
    """A JPEG with EXIF data that hold this."""

    def make(path: Path) -> None:
        Image.fromarray(GREY).save(path, "JPEG", exif=b"Exif\0\0" + orientation)

    return make


def entry(kind: int, count: int, value: bytes) -> bytes:
    """EXIF data whose only entry is the orientation."""
    return b"MM\0*" + struct.pack(">IHHHI", 8, 1, 0x0112, kind, count) + value + bytes(4)


def saved(image: Image.Image, kind: str, **options: object) -> Callable[[Path], None]:
    return lambda path: image.save(path, kind, **options)


def cut(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-900])


def no_size(path: Path) -> None:
    content = bytearray(png(12, 8))
    content[16:24] = bytes(8)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)


def loop_of_pages(path: Path) -> None:
    """A TIFF whose only page is followed by itself."""
    Image.fromarray(GREY).save(path, "TIFF")
    content = bytearray(path.read_bytes())
    at = struct.unpack("<I", content[4:8])[0]
    entries = struct.unpack("<H", content[at : at + 2])[0]
    content[at + 2 + 12 * entries : at + 6 + 12 * entries] = struct.pack("<I", at)
    path.write_bytes(content)


UNREADABLE = "none of the 1 images can be read"
# what is in the file, and what is said of it; None: it is read
IMAGES: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "notes of 70 MB": (many_notes, UNREADABLE),
    "no pixel": (no_size, UNREADABLE),
    "1000 million pixels": (lambda path: path.write_bytes(png(100_000, 10_000)), UNREADABLE),
    "a cut photo": (cut, UNREADABLE),
    "a loop of pages": (loop_of_pages, None),
    "turned by 99": (exif(entry(3, 1, b"\0\x63\0\0")), None),
    "turned by a text": (exif(entry(2, 4, b"left")), None),
    "turned by millions of numbers": (exif(entry(3, 2**31, b"\xff\xff\xff\xff")), None),
    "notes about itself that end too soon": (exif(b"MM\0*\0\0\0\x08\xff\xff"), None),
    "notes about itself of another program": (exif(b"XX" + bytes(40)), None),
    "numbers with a point": (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), None),
}


@pytest.mark.parametrize("name", IMAGES)
def test_odd_images(name: str, model: Path, tmp_path: Path) -> None:
    make, says = IMAGES[name]

    def command(folder: Path) -> list[object]:
        (folder / "in").mkdir()
        make(folder / "in" / "a.png")
        return ["track", "in", "--model", model, "--out", "out", "--save", "csv", "--device", "cpu"]

    tried(command, tmp_path, says)


LIGHT = 200  # of 255
KINDS: dict[str, tuple[Image.Image, str]] = {
    "inks": (Image.new("CMYK", (12, 8), (0, 0, 0, 255 - LIGHT)), "JPEG"),
    "16 bits": (Image.fromarray(np.full((8, 12), LIGHT * 257, np.uint16)), "PNG"),
    "16 bits in a TIFF": (Image.fromarray(np.full((8, 12), LIGHT * 257, np.uint16)), "TIFF"),
    "a palette": (Image.new("L", (12, 8), LIGHT).convert("P"), "PNG"),
    "a palette that shows through": (Image.new("LA", (12, 8), (LIGHT, 0)).convert("RGBA").quantize(), "PNG"),
    "grey that shows through": (Image.new("LA", (12, 8), (LIGHT, 10)), "PNG"),
    "luminance and colour": (Image.new("YCbCr", (12, 8), (LIGHT, 128, 128)), "TIFF"),
    "lightness and colour": (Image.new("L", (12, 8), LIGHT).convert("RGB").convert("YCbCr"), "JPEG"),
}


@pytest.mark.parametrize("name", KINDS)
def test_other_colours_are_light_as_they_were(name: str, tmp_path: Path) -> None:
    """A light grey stays one, in a folder of images and as a frame of a data set."""
    image, kind = KINDS[name]
    path = small_set.write_set(tmp_path)
    frame = tmp_path / "JPEGImages" / "b" / "00000.png"
    image.save(frame, kind)
    with open_source(frame.parent) as source:
        alone = next(iter(source))
    dataset = load(path)
    within = read_frame(dataset, dataset.videos[1], 0)
    for found in (alone, within):
        assert found.shape == (8, 12, 3)
        assert abs(found.astype(int) - LIGHT).max() <= 3


def test_frames_that_are_links_out_of_the_folder(tmp_path: Path) -> None:
    def command(folder: Path) -> list[object]:
        small_set.write_set(folder)
        frame = folder / "JPEGImages" / "b" / "00000.png"
        frame.unlink()
        frame.symlink_to("/etc/passwd")
        return ["data", "check", "instances.json"]

    done = tried(command, tmp_path, "is not an image")
    assert "root" not in done.out + done.err


def test_a_folder_that_holds_itself(tmp_path: Path) -> None:
    def command(folder: Path) -> list[object]:
        small_set.write_set(folder)
        (folder / "JPEGImages" / "a" / "JPEGImages").symlink_to(folder / "JPEGImages")
        return ["data", "stats", "instances.json", "--json"]

    assert json.loads(tried(command, tmp_path, None).out)[0]["videos"] == 2


def test_large_images_are_read_without_a_warning(tmp_path: Path) -> None:
    def command(folder: Path) -> list[object]:
        path = small_set.write_set(folder)
        document = small_set.document()
        document["videos"][1].update(width=10_000, height=10_000)
        del document["annotations"][2]
        path.write_text(json.dumps(document))
        (folder / "JPEGImages" / "b" / "00000.png").write_bytes(png(10_000, 10_000))
        return ["data", "check", path]

    assert "arning" not in tried(command, tmp_path, None).err


def test_a_palette_that_shows_through_is_no_news(tmp_path: Path) -> None:
    def command(folder: Path) -> list[object]:
        path = small_set.write_set(folder)
        KINDS["a palette that shows through"][0].save(folder / "JPEGImages" / "b" / "00000.png")
        return ["data", "check", path]

    assert "arning" not in tried(command, tmp_path, None).err
