"""Output that appears whole or not at all, checksums of files, and fingerprints of weights.

Everything is written beside its place as `NAME.part` and renamed once it is complete. A killed process
leaves the part, never half a file or folder under the final name.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from ookd import untrusted
from ookd.errors import UserError
from ookd.locking import locked, locked_file

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)


@contextmanager
def new_file(path: Path, sync: bool = True) -> Iterator[Path]:
    """Where to write what becomes `path`. If the block fails, nothing of it stays.

    Only one process, or thread, writes a file at a time; another one is refused. Without `sync` the file may
    be lost or empty after a power cut, which is much faster for many small files.
    """
    check_no_device(path)
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        part = _part(path)
        left = part.exists()
        with locked_file(part):
            if left:
                _replaces(part)
            try:
                yield part
                if sync:
                    flush_to_disk(part)
                part.replace(path)
            except BaseException:
                with suppress(OSError):
                    part.unlink()
                raise
    except (OSError, SafetensorError) as error:
        raise write_error(error, path) from None


def check_no_device(path: Path) -> None:
    """Raise for what a file must not take the place of: a folder, a pipe or a device, such as /dev/null."""
    if (fault := untrusted.fault_of(path)) in (untrusted.FOLDER, untrusted.DEVICE):
        raise UserError(f"{path}: cannot be written: {fault}")


def write_file(path: Path, content: str | bytes, sync: bool = True) -> None:
    """Write a whole file; text becomes UTF-8."""
    with new_file(path, sync) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def part_of(path: Path) -> Path:
    """The name under which `path` is written until it is complete. Warns of what a killed run left there."""
    part = _part(path)
    if part.exists():
        _replaces(part)
    return part


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _replaces(part: Path) -> None:
    log.warning("%s: left by a killed run; replaced", part)


def finish(part: Path, path: Path) -> None:
    """Give a complete file its name, once its content is on the disk."""
    flush_to_disk(part)
    part.replace(path)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk. Windows does that for folders by itself."""
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_error(error: Exception, path: Path) -> UserError:
    """One line for a disk that is full, gone or forbidden."""
    part = _part(path)
    rest = f"; what was written so far is in {part.name}" if part.exists() else ""
    return UserError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}{rest}")


class PartialText:
    """A text file that grows. Every `write` reaches the disk at once, so a killed run leaves whole lines."""

    def __init__(self, path: Path) -> None:
        check_no_device(path)
        self.path = path
        self._part = part_of(path)
        try:
            self._file = self._part.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise write_error(error, path) from None
        self._broken = False

    def write(self, text: str) -> None:
        """Append, unless writing failed before, which was reported then."""
        if self._broken:
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


def claim_folder(folder: Path, overwrite: bool, own_parts: Collection[str]) -> None:
    """Make an output folder whose files appear one by one. It must be empty unless it may be overwritten.

    Of a killed run's leftovers only `own_parts` are removed: the names that the caller writes under.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be the output folder: {error.strerror or error}") from None
    parts = [path for path in content if path.name in own_parts and path.is_file()]
    if content and not overwrite:
        what = f"holds the leftovers of a killed run ({parts[0].name})" if parts else "is not empty"
        raise UserError(f"{folder}: {what}; name another folder or add --overwrite")
    for part in parts:
        log.warning("%s: left by a killed run; removed", part)
        part.unlink()


@contextmanager
def new_folder(out: Path, overwrite: bool, marks: tuple[str, ...]) -> Iterator[Path]:
    """Where to write what becomes the folder `out`.

    With `overwrite` an existing folder is replaced, but only if it holds one of the files `marks`, which show
    that it is of the same kind: a mistyped name must not cost anybody a home folder.
    """
    check_free(out, overwrite, marks)
    part = part_of(out)
    with locked(part):
        try:
            _empty(part)
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


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_free(out: Path, overwrite: bool, marks: tuple[str, ...]) -> None:
    """Raise unless `new_folder` may make `out`: for programs that work long before they write."""
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
    """Raise for what must never be replaced: the current folder, the user's own, and all that hold them."""
    places = {"the current folder": Path.cwd(), "your home folder": Path.home()}
    for name, place in places.items():
        if place.resolve().is_relative_to(out.resolve()):
            verb = "is" if place.resolve() == out.resolve() else "holds"
            raise UserError(f"{out}: {verb} {name}; give the name of a new one")


def check_apart(out: Path, source: Path) -> None:
    """Raise if replacing the folder `out` would delete the data that is read."""
    if out.resolve() in (source.resolve(), *source.resolve().parents):
        raise UserError(f"{out}: holds the data that is read; give another folder")


def checksum(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(model: nn.Module, long: bool = False) -> str:
    """The same for the same weights, whatever file they came from.

    The `long` form stands in caches of teachers' answers, the short one everywhere else.
    """
    import torch

    digest = hashlib.sha256() if long else hashlib.blake2b(digest_size=8)
    weights = model.state_dict().items()
    for name, tensor in sorted(weights) if long else weights:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
