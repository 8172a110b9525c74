"""Standard output that may be closed, full, or of an encoding that lacks characters."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress
from typing import Any

from ookd.errors import UserError, printable


class _Output(io.FileIO):
    """Standard output that reports in one line why it cannot be written."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:  # the reader closed the pipe
            raise
        except OSError as error:
            raise UserError(f"standard output: cannot be written: {error.strerror or error}") from None


class _Errors(io.FileIO):
    """Standard error that nobody may hear: what it does not take is lost, and the exit code stays."""

    def write(self, data: Any, /) -> int:
        with suppress(OSError):
            return super().write(data) or 0
        return len(data)


def prepare() -> None:
    """Point closed streams to the null device, or the next opened file would take their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False, encoding="utf-8"))
    before = sys.stdout
    if before is sys.__stdout__ and isinstance(before, io.TextIOWrapper):  # not replaced by the caller
        before.flush()
        output: Any = _Output(before.fileno(), "wb", closefd=False)
        sys.stdout = io.TextIOWrapper(
            output if before.write_through else io.BufferedWriter(output),
            before.encoding,
            "backslashreplace",
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )
    errors = sys.stderr
    if errors is sys.__stderr__ and isinstance(errors, io.TextIOWrapper):
        raw: Any = _Errors(errors.fileno(), "wb", closefd=False)
        sys.stderr = io.TextIOWrapper(raw, errors.encoding, "backslashreplace", write_through=True)
    if logging.lastResort is not None:  # which shows warnings that no command takes
        logging.lastResort.setFormatter(_Printable())


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def discard() -> None:
    """Drop what could not be written, or Python tries again at exit and complains."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def say(text: str) -> None:
    """Print a line. Names of files in it cannot control the terminal."""
    print(printable(text))
