"""Files that appear whole or not at all.

Output is written beside its place as `NAME.part` and renamed when it is complete. A process that is killed
leaves the part, never half a file under the final name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from ookd.errors import UserError

log = logging.getLogger(__name__)


def part_of(path: Path) -> Path:
    """Where to write what will become `path`; says so if a killed run left something there."""
    part = path.with_name(path.name + ".part")
    if part.exists():
        log.warning("%s: left by a killed run; replaced", part)
    return part


def finish(part: Path, path: Path) -> None:
    """Give a complete file its name, once its content is on the disk."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def write_error(error: Exception, path: Path) -> UserError:
    """One line for a disk that is full, gone or forbidden."""
    part = path.with_name(path.name + ".part")
    rest = f"; what was written until then is in {part.name}" if part.exists() else ""
    return UserError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}{rest}")


class PartialText:
    """A text file under construction. Every `write` goes to the disk at once, so that whole lines survive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = part_of(path)
        try:
            self._file = self._part.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise write_error(error, path) from None
        self._broken = False

    def write(self, text: str) -> None:
        if self._broken:  # which was said when it happened
            return
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Give the file its name, unless writing failed."""
        if self._broken or self._file.closed:
            return
        try:
            self._file.close()
            finish(self._part, self.path)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._broken = True
        with suppress(OSError):  # the same trouble again
            self._file.close()
        raise write_error(error, self.path) from None


def claim_folder(folder: Path, overwrite: bool, parts: Collection[str]) -> None:
    """Make an output folder. One that holds something is used only if that may be overwritten.

    Of what a killed run left there, `parts` are removed: the names that the caller writes under.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be the output folder: {error.strerror or error}") from None
    left = [path for path in content if path.name in parts and path.is_file()]
    if content and not overwrite:
        what = f"holds what a killed run left ({left[0].name})" if left else "is not empty"
        raise UserError(f"{folder}: {what}; name another folder or add --overwrite")
    for part in left:
        log.warning("%s: left by a killed run; removed", part)
        part.unlink()
