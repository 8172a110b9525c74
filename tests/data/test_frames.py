"""Frames from folders, archives and videos, read where they lie."""

from __future__ import annotations

import io
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import small_set
from ookd.data.check_frames import FrameCheck
from ookd.data.convert import convert
from ookd.data.formats import load
from ookd.data.frames import read_frame, video_name
from ookd.data.video import VideoWriter
from ookd.errors import UserError
from ookd.structures import Dataset, Video


def one_frame(root: Path, name: str) -> tuple[Dataset, Video]:
    video = Video(1, small_set.WIDTH, small_set.HEIGHT, [name])
    return Dataset([], [video], root), video


def pack(kind: str, folder: Path) -> Path:
    archive = folder / f"JPEGImages.{kind}"
    images = folder / "JPEGImages"
    files = {str(file.relative_to(images)): file for file in sorted(images.rglob("*.png"))}
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for name, file in files.items():
                packed.write(file, name)
    else:
        with tarfile.open(archive, "w:gz" if kind == "tgz" else "w") as packed:
            for name, file in files.items():
                packed.add(
                    file, f"./{name}" if kind == "tar" else name
                )  # as tar calls them, and as Python does
    return archive


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_archives_are_read_in_place_by_many_threads(kind: str, tmp_path: Path) -> None:
    annotations = small_set.write_set(tmp_path)
    archive = pack(kind, tmp_path)
    dataset = load(annotations, frames=archive)
    frames = [0, 1, 2] * 20
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda frame: read_frame(dataset, dataset.videos[0], frame), frames))
    for frame, image in zip(frames, images, strict=True):
        assert (image == small_set.image("a", frame)).all()


def test_a_path_may_lead_into_an_archive(tmp_path: Path) -> None:
    annotations = small_set.write_set(tmp_path)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        packed.write(tmp_path / "JPEGImages/b/00000.png", "train/deep/b/00000.png")
        packed.write(tmp_path / "JPEGImages/b/00000.png", "c.mp4/00000.png")
    dataset = load(annotations, frames=tmp_path / "all.zip/train/deep")
    assert (read_frame(dataset, dataset.videos[1], 0) == small_set.image("b", 0)).all()
    assert (
        read_frame(*one_frame(tmp_path / "all.zip", "c.mp4/00000.png"), 0) == small_set.image("b", 0)
    ).all()
    with pytest.raises(UserError, match=r"all.zip: holds no 'train/deep/a/00000.png'"):
        read_frame(dataset, dataset.videos[0], 0)


@pytest.mark.parametrize(
    ("root", "name"), [("", "clip.mp4/2"), ("clip.mp4", "frame_000002.PNG"), ("clip.mp4", "2")]
)
def test_a_path_may_lead_into_a_video(root: str, name: str, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 5) as writer:
        for level in (0, 60, 120, 180, 240):
            writer.write(np.full((32, 48, 3), level, np.uint8))
    image = read_frame(*one_frame(tmp_path / root, name), 0)
    assert image.shape == (32, 48, 3)
    assert abs(int(image.mean()) - 120) < 8


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (3, 2), 7).save(tmp_path / "grey.png")
    Image.new("RGBA", (3, 2), (1, 2, 3, 0)).save(tmp_path / "clear.png")
    assert (read_frame(*one_frame(tmp_path, "grey.png"), 0) == 7).all()
    assert (read_frame(*one_frame(tmp_path, "clear.png"), 0) == [1, 2, 3]).all()


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the image file is empty"),
        (b"hello", "is not an image"),
        (jpeg()[:-200], "damaged or cut off"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is not an image|damaged"),
    ],
)
def test_damaged_images_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_frame(*one_frame(tmp_path, "x.jpg"), 0)
    assert str(tmp_path / "x.jpg") in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "missing.jpg",
        "text.txt/a.jpg",
        "broken.zip/a.jpg",
        "broken.tar/a.jpg",
        "no.mp4/3",
        "no.mp4/a",
        "a\0b.jpg",
        ".",
    ],
)
def test_paths_that_lead_nowhere_are_one_line(name: str, tmp_path: Path) -> None:
    for file in ("text.txt", "broken.zip", "broken.tar"):
        (tmp_path / file).write_text("not an archive")
    with pytest.raises(UserError) as caught:
        read_frame(*one_frame(tmp_path, name), 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["{outside}", "../secret.png", "a/../../secret.png", "/proc/self/environ"])
def test_frames_lie_below_the_root(name: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "a").mkdir(parents=True)
    Image.new("RGB", (small_set.WIDTH, small_set.HEIGHT)).save(tmp_path / "secret.png")
    dataset, video = one_frame(root, name.format(outside=tmp_path / "secret.png"))
    dataset.videos.append(video)
    with pytest.raises(UserError, match="is not below"):
        read_frame(dataset, video, 0)
    with pytest.raises(UserError, match="is not below"):
        convert(dataset, tmp_path / "out", "ytvis")
    assert not (tmp_path / "out").exists()
    with FrameCheck(dataset, pixels=True) as look:
        assert ["is not below" in str(problem) for problem in look.check_video(video)] == [True]


@pytest.mark.parametrize(
    ("files", "extra", "name"),
    [
        (["street/1.jpg", "street/2.jpg"], {}, "street"),
        (["1.jpg", "2.jpg"], {}, "5"),
        (["coco/000042.jpg"], {}, "000042"),
        (["a/1.jpg"], {"name": "Rue de la Paix/2"}, "Rue de la Paix_2"),
        (["../1.jpg", "../2.jpg"], {}, "5"),
    ],
)
def test_videos_have_names_that_are_safe_in_paths(files: list[str], extra: dict[str, str], name: str) -> None:
    assert video_name(Video(5, 1, 1, files, extra=dict(extra))) == name
