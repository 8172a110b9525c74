"""CVAT for video 1.1: one XML file per task, with tracks of polygons.

A folder holds one file for each video. Frames of a video file are named through it (`street.mp4/12`), those
of an image task as CVAT exports them (`images/frame_000012.PNG`), and ours by a tag that CVAT passes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

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
from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.rings import ring_of
from ookd.data.frames import VIDEO_SUFFIXES
from ookd.errors import UserError
from ookd.files import write_file
from ookd.structures import Dataset, Track, Video

MASKS = ("polygon", "mask")
SHAPES = (*MASKS, "box", "polyline", "points", "ellipse", "skeleton", "cuboid")
_HEAD = 512  # bytes in which the first tag of a file is found


def find_cvat(path: Path) -> list[AnnotationSource]:
    files = [path] if path.is_file() else _files(path)
    found = any(file.suffix.lower() == ".xml" and _is_cvat(file) for file in files)
    return [AnnotationSource(CVAT, path, split_of(path.stem))] if found else []


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.xml")) if folder.is_dir() else []


def _is_cvat(file: Path) -> bool:
    if not untrusted.is_file(file):
        return False
    with file.open("rb") as opened:
        return b"<annotations" in opened.read(_HEAD)


def read_cvat(source: AnnotationSource, report: Report) -> Dataset | None:
    """All videos of a file or folder; tracks of a class are of one class in all of them."""
    path = source.path
    collector = Collector(path, report)
    for file in [path] if path.is_file() else _files(path):
        collector.file = file
        if (root := _parse(file, report)) is not None:
            _read_task(root, file, collector)
    return collector.dataset(path if path.is_dir() else path.parent)


def _parse(file: Path, report: Report) -> Element | None:
    try:
        text = untrusted.read_bytes(file, limits.FILE)
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            report(Problem(file, "", "defines entities, which CVAT never does; it is not read"))
            return None
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, UserError, ValueError, LookupError) as error:  # or an unknown encoding
        report(Problem(file, "", f"is not valid XML: {str(error).removeprefix(f'{file}: ')}"))
        return None
    if root.tag != "annotations":
        report(Problem(file, "", f"holds <{root.tag[:40]}>, not the <annotations> of CVAT"))
        return None
    if root.find("image") is not None:
        report(Problem(file, "", "is of 'CVAT for images', without tracks; export as 'CVAT for video 1.1'"))
        return None
    return root


def _read_task(root: Element, file: Path, collector: Collector) -> None:
    meta = root.find("meta")
    if meta is None:
        return collector.report(Problem(file, "", "has no <meta>"))
    for label in meta.iterfind(".//label/name"):
        collector.class_named((label.text or "").strip() or "unnamed")
    width, height = (_whole(meta.findtext(f".//original_size/{side}")) for side in ("width", "height"))
    length = _whole(meta.findtext(".//size"))
    if not width or not height or not length:
        what = "needs <size>, the number of frames, and <original_size> with <width> and <height>"
        return collector.report(Problem(file, "meta", what))
    if length > limits.MEMBERS.most:
        return collector.report(Problem(file, "meta", f"a video of {length} frames is not read"))
    video = collector.video(_name(meta, file), width, height, length, _file_names(meta, length))
    if video is None:
        return
    for track in root.iterfind("track"):
        for shape in track:
            frame = _whole(shape.get("frame"))
            if shape.tag not in SHAPES or shape.get("outside") == "1":
                continue
            where = f"track {track.get('id')}"
            if frame is None:
                collector.report(Problem(file, where, "a shape has no frame"))
            elif shape.tag not in MASKS:
                what = f"<{shape.tag}> is no mask; draw polygons"
                collector.report(Problem(file, f"{where}, frame {frame}", what))
            elif (mask := _mask(shape, video)) is None:
                what = f"the points of its <{shape.tag}> cannot be read"
                collector.report(Problem(file, f"{where}, frame {frame}", what))
            else:
                collector.add(video, track.get("id"), track.get("label") or "unnamed", frame, mask)


def _mask(shape: Element, video: Video) -> Any:
    """The polygon or run lengths of a shape; None if it has none that can be read."""
    try:
        if shape.tag == "polygon":
            pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
            return [np.array(pairs, float).reshape(len(pairs), 2).ravel().tolist()]
        if shape.tag == "mask":
            left, top, width, height = (int(shape.get(key, "")) for key in ("left", "top", "width", "height"))
            runs = np.array([int(run) for run in shape.get("rle", "").split(",")])
            inside = left >= 0 <= top and 0 < width <= video.width - left and 0 < height <= video.height - top
            if inside and (runs >= 0).all() and runs.sum() == width * height:
                whole = np.zeros((video.height, video.width), bool)
                flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
                whole[top : top + height, left : left + width] = flat.reshape(height, width)
                return rle.encode(whole)
    except (ValueError, OverflowError):
        pass
    return None


def _name(meta: Element, file: Path) -> str:
    return (meta.findtext("./task/name") or meta.findtext("./job/name") or "").strip() or file.stem


def _file_names(meta: Element, length: int) -> Iterable[str]:
    """Where the frames are."""
    own = meta.findtext("ookd_frames")
    if own is not None and len(names := own.split("\n")) == length:
        return names
    source = (meta.findtext(".//source") or "").strip()
    if PurePosixPath(source).suffix.lower() in VIDEO_SUFFIXES:
        return (f"{source}/{frame}" for frame in range(length))
    return (f"images/frame_{frame:06d}.PNG" for frame in range(length))


def _whole(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def write_cvat(dataset: Dataset, videos: NamedVideos, output: Output) -> list[str]:
    names = {category.id: category.name for category in dataset.categories}
    for name, video in videos:
        files = frame_files(dataset, name, video, output)
        document = Element("annotations")
        SubElement(document, "version").text = "1.1"
        _write_meta(SubElement(document, "meta"), name, video, list(names.values()), files)
        for number, track in enumerate(track for track in video.tracks if not track.iscrowd):
            element = SubElement(document, "track", id=str(number), label=names[track.category_id])
            for frame, shape in _shapes(video, track):
                fields = {"frame": str(frame), "keyframe": "1", "outside": str(int(shape is None))}
                fields |= {"occluded": "0", "z_order": "0", "points": shape or ""}
                SubElement(element, "polygon", fields)
        ElementTree.indent(document)
        text = ElementTree.tostring(document, "unicode", xml_declaration=True)
        write_file(output.folder / f"{name}.xml", text + "\n")
    write_file(output.folder / MARKER, "\n".join(names.values()) + "\n")
    return crowds_left_out(dataset)


def _write_meta(meta: Element, name: str, video: Video, names: list[str], files: list[str]) -> None:
    task = SubElement(meta, "task")
    SubElement(task, "name").text = name
    SubElement(task, "size").text = str(video.length)
    SubElement(task, "mode").text = "interpolation"
    labels = SubElement(task, "labels")
    for one in names:
        SubElement(SubElement(labels, "label"), "name").text = one
    size = SubElement(task, "original_size")
    SubElement(size, "width").text, SubElement(size, "height").text = str(video.width), str(video.height)
    SubElement(meta, "ookd_frames").text = "\n".join(files)


def _shapes(video: Video, track: Track) -> Iterator[tuple[int, str | None]]:
    """The points in each frame that shows a track, and None in the one after: it is gone there."""
    last = ""
    for frame, segmentation in enumerate(track.segmentations):
        if segmentation is not None:
            points = ring_of(video, track, frame).round(3).tolist()
            last = ";".join(f"{x:g},{y:g}" for x, y in points)
            yield frame, last
        elif last:
            yield frame, None
            last = ""


MARKER = "labels.txt"
CVAT = Format("cvat", "CVAT for video .xml", find_cvat, read_cvat, write_cvat, MARKER)
