"""A video as a local file, wherever it is stored, and the identity of its content."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ookd import limits, untrusted
from ookd.errors import UserError
from ookd.files import checksum
from ookd.fleet.listing import is_url

PART = 1 << 20  # bytes read at once
STAMPS = ("ETag", "etag", "md5Hash", "crc32c", "LastModified", "last_modified", "mtime", "size")


def identity(address: str) -> str:
    """A text that changes with the content: a checksum, or for a URL the store's metadata."""
    if not is_url(address):
        untrusted.check_file(Path(address))
        return checksum(Path(address))
    store, path = _store(address)
    try:
        info = store.info(path)
    except Exception as error:  # each store has its own exceptions
        raise UserError(f"{address}: {_brief(error)}") from None
    return f"{address} {[str(info[stamp]) for stamp in STAMPS if info.get(stamp) is not None]}"


@contextmanager
def fetched(address: str, on_part: Callable[[], None]) -> Iterator[Path]:
    """The file itself, or a temporary copy."""
    if not is_url(address):
        yield Path(address)
        return
    store, path = _store(address)
    with tempfile.NamedTemporaryFile(prefix="ookd-fleet-") as copy:
        size = 0
        try:
            with store.open(path, "rb") as remote:
                while part := remote.read(PART):
                    size += len(part)
                    limits.FILE.check(size, address)
                    copy.write(part)
                    on_part()
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{address}: {_brief(error)}") from None
        copy.flush()
        yield Path(copy.name)


def _store(address: str) -> Any:
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(address)
    except (ImportError, ValueError) as error:  # unknown protocol, or its package is missing
        raise UserError(f"{address}: {_brief(error)}") from None


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
