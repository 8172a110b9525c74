"""Settings of a world: two for its difficulty, and length, crowding, class imbalance and frame size."""

from __future__ import annotations

import difflib
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from ookd.errors import UserError

SPLITS = ("train", "tune", "val", "test")


class Staging(BaseModel, frozen=True, extra="forbid"):
    """How objects move in a video, whatever they look like."""

    association: float = Field(0.25, ge=0, le=1, description="how hard it is to keep identities")
    frames: int = Field(16, ge=1, le=10_000, description="length of a video")
    crowd: tuple[int, int] = Field((1, 6), description="fewest and most objects in a video")
    size: tuple[float, float] = Field(
        (0.18, 0.55), description="smallest and largest body length / frame height"
    )
    height: int = Field(160, ge=32, le=4096)
    width: int = Field(288, ge=32, le=4096)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 1 <= self.crowd[0] <= self.crowd[1] <= 200:
            raise ValueError(f"crowd {self.crowd} must be two numbers in 1..200, the smaller first")
        if not 0 < self.size[0] <= self.size[1] <= 2:
            raise ValueError(f"size {self.size} must be two numbers in 0..2, the smaller first")
        return self

    def changed(self, changes: dict[str, Any]) -> Self:
        """The same settings with some fields changed; a wrong one raises `UserError`."""
        try:
            return self.model_validate(self.model_dump() | changes)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "crowd and size"
            near = difflib.get_close_matches(key, type(self).model_fields, n=1)
            hint = f"; did you mean '{near[0]}'?" if near and first["type"] == "extra_forbidden" else ""
            raise UserError(f"setting '{key}': {first['msg']}{hint}") from None


class WorldConfig(Staging, frozen=True):
    """Settings of a world. `appearance` never moves an object, and `association` never repaints one."""

    appearance: float = Field(0.35, ge=0, le=1, description="how hard it is to detect, segment and classify")
    imbalance: float = Field(1.0, ge=0, le=4, description="Zipf exponent of class frequencies; 0 is balanced")


PRESETS: dict[str, WorldConfig] = {
    "ytvis-like": WorldConfig(),
    "ovis-like": WorldConfig(appearance=0.45, association=0.75, frames=40, crowd=(4, 10), size=(0.2, 0.6)),
    "identity": WorldConfig(
        appearance=0.1, association=0.9, frames=32, crowd=(3, 7), imbalance=0.5, size=(0.22, 0.5)
    ),
}


def preset(name: str) -> WorldConfig:
    if name not in PRESETS:
        raise UserError(f"unknown world '{name}'; choose from {', '.join(PRESETS)}")
    return PRESETS[name]
