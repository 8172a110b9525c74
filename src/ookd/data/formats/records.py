"""Typed access to JSON records of unknown quality: a wrong field is reported and read as None."""

from __future__ import annotations

import reprlib
from collections.abc import Container, Iterator
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

from ookd import limits
from ookd.data.formats.problems import Problem, Report

_LARGEST = 2**53  # of whole numbers and coordinates: the last that every program reads the same

_shorten = reprlib.Repr()  # stops early on huge or deeply nested values


class JsonRecord:
    """One JSON object, its place in the file, and where to report problems with it."""

    __slots__ = ("fields", "file", "report", "where")

    def __init__(self, fields: dict[str, Any], file: Path, where: str, report: Report) -> None:
        self.fields = fields
        self.file = file
        self.where = where
        self.report = report

    def complain(self, what: str, frame: int | None = None) -> None:
        where = self.where if frame is None else f"{self.where}, frame {frame}"
        self.report(Problem(self.file, where, what))

    def integer(self, key: str, least: int | None = None) -> int | None:
        value = self.fields.get(key)
        if type(value) is not int:
            self.complain(f"'{key}' must be a whole number, not {shown(value, key in self.fields)}")
            return None
        if abs(value) > _LARGEST:
            self.complain(f"'{key}' is {shown(value)}; it must have at most 53 bits")
            return None
        if least is not None and value < least:
            self.complain(f"'{key}' is {value}; it must be at least {least}")
            return None
        return value

    def text(self, key: str) -> str | None:
        value = self.fields.get(key)
        if not isinstance(value, str) or not value:
            self.complain(f"'{key}' must be a text, not {shown(value, key in self.fields)}")
            return None
        return value

    def array(self, key: str) -> list[Any] | None:
        value = self.fields.get(key)
        if not isinstance(value, list):
            self.complain(f"'{key}' must be a list, not {shown(value, key in self.fields)}")
            return None
        return value

    def size(self) -> tuple[int, int] | None:
        """(width, height)"""
        width, height = self.integer("width", 1), self.integer("height", 1)
        if width is None or height is None:
            return None
        fault = limits.PIXELS.exceeded(width * height) or limits.SIDE.exceeded(max(width, height))
        if fault is not None:
            self.complain(f"a frame of {width} x {height} has {fault}")
            return None
        return width, height

    def flag(self, key: str) -> bool:
        value = self.fields.get(key, 0)
        if value not in (0, 1):
            self.complain(f"'{key}' must be 0 or 1, not {shown(value)}")
            return False
        return bool(value)

    def repeats(self, number: int, known: Container[int]) -> bool:
        if number in known:
            self.complain(f"the id {number} is used twice; ids must differ")
        return number in known

    def rest(self, *known: str) -> dict[str, Any]:
        """Fields that the format does not define, kept so that they can be written back."""
        return {key: value for key, value in self.fields.items() if key not in known}


def records(
    document: dict[str, Any], key: str, name: str, file: Path, report: Report
) -> Iterator[JsonRecord]:
    """The objects of a list, each named by its id, or by its position if it has none."""
    items = document.get(key)
    if not isinstance(items, list):
        what = f"'{key}' must be a list of objects, not {shown(items, key in document)}"
        report(Problem(file, "", what))
        return
    for place, item in enumerate(items):
        if isinstance(item, dict):
            number = item.get("id")
            where = f"{name} {number}" if type(number) is int else f"{key}[{place}]"
            yield JsonRecord(item, file, where, report)
        else:
            report(Problem(file, f"{key}[{place}]", f"must be an object, not {shown(item)}"))


def shown(value: Any, present: bool = True) -> str:
    """A value as messages show it: short, on one line."""
    if not present:
        return "missing"
    text = _shorten.repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def bad_box(boxes: list[Any]) -> Iterator[tuple[int, str]]:
    """(frame, problem) of each entry that is neither null nor [x, y, w, h] with finite numbers."""
    present = [box for box in boxes if box is not None]
    if set(map(type, present)) <= {list} and set(map(len, present)) <= {4}:  # fast: sets are large
        flat = list(chain.from_iterable(present))
        if set(map(type, flat)) <= {int, float} and all(map(isfinite, flat)):
            largest = max(map(abs, flat), default=0)
            if largest <= _LARGEST:
                return
    for frame, box in enumerate(boxes):
        if box is None:
            continue
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            yield frame, f"box {shown(box)} must be [x, y, width, height] with finite numbers, or null"


def bad_area(areas: list[Any]) -> Iterator[tuple[int, str]]:
    for frame, area in enumerate(areas):
        if area is not None and not (is_number(area) and 0 <= area <= limits.PIXELS.most):
            yield frame, f"area {shown(area)} must be a number of pixels, or null"


def bad_segmentation(segmentations: list[Any]) -> Iterator[tuple[int, str]]:
    """Checks only the type; the content is read when a mask is needed, and by `ookd data check`."""
    for frame, segmentation in enumerate(segmentations):
        if segmentation is not None and not isinstance(segmentation, dict | list):
            what = f"segmentation {shown(segmentation)} must be an RLE, a list of polygons, or null"
            yield frame, what


def is_number(value: Any) -> bool:
    """Whether a value is a plain number, finite and of a size that every program can read."""
    return type(value) in (int, float) and abs(value) <= _LARGEST  # false for NaN
