"""FiftyOne's own JSON of video samples (`samples.json`): polylines, or detections with masks, frame by frame.

An object is known over time by its `index`. Coordinates are shares of the frame. A detection's mask covers
its box; it is a compressed numpy array in base-64, which is read without unpickling.
"""

from __future__ import annotations

import base64
import io
import zlib
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import Any

import cv2
import numpy as np
import orjson
from numpy.typing import NDArray

from ookd import limits, untrusted
from ookd.data import rle
from ookd.data.formats.collecting import Collector
from ookd.data.formats.format import (
    AnnotationSource,
    Format,
    NamedVideos,
    Output,
    crowds_left_out,
    frame_files,
    split_of,
)
from ookd.data.formats.json_annotations import find_frames
from ookd.data.formats.json_file import read_object
from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.records import is_number
from ookd.data.formats.rings import ring_of
from ookd.data.frames import IMAGE_SUFFIXES
from ookd.files import write_file
from ookd.structures import Dataset, Track, Video

FILE = "samples.json"
LABEL_FIELD = "objects"  # of the frames that are written
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def find_fiftyone(path: Path) -> list[AnnotationSource]:
    file = path / FILE if path.is_dir() else path
    if file.name != FILE or not untrusted.is_file(file):
        return []
    return [AnnotationSource(FIFTYONE, file, split_of(file.parent.name))]


def read_fiftyone(source: AnnotationSource, report: Report) -> Dataset | None:
    file = source.path
    document = read_object(file, report)
    if document is None:
        return None
    samples = document.get("samples")
    if not isinstance(samples, list):
        report(Problem(file, "", "'samples' must be a list of samples"))
        return None
    collector = Collector(file, report)
    for place, sample in enumerate(samples):
        if isinstance(sample, dict):
            _read_sample(sample, f"sample {place}", collector)
        else:
            report(Problem(file, f"sample {place}", "must be an object"))
    first = collector.videos[0].file_names[0] if collector.videos else ""
    return collector.dataset(find_frames(file, first))


def _read_sample(sample: dict[str, Any], where: str, collector: Collector) -> None:
    path, meta, frames = sample.get("filepath"), sample.get("metadata"), sample.get("frames")
    meta = meta if isinstance(meta, dict) else {}
    size = [meta.get(key) for key in ("frame_width", "frame_height", "total_frame_count")]
    known = [value for value in size if type(value) is int and 0 < value <= limits.MEMBERS.most]
    if not isinstance(path, str) or not isinstance(frames, dict) or len(known) < 3:
        what = "needs 'filepath', 'frames' by number, and 'metadata' with frame_width, frame_height and "
        return collector.report(Problem(collector.file, where, what + "total_frame_count"))
    width, height, length = known
    names = (_frame_name(frames.get(str(n + 1)), path, n) for n in range(length))
    video = collector.video(PurePosixPath(path).stem, width, height, length, names)
    if video is None:
        return
    for number, fields in frames.items():
        if not isinstance(fields, dict) or not (number.isascii() and number.isdecimal() and len(number) < 10):
            collector.report(Problem(collector.file, f"{where}, frame {number[:20]!r}", "must be an object"))
            continue
        for label in _labels(fields):
            _add(label, video, int(number) - 1, collector)


def _frame_name(fields: Any, path: str, frame: int) -> str:
    """A frame's own image, or its place in the video file."""
    own = fields.get("filepath") if isinstance(fields, dict) else None
    return own if isinstance(own, str) and own else f"{path}/{frame}"


