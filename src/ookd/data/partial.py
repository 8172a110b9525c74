"""Files that appear whole or not at all.

Output is written beside its place as `NAME.part` and renamed when it is complete. A process that is killed
leaves the part, never half a file under the final name.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ookd.errors import UserError

log = logging.getLogger(__name__)


def begin_partial(path: Path) -> Path:
    """Where to write what will become `path`; says so if a killed run left something there."""
    part = path.with_name(path.name + ".part")
    if part.exists():
        log.warning("%s: left by a run that was killed; replaced", part)
    return part


def finish_partial(part: Path, path: Path) -> None:
    """Give a complete file its name, once its content is on the disk."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def write_trouble(error: Exception, path: Path) -> UserError:
    """One line for a disk that is full, gone or forbidden."""
    return UserError(f"{path}: {getattr(error, 'strerror', None) or error}")
