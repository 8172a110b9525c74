"""Masks as images."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ookd.errors import UserError
from ookd.files import write_error, write_file
from ookd.structures import FrameResult
from ookd.tracking.sinks.sink import Sink


@dataclass
class MaskImages(Sink):
    """A 16-bit PNG a frame: background 0, identity i as i + 1. Where masks overlap the better score wins."""

    name = "png"
    file = "masks"

    def __post_init__(self) -> None:
        try:
            self.path.mkdir(exist_ok=True)
            for old in self.path.glob("[0-9]*.png"):  # of the run that is overwritten
                old.unlink()
        except OSError as error:
            raise write_error(error, self.path) from None

    def write(self, result: FrameResult) -> None:
        if len(result) and result.ids.max() > 65534:  # is written as one more
            raise UserError(
                f"frame {result.index}: more than 65535 identities do not fit 16 bits; save rle instead"
            )
        picture = np.zeros((self.source.height, self.source.width), np.uint16)
        for place in np.argsort(result.scores, kind="stable"):
            picture[result.masks[place]] = result.ids[place] + 1
        file = self.path / f"{result.index:06d}.png"
        png = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
        write_file(file, png, sync=False)

    def close(self) -> None:
        """Nothing to do: every image is whole already."""
