"""Masks as images."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import cv2
import numpy as np

from ookd.files import write_error, write_file
from ookd.structures import FrameResult
from ookd.tracking.sinks.sink import Sink

log = logging.getLogger(__name__)

IDENTITIES = 65535  # that 16 bits hold besides the background


@dataclass
class MaskImages(Sink):
    """A 16-bit PNG per frame: background 0, identity i as i + 1. Where masks overlap, the higher score wins.

    16 bits hold 65535 identities; after them values start again at 1.
    """

    name = "png"
    file = "masks"

    def __post_init__(self) -> None:
        self._wrapped = False
        try:
            self.path.mkdir(exist_ok=True)
            for old in self.path.glob("[0-9]*.png"):  # of the run that is overwritten
                old.unlink()
        except OSError as error:
            raise write_error(error, self.path) from None

    def write(self, result: FrameResult) -> None:
        if not self._wrapped and len(result) and result.ids.max() >= IDENTITIES:
            self._wrapped = True
            log.warning(
                "masks: from frame %d on, values start again at 1 after %d identities",
                result.index,
                IDENTITIES,
            )
        picture = np.zeros((self.source.height, self.source.width), np.uint16)
        for place in np.argsort(result.scores, kind="stable"):
            picture[result.masks[place]] = result.ids[place] % IDENTITIES + 1
        file = self.path / f"{result.index:06d}.png"
        png = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
        write_file(file, png, sync=False)

    def close(self) -> None:
        """Nothing to do: every image is already complete."""