def _labels(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The polylines and detections in any field of a frame."""
    found = []
    for value in fields.values():
        if isinstance(value, dict):
            for key in ("polylines", "detections"):
                inner = value.get(key)
                found += [one for one in inner if isinstance(one, dict)] if isinstance(inner, list) else []
    return found


def _add(label: dict[str, Any], video: Video, frame: int, collector: Collector) -> None:
    where = f"video {video.extra['name']}, frame {frame}"
    name, index = label.get("label"), label.get("index")
    if not isinstance(name, str) or not name or type(index) is not int:
        what = "an object needs a 'label' and an 'index' that identifies it"
        return collector.report(Problem(collector.file, where, what))
    mask = _polygons(label, video) if "points" in label else _mask_in_box(label, video)
    if mask is None:
        what = f"object {index} has neither 'points' nor a 'mask' that can be read"
        return collector.report(Problem(collector.file, where, what))
    collector.add(video, index, name, frame, mask)


def _polygons(label: dict[str, Any], video: Video) -> list[list[float]] | None:
    shapes = label["points"]
    if not isinstance(shapes, list) or not shapes:
        return None
    polygons = []
    for shape in shapes:
        pairs = shape if isinstance(shape, list) else []
        if not pairs or not all(
            isinstance(p, list) and len(p) == 2 and all(is_number(v) for v in p) for p in pairs
        ):
            return None
        polygons.append((np.array(pairs) * (video.width, video.height)).ravel().tolist())
    return polygons


def _mask_in_box(label: dict[str, Any], video: Video) -> Any:
    box, mask = label.get("bounding_box"), label.get("mask")
    text = mask.get("$binary") if isinstance(mask, dict) else mask
    text = text.get("base64") if isinstance(text, dict) else text
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return None
    inside = _array(text) if isinstance(text, str) else None
    if inside is None:
        return None
    x, y, w, h = (round(v * side) for v, side in zip(box, (video.width, video.height) * 2, strict=True))
    if not (0 <= x < video.width and 0 <= y < video.height):
        return None
    w, h = max(1, min(w, video.width - x)), max(1, min(h, video.height - y))
    resized = cv2.resize((inside > 0).astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST)
    whole = np.zeros((video.height, video.width), bool)
    whole[y : y + h, x : x + w] = resized
    return rle.encode(whole)


def _array(text: str) -> NDArray[Any] | None:
    """[h, w] the array of whole numbers that a text holds; None if it holds something else."""
    try:
        inflater = zlib.decompressobj()
        content = io.BytesIO(inflater.decompress(base64.b64decode(text, validate=True), limits.PIXELS.most))
        header = _HEADERS[np.lib.format.read_magic(content)]
        shape, fortran, kind = header(content)
        if len(shape) != 2 or min(shape) < 1 or kind.kind not in "biu":
            return None
        values = np.frombuffer(content.read(), kind)
        return values.reshape(shape, order="F" if fortran else "C")
    except (ValueError, KeyError, TokenError, zlib.error, EOFError):
        return None


def write_fiftyone(dataset: Dataset, videos: NamedVideos, output: Output) -> list[str]:
    names = {category.id: category.name for category in dataset.categories}
    samples = []
    for name, video in videos:
        files = frame_files(dataset, name, video, output)
        frames = {}
        for frame, file in enumerate(files):
            lines = [
                {
                    "_cls": "Polyline",
                    "label": names[track.category_id],
                    "index": track.id,
                    "points": [_shares(video, track, frame)],
                    "closed": True,
                    "filled": True,
                    **({"confidence": track.extra["score"]} if "score" in track.extra else {}),
                }
                for track in video.tracks
                if track.segmentations[frame] is not None and not track.iscrowd
            ]
            own = {"filepath": file} if PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES else {}
            field = {LABEL_FIELD: {"_cls": "Polylines", "polylines": lines}}
            frames[str(frame + 1)] = {"frame_number": frame + 1, **own, **field}
        meta = {"frame_width": video.width, "frame_height": video.height, "total_frame_count": video.length}
        sample = {"filepath": _video_file(files[0], name), "_media_type": "video", "metadata": meta}
        samples.append({**sample, "frames": frames})
    write_file(output.folder / FILE, orjson.dumps({"samples": samples}))
    return crowds_left_out(dataset)


def _shares(video: Video, track: Track, frame: int) -> list[list[float]]:
    points = ring_of(video, track, frame) / (video.width, video.height)
    shares: list[list[float]] = np.round(points, 8).tolist()
    return shares


def _video_file(first: str, name: str) -> str:
    """The video file that holds the frames, or a name for their row of images."""
    path = PurePosixPath(first)
    return name if path.suffix.lower() in IMAGE_SUFFIXES else str(path.parent)


FIFTYONE = Format("fiftyone", "a FiftyOne samples.json", find_fiftyone, read_fiftyone, write_fiftyone, FILE)
