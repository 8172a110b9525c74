"""Draws tracked objects over their frame, and many images on one sheet.

The colour of an object depends only on its identity. Consecutive identities get very different colours.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageOps

from ookd.drawing.fonts import TextFont, font_for
from ookd.errors import UserError
from ookd.structures import FrameResult

Image = NDArray[np.uint8]  # [H, W, 3] RGB

FILL = 0.4  # opacity of the colour over the object
TRAIL_FRAMES = 30
PAPER, INK = (250, 250, 250), (40, 40, 40)
COLOURS = 21  # after so many steps of the golden angle, the hues nearly repeat


def colour(identity: int) -> tuple[int, int, int]:
    """RGB of an identity. Hues advance by the golden angle, so that consecutive identities differ most."""
    slot = identity % COLOURS
    lightness = (0.58, 0.5, 0.66)[slot % 3]
    red, green, blue = colorsys.hls_to_rgb((0.58 + slot * 0.381966) % 1.0, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_colour(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever has the higher contrast to the background by WCAG 2."""
    linear = [(value / 255) ** 2.2 for value in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


class Overlay:
    """Draws the results of one video, frame by frame. Trails show where objects came from."""

    def __init__(self, trails: bool = False) -> None:
        self._trails = trails
        self._annotators: _Annotators | None = None

    def draw(self, result: FrameResult) -> Image:
        """A copy of the frame with its objects drawn."""
        if not result.image.size:
            raise UserError("the result has no image to draw on")
        height, width = result.image.shape[:2]
        if self._annotators is None:
            self._annotators = _Annotators(height, width, font_for(frozenset("".join(result.names))))
        scene = result.image.copy()
        detections = result.to_supervision()
        scene = self._annotators.fill.annotate(scene, detections)
        scene = self._annotators.outline.annotate(scene, detections)
        if self._trails:
            scene = self._annotators.trail.annotate(scene, detections)
        labels = [self._annotators.font.spell(caption) for caption in captions(result)]
        return self._annotators.label.annotate(scene, detections, labels=labels)


def captions(result: FrameResult) -> list[str]:
    """Class, identity and score, like `person #7  92%`; a single space hardly shows."""
    return [
        f"{result.class_name(label)} #{identity}  {score:.0%}"
        for label, identity, score in zip(
            result.labels.tolist(), result.ids.tolist(), result.scores.tolist(), strict=True
        )
    ]


def contact_sheet(
    images: Sequence[Image], columns: int = 4, titles: Sequence[str] = (), cell_width: int = 320
) -> Image:
    """Images in rows and columns, in cells of the same size, with titles below."""
    if not images:
        raise ValueError("a contact sheet needs images")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    picture = round(cell_width * max(image.shape[0] / image.shape[1] for image in images))
    line = cell_width // 16 if titles else 0
    gap = max(2, cell_width // 64)
    sheet = Pillow.new(
        "RGB", (gap + columns * (cell_width + gap), gap + rows * (picture + line + gap)), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    letters = font_for(frozenset("".join(titles)))
    font = letters.font(max(10, round(0.7 * line)))
    for i, image in enumerate(images):
        left = gap + i % columns * (cell_width + gap)
        top = gap + i // columns * (picture + line + gap)
        shown = ImageOps.contain(Pillow.fromarray(image), (cell_width, picture))
        sheet.paste(shown, (left + (cell_width - shown.width) // 2, top + (picture - shown.height) // 2))
        if i < len(titles):
            pen.text((left, top + picture), letters.spell(titles[i]), INK, font)
    return np.asarray(sheet).copy()


class _Annotators:
    """Annotators with line widths and text sizes that suit the image."""

    def __init__(self, height: int, width: int, font: TextFont) -> None:
        import supervision as sv  # takes half a second

        self.font = font
        line = max(1, round(min(height, width) / 300))
        colours = [colour(slot) for slot in range(COLOURS)]
        # supervision expects BGR images. With red and blue of its colours swapped, it draws on RGB.
        palette = sv.ColorPalette([sv.Color(*rgb[::-1]) for rgb in colours])
        text = sv.ColorPalette([sv.Color(*text_colour(rgb)) for rgb in colours])
        by_identity = sv.ColorLookup.TRACK
        self.fill = sv.MaskAnnotator(palette, FILL, by_identity)
        self.outline = sv.PolygonAnnotator(palette, line, by_identity)
        self.trail = sv.TraceAnnotator(
            palette, sv.Position.BOTTOM_CENTER, TRAIL_FRAMES, line, color_lookup=by_identity
        )
        self.label = sv.RichLabelAnnotator(
            palette,
            by_identity,
            text,
            font.path,
            font_size=max(10, round(min(height, width) / 32)),
            text_padding=2 * line,
            border_radius=2 * line,
            smart_position=True,
        )
