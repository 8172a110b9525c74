"""Open what a user names as a source: a file, folder, glob, camera, URL or standard input."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image as Pillow

from ookd import untrusted
from ookd.data.video.container import ContainerSource, PipeSource
from ookd.data.video.decoding import open_decoded
from ookd.data.video.images import SUFFIXES, ImageLike, ImageSource, natural_order
from ookd.data.video.live import CameraSource, StreamSource
from ookd.data.video.memory import MemorySource
from ookd.data.video.source import FrameSource, Span
from ookd.errors import UserError

# all that can be tracked
Source = str | Path | int | FrameSource | ImageLike | Iterable[ImageLike]

NETWORK_SECONDS = 10.0  # timeout of a server
FETCH_ON = {"reconnect": "1", "reconnect_delay_max": "4"}  # resume downloads that break off
PROTOCOL_OPTIONS = {"rtsp": {"rtsp_transport": "tcp"}, "http": FETCH_ON, "https": FETCH_ON}


def open_source(
    source: Source,
    *,
    start: int | str | None = None,
    end: int | str | None = None,
    every: int = 1,
) -> FrameSource:
    """Open any source of frames.

    `source` is a video file, a folder or glob of images (in natural order), a camera's number, an RTSP or
    HTTP URL, or "-": an encoded video or a series of JPEG or PNG images on standard input. Any iterable of
    images works too: arrays (uint8 [H, W, 3] RGB), PIL images or paths. `start` and `end` are a frame number
    (120) or a time ("1:30", "12.5s"). An open source is returned as it is.
    """
    if isinstance(source, FrameSource):
        return source
    span = Span.parse(start, end, every)
    if not isinstance(source, str | Path | int):
        single = isinstance(source, Pillow.Image) or (isinstance(source, np.ndarray) and source.ndim < 4)
        return MemorySource([source] if single else source, span)  # type: ignore[list-item, arg-type]
    text = str(source)
    if isinstance(source, int) or re.fullmatch(r"[0-9]{1,4}", text):
        return CameraSource(int(text), span)
    if text == "-":
        return PipeSource(span)
    if re.match(r"[a-z][a-z0-9+.-]*://", text):
        return _open_url(text, span)
    path, fault = Path(source), untrusted.fault_of(Path(source))
    if fault is None and _is_image(path):
        return ImageSource([path], path.name, span)
    if fault is None:
        return ContainerSource(path, open_decoded(path), path.name, span)
    if fault == untrusted.FOLDER:
        paths = [file for file in path.iterdir() if _is_image(file)]
        if not paths:
            raise UserError(f"{path}: no images in this folder (known types: {', '.join(sorted(SUFFIXES))})")
        return ImageSource(sorted(paths, key=natural_order), path.resolve().name, span)
    if fault == untrusted.MISSING and glob.has_magic(text):
        paths = [file for file in map(Path, glob.glob(text, recursive=True)) if _is_image(file)]
        if not paths:
            raise UserError(f"{text}: matches no images")
        return ImageSource(sorted(paths, key=natural_order), paths[0].resolve().parent.name, span)
    raise UserError(f"{text}: {fault}")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and untrusted.is_file(path)


def _open_url(url: str, span: Span) -> FrameSource:
    """A recording if the server knows its length, else an endless stream."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"{url}: is not an address: {error}") from None
    name = Path(parts.path).name or parts.hostname or parts.scheme
    how: dict[str, Any] = {
        "called": url.replace(f"{parts.username}:{parts.password}@", ""),  # no password in messages
        "timeout": NETWORK_SECONDS,
        "options": PROTOCOL_OPTIONS.get(parts.scheme, {}),
    }
    opened = open_decoded(url, **how)
    kind = StreamSource if opened.container.duration is None else ContainerSource
    return kind(url, opened, name, span, **how)
