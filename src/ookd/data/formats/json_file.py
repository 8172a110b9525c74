"""JSON files of unknown quality in, whole JSON files out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

from ookd.data.formats.problems import Problem, Report
from ookd.data.formats.records import shown
from ookd.files import write_file


def read_object(path: Path, report: Report) -> dict[str, Any] | None:
    """The file's JSON object, or None after a report. NaN and Infinity, which are not JSON, become floats."""
    try:
        raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # editors put this mark before UTF-8 text
        document = _parse(raw)
    except OSError as error:
        report(Problem(path, "", _reason(error)))
    except UnicodeDecodeError as error:
        report(Problem(path, f"byte {error.start}", "is not UTF-8 text; save the file as UTF-8"))
    except RecursionError:
        report(Problem(path, "", "is nested too deeply to be an annotation file"))
    except orjson.JSONDecodeError as error:
        at_end = error.pos >= len(error.doc) - 1
        hint = "; the file ends too early, copy it again" if at_end else ""
        place = f"line {error.lineno}, column {error.colno}" if error.doc.strip() else ""
        what = f"is not valid JSON: {error.msg}{hint}" if place else "is empty; right is a JSON object"
        report(Problem(path, place, what))
    else:
        if isinstance(document, dict):
            return document
        report(Problem(path, "", f"must be a JSON object, not {shown(document)}"))
    return None


def _parse(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        text = raw.decode("utf-8")
        try:  # Python writes NaN into JSON by default: read it, so that it can be said which record has it
            return json.loads(text, parse_int=_bounded)
        except ValueError:
            raise error from None


def _bounded(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    return f"cannot be read: {error.strerror or error}"


def write_json(path: Path, document: Any) -> None:
    """Write a whole JSON file."""
    write_file(path, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))
