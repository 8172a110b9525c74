"""JSON files of unknown quality in, whole JSON files out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

from ookd.data.formats.problems import Problem, Report
from ookd.data.partial import finish, part_of, write_error


def read_json(path: Path, report: Report) -> Any | None:
    """The document, or None after a report. NaN and Infinity, which are not JSON, come back as floats."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        report(Problem(path, "", _reason(error)))
        return None
    if not raw.strip():
        report(Problem(path, "", "is empty; an annotation file is a JSON object"))
        return None
    raw = raw.removeprefix(b"\xef\xbb\xbf")  # the mark that some editors put before UTF-8 text
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as strict_error:
        return _read_lenient(path, raw, strict_error, report)


def _read_lenient(path: Path, raw: bytes, strict_error: orjson.JSONDecodeError, report: Report) -> Any | None:
    """Python writes NaN into JSON by default: read it, so that the check can say which record holds it."""
    try:
        return json.loads(raw.decode("utf-8"), parse_int=_bounded)
    except UnicodeDecodeError as error:
        report(Problem(path, f"byte {error.start}", "is not UTF-8 text; save the file as UTF-8"))
    except RecursionError:
        report(Problem(path, "", "is nested too deeply to be an annotation file"))
    except ValueError:
        at_end = strict_error.pos >= len(strict_error.doc) - 1
        hint = "; the file ends too early, copy it again" if at_end else ""
        where = f"line {strict_error.lineno}, column {strict_error.colno}"
        report(Problem(path, where, f"is not valid JSON: {strict_error.msg}{hint}"))
    return None


def _bounded(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    return f"cannot be read: {error.strerror or error}"


def write_json(path: Path, document: Any) -> None:
    """Written beside and renamed, so that a kill at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        part.write_bytes(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))
        finish(part, path)
    except OSError as error:
        raise write_error(error, path) from None
