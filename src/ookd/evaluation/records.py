"""The objects of a big JSON file, found by place without parsing them.

A result list of 10,000 videos is larger than memory should be. What is needed at one time is one video's
entries, which may lie anywhere in the file. So the file is read once to note where each object of its lists
begins and ends (counting braces, block by block) and which video it names; objects are parsed when asked for.
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

_BLOCK = 1 << 18  # bytes; what is made of them stays in the cache
_VIDEO = re.compile(rb'"video_id"\s*:\s*(-?\d{1,18})(?=\s*[,}])')


@dataclass(slots=True)
class Records:
    """The lists of objects in a JSON file: a bare list under the name "", else each list under its key."""

    path: Path
    lists: dict[str, list[int]] = field(default_factory=dict)  # name -> places of its objects, -1: no object
    places: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((0, 2), np.int64)
    )  # [P, 2] byte ranges
    videos: list[int | None] = field(default_factory=list)  # [P] the video that the object names
    parsed: dict[str, list[Any]] | None = None  # the whole file, where counting braces cannot cut it up

    @property
    def names(self) -> list[str]:
        return list(self.lists if self.parsed is None else self.parsed)

    def length(self, name: str) -> int:
        return len(self.lists[name] if self.parsed is None else self.parsed[name])

    def read(self, name: str, indices: list[int]) -> list[Any]:
        """The objects at these places of a list; what is no object comes as None."""
        if self.parsed is not None:
            return [self.parsed[name][i] for i in indices]
        with self.path.open("rb", buffering=0) as file:
            return [self._read_one(file, self.lists[name][i]) for i in indices]

    def _read_one(self, file: BinaryIO, place: int) -> Any:
        if place < 0:
            return None
        start, stop = self.places[place].tolist()
        file.seek(start)
        try:
            return parse(file.read(stop - start))
        except ValueError:
            raise NotCut(self.path) from None

    def by_video(self, name: str) -> dict[int | None, list[int]]:
        """Video -> indices of its objects in a list, in order; None: no readable video_id."""
        groups: dict[int | None, list[int]] = {}
        for i in range(self.length(name)):
            groups.setdefault(self._video(name, i), []).append(i)
        return groups

    def _video(self, name: str, i: int) -> int | None:
        if self.parsed is not None:
            return video_of(self.parsed[name][i])
        place = self.lists[name][i]
        return None if place < 0 else self.videos[place]


def video_of(entry: Any) -> int | None:
    """The video an entry names, if that is a whole number."""
    video = entry.get("video_id") if isinstance(entry, dict) else None
    return video if type(video) is int else None


def parse(text: bytes) -> Any:
    """JSON as other programs write it: Python's own writes NaN, which is no JSON. Raises ValueError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None


class NotCut(Exception):
    """Counting braces does not cut this file: a brace stands within a string, or it is no JSON at all."""


def scan(path: Path, whole: bool = False) -> Records:
    """Find the objects of a JSON list, or of the lists in a JSON object.

    Reading them proves the cuts, since a wrong piece is no JSON: it raises NotCut, and the file is to be
    scanned again as a `whole`.
    """
    try:
        return _by_parsing(path) if whole else _by_braces(path)
    except NotCut:
        return _by_parsing(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _by_braces(path: Path) -> Records:
    records = Records(path)
    places: list[NDArray[np.int64]] = []
    skeleton: list[bytes] = []  # the file with every object replaced by its number
    count = 0
    for text, offset, ranges in _cut(path):
        records.videos += _videos_named(text, ranges)
        places.append(ranges + offset)
        cursor = 0
        for start, stop in ranges.tolist():
            skeleton += [text[cursor:start], b'{"":%d}' % count]
            cursor = stop
            count += 1
        skeleton.append(text[cursor:])
    try:
        outline = orjson.loads(b"".join(skeleton))
    except ValueError:
        raise NotCut from None
    records.places = np.concatenate(places) if places else records.places
    named = {"": outline} if isinstance(outline, list) else outline
    if not isinstance(named, dict):
        raise NotCut
    for name, items in named.items():
        if isinstance(items, list):
            records.lists[name] = [item[""] if isinstance(item, dict) else -1 for item in items]
    return records


def _cut(path: Path) -> Iterator[tuple[bytes, int, NDArray[np.int64]]]:
    """Blocks of the file that end where an object ends: text, its offset, [n, 2] ranges of objects in it."""
    with path.open("rb") as file:
        tail, offset, outside = b"", 0, None
        while True:
            block = file.read(max(_BLOCK, len(tail)))  # growing while an object does not end
            text = tail + block
            if outside is None:
                outside = 1 if text.lstrip()[:1] == b"{" else 0  # braces around the lists
                depth_before = 0
            ranges, depth_after, cut = _objects(text, depth_before, outside)
            if not block:
                if depth_after != 0:
                    raise NotCut
                yield text, offset, ranges
                return
            if not len(ranges):
                tail = text
                continue
            yield text[:cut], offset, ranges
            tail, offset, depth_before = text[cut:], offset + cut, outside


def _objects(text: bytes, depth: int, outside: int) -> tuple[NDArray[np.int64], int, int]:
    """Ranges of the objects that begin at brace depth `outside` and end within the text."""
    code = np.frombuffer(text, np.uint8)
    place = np.flatnonzero((code == ord("{")) | (code == ord("}")))
    opens = code[place] == ord("{")
    after = depth + np.where(opens, 1, -1).cumsum()
    starts = place[opens & (after == outside + 1)]
    stops = place[~opens & (after == outside)] + 1
    starts = starts[: len(stops)]
    if len(starts) != len(stops) or (starts >= stops).any() or (after < 0).any():
        raise NotCut
    final = int(after[-1]) if len(after) else depth
    return np.stack([starts, stops], 1).astype(np.int64), final, int(stops[-1]) if len(stops) else 0


def _videos_named(text: bytes, ranges: NDArray[np.int64]) -> list[int | None]:
    """The video each object names; objects are parsed only where a plain search could mislead."""
    found = [_VIDEO.search(text, start, stop) for start, stop in ranges.tolist()]
    if text.count(b'"video_id"') == sum(match is not None for match in found):
        return [None if match is None else int(match[1]) for match in found]
    try:
        return [video_of(parse(text[start:stop])) for start, stop in ranges.tolist()]
    except ValueError:
        raise NotCut from None


def _by_parsing(path: Path) -> Records:
    try:
        whole = parse(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    named = {"": whole} if isinstance(whole, list) else whole
    if not isinstance(named, dict):
        raise UserError(f"{path}: neither a list nor an object of lists")
    return Records(path, parsed={name: items for name, items in named.items() if isinstance(items, list)})
