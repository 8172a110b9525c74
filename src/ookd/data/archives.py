"""Members of zip and tar archives, read without unpacking, within limits on their number and size.

Archives stay open as long as the process runs, one handle for each process and thread.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ookd import limits
from ookd.errors import UserError

_TAR_SUFFIXES = {".tar", ".tgz", ".gz", ".bz2", ".xz"}
_UNPACKERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
}  # by the first two bytes
_SMALL = 64 << 20  # bytes that any archive may unpack to
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    OverflowError,
    ValueError,
)


def is_archive(path: Path) -> bool:
    return path.suffix.lower() == ".zip" or path.suffix.lower() in _TAR_SUFFIXES


_open_archives = threading.local()


def read_member(archive: Path, member: str) -> bytes:
    """The content of a file in an archive."""
    cache: dict[tuple[int, Path], Callable[[str], bytes]]
    cache = _open_archives.__dict__.setdefault("by_path", {})
    key = (os.getpid(), archive)  # a forked worker must not share a file position with its parent
    try:
        if key not in cache:
            cache[key] = _open_zip(archive) if archive.suffix.lower() == ".zip" else _open_tar(archive)
        return cache[key](member)
    except KeyError:
        raise UserError(f"{archive}: holds no '{member}'") from None
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0]  # tarfile lists all it has tried
        raise UserError(f"{archive}: '{member}' cannot be read: {reason}") from None


def _open_zip(archive: Path) -> Callable[[str], bytes]:
    """A function that reads members by name, in any order; the archive is listed once, here."""
    opened = zipfile.ZipFile(archive)
    limits.MEMBERS.check(len(opened.infolist()), archive)

    def read(name: str) -> bytes:
        with opened.open(name) as stream:  # what the archive says about sizes need not be true
            return _read(stream, f"{archive}: '{name}'")

    return read


def _open_tar(archive: Path) -> Callable[[str], bytes]:
    """The same for a tar archive."""
    with archive.open("rb") as file:
        unpacker = _UNPACKERS.get(file.read(2))
    stream: Any = archive.open("rb") if unpacker is None else _Bounded(unpacker(archive), archive)
    opened = tarfile.open(fileobj=stream)  # noqa: SIM115
    members: dict[str, tarfile.TarInfo] = {}
    for info in opened:
        members[info.name.removeprefix("./")] = info  # `tar -cf x.tar .` adds ./
        limits.MEMBERS.check(len(members), archive)

    def read(name: str) -> bytes:
        stream = opened.extractfile(members[name])
        if stream is None:  # a folder
            raise KeyError(name)
        return _read(stream, f"{archive}: '{name}'")

    return read


def _read(stream: IO[bytes], where: str) -> bytes:
    content = stream.read(limits.MEMBER.most + 1)
    limits.MEMBER.check(len(content), where)
    return content


class _Bounded(io.RawIOBase):
    """An unpacked stream that ends with an error once it is far larger than its archive."""

    def __init__(self, stream: IO[bytes], archive: Path) -> None:
        self._stream, self._archive = stream, archive
        self._size = max(archive.stat().st_size, _SMALL // limits.UNPACKED.usual)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = limits.UNPACKED.most * self._size - self._stream.tell()
        content = self._stream.read(max(0, left) + 1 if size < 0 else min(size, max(0, left) + 1))
        self._check()
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            limits.UNPACKED.check(offset / self._size, self._archive)
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self) -> None:
        limits.UNPACKED.check(self._stream.tell() / self._size, self._archive)
