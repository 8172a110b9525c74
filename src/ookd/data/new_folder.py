"""Folders that appear whole or not at all, and never in place of something that was not asked to go.

Everything is written to `NAME.part` beside the final name and renamed when it is complete.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ookd.data.partial import write_error
from ookd.errors import UserError

log = logging.getLogger(__name__)


@contextmanager
def new_folder(out: Path, overwrite: bool, marks: tuple[str, ...]) -> Iterator[Path]:
    """Where to write what becomes `out`.

    With `overwrite` an existing folder is replaced, but only if it holds one of the files `marks`, by which a
    folder of the same kind is known: a mistyped name must not cost anybody a home folder.
    """
    check_free(out, overwrite, marks)
    part = out.with_name(out.name + ".part")
    if part.exists():
        log.warning("%s: left by a run that was killed; replaced", part)
        shutil.rmtree(part)
    try:
        part.mkdir(parents=True)
        yield part
        old = out.with_name(out.name + ".old")
        if out.exists():
            out.rename(old)
        part.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise write_error(error, out) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_free(out: Path, overwrite: bool, marks: tuple[str, ...]) -> None:
    """Raise unless `new_folder` may make `out`: for those who work long before they write."""
    check_not_home(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise UserError(f"{out}: exists; give another name or --overwrite")
    if not any((out / mark).is_file() for mark in marks):
        raise UserError(
            f"{out}: is not a folder that this command wrote (no {' or '.join(marks)}); not replaced"
        )


def check_not_home(out: Path) -> None:
    """Never to be replaced: the current folder, the user's own, and all that hold them."""
    places = {"the current folder": Path.cwd(), "your home folder": Path(os.path.expanduser("~"))}
    for name, place in places.items():
        if place.resolve().is_relative_to(out.resolve()):
            verb = "is" if place.resolve() == out.resolve() else "holds"
            raise UserError(f"{out}: {verb} {name}; give the name of a new one")


def check_apart(out: Path, source: Path) -> None:
    """Replacing a folder must not take away what is being read."""
    if out.resolve() in (source.resolve(), *source.resolve().parents):
        raise UserError(f"{out}: holds the data that is read; give another folder")
