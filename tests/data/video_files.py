"""Small videos whose frames carry their own number as a row of black and white blocks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BITS, BLOCK = 8, 16
WIDTH, HEIGHT = BITS * BLOCK, 2 * BLOCK


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """[H, W, 3]: bit b of the number is block b from the left, repeated downwards."""
    blocks = np.array([255 * (number >> bit & 1) for bit in range(BITS)], np.uint8)
    return np.broadcast_to(np.repeat(blocks, width // BITS)[None, :, None], (height, width, 3)).copy()


def number_in(image: NDArray[np.uint8]) -> int:
    """Reads the number out of a picture that was compressed, and perhaps scaled."""
    height, width = image.shape[:2]
    columns = (np.arange(BITS) * 2 + 1) * width // (2 * BITS)
    return sum(int(image[height // 2, column].mean() > 127) << bit for bit, column in enumerate(columns))


def write_video(
    path: Path,
    frames: int,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    times: Sequence[float] | None = None,
    first: int = 0,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    turn: dict[str, float] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """`frames` numbered pictures from `first` on at 25 a second, or at `times`; a key frame every ten."""
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        stream.gop_size = 10
        if turn:
            stream.set_display_rotation(**turn)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(first + i, *size)).reformat(format=pixels)
            if times is not None:
                frame.pts, frame.time_base = round(times[i] * 1000), Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
