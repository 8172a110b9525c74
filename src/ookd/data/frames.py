"""Read the frames of a data set from folders, archives or video files.

A frame's path may lead *through* an archive or a video as if it were a folder: `clips.zip/cat/0001.jpg` is a
member, and in `street.mp4/12` or `street.mp4/frame_000012.png` the last number is the frame, counted from 0.
Nothing is unpacked.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ookd import untrusted
from ookd.data.archives import is_archive, read_member
from ookd.data.image_files import as_rgb, open_image
from ookd.errors import UserError
from ookd.structures import Dataset, Video

VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
_MOST_DIGITS = 12  # of the number of a frame
_CHUNK = 32  # frames decoded at once when a video file is split into images
_DECODED = 128 << 20  # bytes of frames of a video file that are decoded at once


def frame_path(dataset: Dataset, video: Video, index: int) -> Path:
    """Where a frame lies: below the root, or a data set could name any file of the machine."""
    name, root = PurePath(video.file_names[index]), dataset.root or Path()
    if name.anchor or ".." in name.parts:
        raise UserError(
            f"{root / name}: is not below {root}; names of frames are relative to it, without '..'"
        )
    return root / name


def video_name(video: Video) -> str:
    """A video's name in file names and messages: its own, that of its folder, or of its only image."""
    name = video.extra.get("name")
    if not isinstance(name, str) or not name:
        first = PurePosixPath(video.file_names[0])
        name = first.stem if video.length == 1 else first.parent.name
    return re.sub(r"[^\w.\- ]", "_", name).strip(". ") or str(video.id)


def read_frame(dataset: Dataset, video: Video, index: int) -> NDArray[np.uint8]:
    """[H, W, 3] RGB"""
    path = frame_path(dataset, video, index)
    if (in_clip := through_video(path)) is not None:
        return _decoded([in_clip])[in_clip]
    return decode_image(read_bytes(path), path)


def read_frames(dataset: Dataset, video: Video, frames: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
    """Many frames, one after the other. Of a video file some are decoded at once, which saves seeking."""
    most = max(1, _DECODED // (3 * video.width * video.height))
    left = iter(frames)
    while some := list(islice(left, most)):
        paths = [frame_path(dataset, video, frame) for frame in some]
        if any(through_video(path) is None for path in paths):
            yield from (read_frame(dataset, video, frame) for frame in some)
            continue
        in_clips = [in_clip for path in paths if (in_clip := through_video(path)) is not None]
        images = _decoded(in_clips)
        yield from (images[in_clip] for in_clip in in_clips)


def frame_stems(video: Video) -> list[str]:
    """File names without suffix for a video's frames: its own if they differ and are plain, else numbers."""
    stems = [PurePosixPath(name).stem for name in video.file_names]
    if len(set(stems)) == len(stems) and all(re.fullmatch(r"[\w\-][\w.\- ]*", stem) for stem in stems):
        return stems
    return [f"{index:05d}" for index in range(video.length)]


def named_videos(dataset: Dataset) -> Iterator[tuple[str, Video]]:
    """Each video with a unique name for its folder; where two would share one, the id is added."""
    taken: set[str] = set()
    for video in dataset.videos:
        name = video_name(video)
        while name in taken:
            name = f"{name}_{video.id}"
        taken.add(name)
        yield name, video


def copy_frames(dataset: Dataset, video: Video, folder: Path, stems: Sequence[str]) -> list[str]:
    """Write a video's frames as image files and return their names. Images are copied unchanged."""
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    for first in range(0, video.length, _CHUNK):
        paths = [frame_path(dataset, video, first + n) for n in range(min(_CHUNK, video.length - first))]
        in_clips = [through_video(path) for path in paths]
        images = _decoded([in_clip for in_clip in in_clips if in_clip is not None])
        for path, in_clip, stem in zip(paths, in_clips, stems[first:], strict=False):
            if in_clip is None:
                names.append(f"{stem}{path.suffix}")
                (folder / names[-1]).write_bytes(read_bytes(path))
            else:
                names.append(f"{stem}.png")
                Image.fromarray(images[in_clip]).save(folder / names[-1])
    return names


def _decoded(wanted: Sequence[tuple[Path, int]]) -> dict[tuple[Path, int], NDArray[np.uint8]]:
    """Frames of video files, decoded file by file, which needs less seeking."""
    from ookd.data.video import read_frames

    numbers: dict[Path, list[int]] = defaultdict(list)
    for clip, number in wanted:
        numbers[clip].append(number)
    return {
        (clip, number): image
        for clip, of_clip in numbers.items()
        for number, image in zip(of_clip, read_frames(clip, of_clip), strict=True)
    }


def decode_image(content: bytes, path: Path) -> NDArray[np.uint8]:
    """[H, W, 3] RGB; messages name the path."""
    if not content:
        raise UserError(f"{path}: the image file is empty")
    try:
        with open_image(io.BytesIO(content)) as image:
            return as_rgb(image)
    except UnidentifiedImageError:
        raise UserError(f"{path}: is not an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: the image is damaged or cut off ({error}); copy it again") from None


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image file from its header alone."""
    try:
        with open_image(path if untrusted.is_file(path) else io.BytesIO(read_bytes(path))) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        empty = untrusted.is_file(path) and path.stat().st_size == 0
        raise UserError(f"{path}: " + ("the image file is empty" if empty else "is not an image")) from None


def read_bytes(path: Path) -> bytes:
    """The content of a file, which may lie in an archive."""
    fault = untrusted.fault_of(path)
    if fault is None:
        return untrusted.read_bytes(path)
    if fault != untrusted.MISSING:
        raise UserError(f"{path}: {fault}")
    container = _container(path)
    if container is None:
        raise UserError(f"{path}: no such image")
    member = path.relative_to(container).as_posix()
    if not is_archive(container):
        raise UserError(f"{path}: {container.name} is neither a folder, an archive nor a video")
    return read_member(container, member)


def through_video(path: Path) -> tuple[Path, int] | None:
    """(video file, frame) where the path leads through a video, else None."""
    video = next((parent for parent in path.parents if parent.suffix.lower() in VIDEO_SUFFIXES), None)
    if video is None or video.is_dir() or _container(video) is not None:  # frames in a folder of that name
        return None
    number = re.search(r"([0-9]+)(?!.*[0-9])", path.stem)
    if number is None or len(number[1]) > _MOST_DIGITS:
        raise UserError(f"{path}: names no frame of {video.name}; write, for example, {video.name}/12")
    return video, int(number[1])


def _container(path: Path) -> Path | None:
    """The nearest ancestor that is a file."""
    return next((parent for parent in path.parents if untrusted.is_file(parent)), None)
