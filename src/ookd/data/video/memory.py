"""Images that are in memory, or that come from a generator, as a video."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sized
from functools import partial
from itertools import chain

from ookd.data.video.images import FPS, ImageLike, as_image
from ookd.data.video.source import Decode, FrameSource, Span
from ookd.errors import UserError


class MemorySource(FrameSource):
    """Frame i is the i-th image. What comes from a generator can be read once."""

    name = "images"

    def __init__(self, images: Iterable[ImageLike], span: Span) -> None:
        super().__init__(span)
        self._given = iter(images)
        try:
            self._first = as_image(next(self._given))
        except StopIteration:
            raise UserError("no image to track: the source is empty") from None
        self.fps = FPS / span.every
        self.height, self.width = self._first.shape[:2]
        self.length = span.count(len(images), FPS) if isinstance(images, Sized) else None

    def read(self) -> Generator[tuple[int, float, Decode], None, None]:
        for index, given in enumerate(chain([self._first], self._given)):
            yield index, index / FPS, partial(as_image, given)
