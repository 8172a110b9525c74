"""Reads single objects of a large JSON file without parsing the whole.

A result list for 10,000 videos may not fit into memory, and one video's entries may lie anywhere in it. So
the file is read once, block by block, to note where each object of its lists begins and ends (by counting
braces) and which video it names. An object is parsed only when it is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from ookd.errors import UserError
from ookd.untrusted import check_file

_BLOCK = 1 << 18  # bytes; small enough that everything derived from a block stays in the CPU cache
_VIDEO = re.compile(rb'"video_id"\s*:\s*(-?\d{1,18})(?=\s*[,}])')


class NotIndexable(Exception):
    """Counting braces does not work for this file: a string contains a brace, or the file is not JSON."""


@dataclass(slots=True)
class JsonIndex:
    """The lists of objects in a JSON file, by key. A file that is itself a list has one list, named ""."""

    path: Path
    lists: dict[str, list[int]] = field(default_factory=dict)  # name -> numbers of its objects; -1: no object
    ranges: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((0, 2), np.int64)
    )  # [N, 2] first byte and end of each object
    videos: list[int | None] = field(default_factory=list)  # [N] the video that each object names
    parsed: dict[str, list[Any]] | None = None  # the whole content, if the file cannot be indexed

    @property
    def names(self) -> list[str]:
        return list(self.lists if self.parsed is None else self.parsed)

    def length(self, name: str) -> int:
        return len(self.lists[name] if self.parsed is None else self.parsed[name])

    def read(self, name: str, indices: list[int]) -> list[Any]:
        """The objects at these indices of a list; None for anything that is not an object."""
        if self.parsed is not None:
            return [self.parsed[name][i] for i in indices]
        with self.path.open("rb", buffering=0) as file:
            return [self._read_one(file, self.lists[name][i]) for i in indices]

    def _read_one(self, file: BinaryIO, number: int) -> Any:
        if number < 0:
            return None
        start, stop = self.ranges[number].tolist()
        file.seek(start)
        try:
            return parse(file.read(stop - start))
        except ValueError:
            raise NotIndexable(self.path) from None

    def by_video(self, name: str) -> dict[int | None, list[int]]:
        """Video -> indices of its objects in a list, in order. None stands for an unreadable video_id."""
        groups: dict[int | None, list[int]] = {}
        for i in range(self.length(name)):
            groups.setdefault(self._video(name, i), []).append(i)
        return groups

    def _video(self, name: str, i: int) -> int | None:
        if self.parsed is not None:
            return video_of(self.parsed[name][i])
        number = self.lists[name][i]
        return None if number < 0 else self.videos[number]


def video_of(entry: Any) -> int | None:
    """The video that an entry names, if it is a whole number."""
    video = entry.get("video_id") if isinstance(entry, dict) else None
    return video if type(video) is int else None


def parse(text: bytes) -> Any:
    """Parse JSON, also with the NaN that Python writes. Raises ValueError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def index_json(path: Path, whole: bool = False) -> JsonIndex:
    """Find the objects of a JSON list, or of the lists in a JSON object.

    Wrong boundaries show when an object is read, because a wrong piece is not valid JSON: reading then raises
    NotIndexable, and the caller indexes the file again with `whole`, which parses it completely.
    """
    check_file(path)
    try:
        return _parse_whole(path) if whole else _index(path)
    except NotIndexable:
        return _parse_whole(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _index(path: Path) -> JsonIndex:
    index = JsonIndex(path)
    ranges_of_blocks: list[NDArray[np.int64]] = []
    skeleton: list[bytes] = []  # the file with every object replaced by its number
    count = 0
    for text, offset, ranges in _blocks(path):
        index.videos += _videos_named(text, ranges)
        ranges_of_blocks.append(ranges + offset)
        cursor = 0
        for start, stop in ranges.tolist():
            skeleton += [text[cursor:start], b'{"":%d}' % count]
            cursor = stop
            count += 1
        skeleton.append(text[cursor:])
    try:
        outline = orjson.loads(b"".join(skeleton))
    except ValueError:
        raise NotIndexable from None
    index.ranges = np.concatenate(ranges_of_blocks) if ranges_of_blocks else index.ranges
    named = {"": outline} if isinstance(outline, list) else outline
    if not isinstance(named, dict):
        raise NotIndexable
    for name, items in named.items():
        if isinstance(items, list):
            index.lists[name] = [item[""] if isinstance(item, dict) else -1 for item in items]
    return index


def _blocks(path: Path) -> Iterator[tuple[bytes, int, NDArray[np.int64]]]:
    """Blocks of the file that end where an object ends: text, its offset, [n, 2] ranges of objects in it."""
    with path.open("rb") as file:
        tail, offset, outside = b"", 0, None
        while True:
            block = file.read(max(_BLOCK, len(tail)))  # grows while an object does not end
            text = tail + block
            if outside is None:
                outside = 1 if text.lstrip()[:1] == b"{" else 0  # braces around the lists
                depth_before = 0
            ranges, depth_after, cut = _objects(text, depth_before, outside)
            if not block:
                if depth_after != 0:
                    raise NotIndexable
                yield text, offset, ranges
                return
            if not len(ranges):
                tail = text
                continue
            yield text[:cut], offset, ranges
            tail, offset, depth_before = text[cut:], offset + cut, outside


def _objects(text: bytes, depth: int, outside: int) -> tuple[NDArray[np.int64], int, int]:
    """The objects that begin at brace depth `outside` and end within the text.

    Returns their ranges, the depth at the end of the text, and where the last object ends.
    """
    code = np.frombuffer(text, np.uint8)
    braces = np.flatnonzero((code == ord("{")) | (code == ord("}")))
    opens = code[braces] == ord("{")
    after = depth + np.where(opens, 1, -1).cumsum()
    starts = braces[opens & (after == outside + 1)]
    stops = braces[~opens & (after == outside)] + 1
    starts = starts[: len(stops)]
    if len(starts) != len(stops) or (starts >= stops).any() or (after < 0).any():
        raise NotIndexable
    final = int(after[-1]) if len(after) else depth
    return np.stack([starts, stops], 1).astype(np.int64), final, int(stops[-1]) if len(stops) else 0


def _videos_named(text: bytes, ranges: NDArray[np.int64]) -> list[int | None]:
    """The video that each object names. Objects are parsed only if a text search could be misled."""
    found = [_VIDEO.search(text, start, stop) for start, stop in ranges.tolist()]
    if text.count(b'"video_id"') == sum(match is not None for match in found):
        return [None if match is None else int(match[1]) for match in found]
    try:
        return [video_of(parse(text[start:stop])) for start, stop in ranges.tolist()]
    except ValueError:
        raise NotIndexable from None


def _parse_whole(path: Path) -> JsonIndex:
    try:
        whole = parse(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    named = {"": whole} if isinstance(whole, list) else whole
    if not isinstance(named, dict):
        raise UserError(f"{path}: neither a list nor an object of lists")
    return JsonIndex(path, parsed={name: items for name, items in named.items() if isinstance(items, list)})
