"""Geometric and colour changes of a frame, the same for pixels, masks and points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ookd.structures import Clip

Size = tuple[int, int]  # height, width
Points = NDArray[np.float64]  # [P, 2] x y; a pixel covers [i, i + 1)


class Warp(Protocol):
    """One change of a frame."""

    def size(self, size: Size) -> Size: ...
    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]: ...
    def masks(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]: ...  # [N, H, W]
    def points(self, points: Points, size: Size) -> Points: ...


@dataclass(frozen=True, slots=True)
class Resize:
    """Resizes with Pillow's antialiased bilinear filter; masks by nearest pixel."""

    height: int
    width: int

    def size(self, size: Size) -> Size:
        return self.height, self.width

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if image.shape[:2] == (self.height, self.width):
            return image
        resized = Image.fromarray(image).resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.asarray(resized)

    def masks(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if masks.shape[1:] == (self.height, self.width):
            return masks
        rows, columns = _nearest(masks.shape[1], self.height), _nearest(masks.shape[2], self.width)
        return masks.take(rows, axis=1).take(columns, axis=2)

    def points(self, points: Points, size: Size) -> Points:
        scale: Points = np.array([self.width / size[1], self.height / size[0]])
        return points * scale


def _nearest(old: int, new: int) -> NDArray[np.int32]:
    """[new] the pixel that each new one copies; ties are broken as Pillow does for images."""
    line = Image.fromarray(np.arange(old, dtype=np.int32)[None])
    picked: NDArray[np.int32] = np.asarray(line.resize((new, 1), Image.Resampling.NEAREST))[0]
    return picked


@dataclass(frozen=True, slots=True)
class Crop:
    """Keeps a window that lies inside the frame."""

    x: int
    y: int
    width: int
    height: int

    def size(self, size: Size) -> Size:
        return self.height, self.width

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image[self.y : self.y + self.height, self.x : self.x + self.width]

    def masks(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return masks[:, self.y : self.y + self.height, self.x : self.x + self.width]

    def points(self, points: Points, size: Size) -> Points:
        corner: Points = np.array([self.x, self.y], np.float64)
        return points - corner


@dataclass(frozen=True, slots=True)
class Flip:
    """Mirrors left and right."""

    def size(self, size: Size) -> Size:
        return size

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(image[:, ::-1])

    def masks(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return masks[:, :, ::-1]

    def points(self, points: Points, size: Size) -> Points:
        return np.stack([size[1] - points[:, 0], points[:, 1]], axis=1)


@dataclass(frozen=True, slots=True)
class Rotate:
    """Rotates counter-clockwise about the centre; the area from outside the frame is black."""

    degrees: float

    def size(self, size: Size) -> Size:
        return size

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self._turn(image, cv2.INTER_LINEAR)

    def masks(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        turned = [self._turn(mask.astype(np.uint8), cv2.INTER_NEAREST) for mask in masks]
        return np.array(turned, np.bool_).reshape(masks.shape)

    def points(self, points: Points, size: Size) -> Points:
        centre = np.array([size[1], size[0]]) / 2
        cosine, sine = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        turned: Points = (points - centre) @ np.array([[cosine, -sine], [sine, cosine]]) + centre
        return turned

    def _turn(self, image: NDArray[np.uint8], interpolation: int) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), self.degrees, 1.0)
        turned: Any = cv2.warpAffine(image, matrix, (width, height), flags=interpolation)
        return np.asarray(turned, np.uint8)


_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclass(frozen=True, slots=True)
class Recolour:
    """Factors for brightness, contrast (about mid-grey) and saturation, and a hue shift in degrees."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def size(self, size: Size) -> Size:
        return size

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        recoloured: Any = cv2.transform(image, self._matrix())
        return np.asarray(recoloured, np.uint8)

    def masks(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return masks

    def points(self, points: Points, size: Size) -> Points:
        return points

    def _matrix(self) -> NDArray[np.float64]:
        """[3, 4] acting on (r, g, b, 1); `cv2.transform` rounds and saturates."""
        cosine, sine = np.cos(np.radians(self.hue)), np.sin(np.radians(self.hue))
        chroma = np.eye(3)
        chroma[1:, 1:] = self.saturation * np.array([[cosine, -sine], [sine, cosine]])
        linear = self.brightness * self.contrast * np.linalg.inv(_TO_YIQ) @ chroma @ _TO_YIQ
        offset = self.brightness * 127.5 * (1 - self.contrast)
        return np.concatenate([linear, np.full((3, 1), offset)], axis=1)


def warp_clip(clip: Clip, warps: Sequence[Sequence[Warp]]) -> Clip:
    """The clip after the warps of each frame. Instances keep their rows even if nothing of them is left."""
    images, masks, placed = list(clip.images), list(clip.masks), []
    ignore = None if clip.ignore is None else [region[None] for region in clip.ignore]
    for t, steps in enumerate(warps):
        placed.append(affine(steps, (images[t].shape[0], images[t].shape[1])))
        for step in steps:
            images[t], masks[t] = step.image(images[t]), step.masks(masks[t])
            if ignore is not None:
                ignore[t] = step.masks(ignore[t])
    if clip.placed is not None:
        placed = [_after(then, before) for then, before in zip(placed, clip.placed, strict=True)]
    regions = None if ignore is None else [region[0] for region in ignore]
    return replace(clip, images=images, masks=masks, placed=np.stack(placed), ignore=regions)


def affine(warps: Sequence[Warp], size: Size) -> NDArray[np.float64]:
    """[2, 3] the map of points in a frame of this size: (x, y, 1) -> (x', y')."""
    points: Points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    for step in warps:
        points, size = step.points(points, size), step.size(size)
    origin, x, y = points
    return np.stack([x - origin, y - origin, origin], axis=1)


def _after(then: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine map `before` followed by `then`."""
    both: NDArray[np.float64] = then[:, :2] @ before
    both[:, 2] += then[:, 2]
    return both


def warp_polygon(points: Points, warps: Sequence[Warp], size: Size) -> Points:
    """[P', 2] an outline after the warps, clipped to each crop; may be empty."""
    for step in warps:
        points, size = step.points(points, size), step.size(size)
        if isinstance(step, Crop):
            points = _clip_polygon(points, size)
    return points


def _clip_polygon(points: Points, size: Size) -> Points:
    """Sutherland-Hodgman: clip at each side of the frame in turn."""
    for axis, sign, limit in ((0, 1, 0), (0, -1, size[1]), (1, 1, 0), (1, -1, size[0])):
        inside = sign * (points[:, axis] - limit)  # [P] distance, negative outside
        kept = []
        for p in range(len(points)):
            if (inside[p - 1] < 0) != (inside[p] < 0):
                along = inside[p - 1] / (inside[p - 1] - inside[p])
                crossing = points[p - 1] + along * (points[p] - points[p - 1])
                crossing[axis] = limit
                kept.append(crossing)
            if inside[p] >= 0:
                kept.append(points[p])
        points = np.array(kept, np.float64).reshape(-1, 2)
    return points
