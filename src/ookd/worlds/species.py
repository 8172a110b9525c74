"""The classes, from common to rare: each has its own shape, texture and gait.

Outlines are written as points in hundredths of the body's length, x forward and y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Literal

from ookd.worlds.motion import Gait
from ookd.worlds.shapes import RIGID, BodyPart, Colour, Deform, corners, ellipse, limb, smooth

Pattern = Literal["stripes", "bands", "spots", "patches", "scales", "rings", "rows", "plain", "cells"]

BLACK: Colour = (18, 16, 16)
DARK: Colour = (45, 42, 40)
WHITE: Colour = (235, 235, 230)
GREY: Colour = (170, 170, 175)
GLASS: Colour = (150, 185, 200)
ORANGE: Colour = (225, 140, 40)
WOOD: Colour = (120, 85, 50)
SKIN: Colour = (214, 170, 140)


@dataclass(frozen=True)
class Species:
    """A class of objects."""

    name: str
    parts: tuple[BodyPart, ...]
    pattern: Pattern
    hue: float  # degrees of the typical coat
    second: float  # degrees of the pattern's colour
    vivid: float  # saturation of both, 0..1
    gait: Gait
    deform: Deform = RIGID
    size: float = 1.0  # relative to the world's sizes


def _eye(
    x: float, y: float, r: float = 0.026, pivot: tuple[float, float] = (0.0, 0.0), swing: float = 0.0
) -> tuple[BodyPart, BodyPart]:
    return (
        BodyPart(ellipse(x, y, r * 1.5, r * 1.5), pivot, swing, colour=WHITE),
        BodyPart(ellipse(x + r * 0.4, y, r, r), pivot, swing, colour=BLACK),
    )


def _leg(
    x: float, y: float, length: float, wide: float, offset: float, swing: float, tone: float
) -> BodyPart:
    outline = limb((x, y), (x - 0.01, y + length), wide, wide * 0.62)
    return BodyPart(outline, pivot=(x, y), swing=swing, offset=offset, tone=tone)


def _insect_legs() -> tuple[BodyPart, ...]:
    """Three a side as seen from above, in the alternating tripod of insects."""
    return tuple(
        BodyPart(
            limb((x, side * 0.1), (x + dx, side * 0.36), 0.05, 0.025),
            pivot=(x, side * 0.1),
            swing=0.35,
            offset=pi * ((i + (side > 0)) % 2),
            tone=0.5,
        )
        for i, (x, dx) in enumerate(((0.2, 0.12), (0.02, -0.02), (-0.16, -0.14)))
        for side in (-1, 1)
    )


FISH = Species(
    "fish",
    (
        BodyPart(smooth("-28,0 -52,-20 -46,0 -52,20"), pivot=(-0.28, 0), swing=0.45, tone=0.85),
        BodyPart(smooth("16,-14 -4,-32 -20,-24 -16,-8"), tone=0.8),
        BodyPart(smooth("50,2 34,-14 5,-21 -22,-10 -36,-3 -36,3 -20,10 5,19 34,14")),
        BodyPart(smooth("14,6 -6,20 -10,8"), pivot=(0.14, 0.06), swing=0.5, rate=2, tone=0.75),
        *_eye(0.35, -0.04),
    ),
    pattern="bands",
    hue=28,
    second=205,
    vivid=0.75,
    gait="swim",
    deform=Deform(bend=0.12, waves=0.7, stiff=1.0),
)

DOG = Species(
    "dog",
    (
        _leg(0.2, 0.06, 0.34, 0.1, pi, 0.5, 0.6),
        _leg(-0.26, 0.06, 0.34, 0.12, 0, 0.5, 0.6),
        BodyPart(limb((-0.32, -0.06), (-0.52, -0.24), 0.08, 0.04), pivot=(-0.32, -0.06), swing=0.5, rate=2),
        BodyPart(smooth("30,-10 10,-14 -20,-12 -36,-6 -34,10 -10,10 20,13 32,2")),
        _leg(0.24, 0.06, 0.34, 0.1, 0, 0.5, 1),
        _leg(-0.28, 0.04, 0.36, 0.13, pi, 0.5, 1),
        BodyPart(
            smooth("22,-8 30,-30 42,-34 50,-24 58,-20 57,-13 44,-12 36,2"), pivot=(0.28, -0.05), swing=0.1
        ),
        BodyPart(smooth("32,-30 24,-26 25,-10 34,-20"), pivot=(0.32, -0.3), swing=0.25, tone=0.55),
        BodyPart(ellipse(0.57, -0.19, 0.025, 0.025), (0.28, -0.05), 0.1, colour=BLACK),
        *_eye(0.43, -0.25, 0.018, (0.28, -0.05), 0.1),
    ),
    pattern="patches",
    hue=30,
    second=20,
    vivid=0.55,
    gait="walk",
)

BIRD = Species(
    "bird",
    (
        BodyPart(smooth("8,-2 -4,-40 -20,-44 -18,-2"), pivot=(-0.02, 0), flap=(0, 1.7), tone=0.6),
        BodyPart(corners("-20,-4 -52,-12 -50,6 -20,6"), pivot=(-0.2, 0), swing=0.15, tone=0.75),
        BodyPart(smooth("46,-10 38,-18 26,-14 0,-10 -26,-4 -24,5 0,13 24,8 40,-2")),
        BodyPart(smooth("16,2 8,-42 -14,-50 -18,-6 -2,5"), pivot=(0.02, 0), flap=(0, 1.7)),
        BodyPart(corners("43,-13 57,-7 43,-4"), colour=ORANGE),
        *_eye(0.37, -0.1, 0.022),
    ),
    pattern="rows",
    hue=205,
    second=215,
    vivid=0.6,
    gait="fly",
)

BEETLE = Species(
    "beetle",
    (
        *_insect_legs(),
        BodyPart(limb((0.36, -0.06), (0.54, -0.2), 0.03, 0.02), pivot=(0.36, -0.06), swing=0.2, tone=0.4),
        BodyPart(
            limb((0.36, 0.06), (0.54, 0.2), 0.03, 0.02), pivot=(0.36, 0.06), swing=0.2, offset=2, tone=0.4
        ),
        BodyPart(ellipse(-0.06, 0, 0.37, 0.26)),
        BodyPart(smooth("30,-12 42,-10 46,0 42,10 30,12 26,0"), colour=DARK),
        BodyPart(limb((-0.42, 0), (0.26, 0), 0.022, 0.022), colour=BLACK),
    ),
    pattern="spots",
    hue=5,
    second=0,
    vivid=0.9,
    gait="crawl",
)

CAR = Species(
    "car",
    (
        BodyPart(corners("52,10 50,-6 28,-10 10,-25 -26,-25 -44,-8 -52,-6 -52,12")),
        BodyPart(corners("52,13 52,7 -52,7 -52,13"), tone=0.6),
        BodyPart(corners("22,-10 8,-21 -6,-21 -6,-10"), colour=GLASS),
        BodyPart(corners("-10,-10 -10,-21 -24,-21 -36,-10"), colour=GLASS),
        BodyPart(ellipse(0.49, 0.0, 0.025, 0.03), colour=(250, 240, 170)),
        BodyPart(ellipse(0.31, 0.12, 0.115, 0.115), colour=BLACK),
        BodyPart(ellipse(-0.31, 0.12, 0.115, 0.115), colour=BLACK),
        *(
            BodyPart(ellipse(x, 0.12, 0.065, 0.025, turn), pivot=(x, 0.12), spin=True, colour=GREY)
            for x in (0.31, -0.31)
            for turn in (0.0, pi / 2)
        ),
    ),
    pattern="plain",
    hue=220,
    second=220,
    vivid=0.8,
    gait="drive",
    size=1.25,
)

WALKER = Species(
    "walker",
    (
        BodyPart(limb((0.02, -0.22), (0.02, 0.06), 0.075, 0.05), pivot=(0.02, -0.22), swing=0.6, tone=0.6),
        _leg(0.0, 0.06, 0.42, 0.11, pi, 0.5, 0.5),
        _leg(0.0, 0.06, 0.42, 0.11, 0, 0.5, 0.85),
        BodyPart(smooth("8,-26 -8,-27 -9,0 -7,10 8,10 10,-10")),
        BodyPart(
            limb((-0.01, -0.22), (0, 0.08), 0.075, 0.05), pivot=(-0.01, -0.22), swing=0.6, offset=pi, tone=0.8
        ),
        BodyPart(ellipse(0.02, -0.37, 0.085, 0.105), colour=SKIN),
        BodyPart(smooth("10,-42 2,-49 -8,-44 -8,-33 -2,-40"), colour=DARK),
    ),
    pattern="rows",
    hue=330,
    second=40,
    vivid=0.65,
    gait="walk",
    size=1.1,
)

JELLYFISH = Species(
    "jellyfish",
    (
        *(
            BodyPart(
                limb((-0.06, y), (-0.5 - 0.05 * (i % 2), y * 1.2), 0.085, 0.03),
                pivot=(-0.06, y),
                swing=0.3,
                offset=i * 1.1,
                tone=0.75,
            )
            for i, y in enumerate((-0.22, -0.08, 0.07, 0.21))
        ),
        BodyPart(smooth("36,0 30,-20 10,-32 -10,-33 -4,-16 -10,0 -4,16 -10,33 10,32 30,20")),
    ),
    pattern="cells",
    hue=290,
    second=320,
    vivid=0.45,
    gait="pulse",
    deform=Deform(bend=0.08, waves=0.8, stiff=1.0, pulse=0.16, wobble=0.05),
)

TURTLE = Species(
    "turtle",
    (
        *(
            BodyPart(
                limb((x, side * 0.18), (x + dx, side * 0.42), 0.14, 0.07),
                pivot=(x, side * 0.18),
                swing=0.55,
                offset=pi * (x < 0),
                tone=0.6,
            )
            for x, dx in ((0.2, 0.06), (-0.2, -0.12))
            for side in (-1, 1)
        ),
        BodyPart(limb((-0.34, 0), (-0.46, 0), 0.06, 0.02), tone=0.6),
        BodyPart(ellipse(0.42, 0, 0.12, 0.09), pivot=(0.3, 0), swing=0.15, tone=0.7),
        BodyPart(smooth("36,0 24,-23 0,-30 -26,-22 -38,0 -26,22 0,30 24,23")),
    ),
    pattern="scales",
    hue=110,
    second=75,
    vivid=0.5,
    gait="paddle",
)

SNAKE = Species(
    "snake",
    (
        BodyPart(smooth("66,0 56,-6 40,-4 0,-5 -40,-4 -72,0 -40,4 0,5 40,4 56,6")),
        *(BodyPart(corners(f"{x},-5 {x - 5},-5 {x - 5},5 {x},5"), tone=0.45) for x in (30, 12, -6, -24, -42)),
        BodyPart(ellipse(0.6, -0.025, 0.014, 0.014), colour=BLACK),
        BodyPart(ellipse(0.6, 0.025, 0.014, 0.014), colour=BLACK),
    ),
    pattern="rings",
    hue=60,
    second=45,
    vivid=0.6,
    gait="slither",
    deform=Deform(bend=0.17, waves=1.1, stiff=0.25),
    size=1.3,
)

BUTTERFLY = Species(
    "butterfly",
    (
        *(
            part
            for s in (-1, 1)
            for part in (
                BodyPart(smooth(f"-2,0 -12,{30 * s} -36,{32 * s} -34,{6 * s}"), flap=(0, 0.75), tone=0.8),
                BodyPart(smooth(f"10,0 36,{30 * s} 26,{50 * s} -4,{32 * s} -6,0"), flap=(0, 0.75)),
            )
        ),
        BodyPart(limb((0.24, 0), (-0.28, 0), 0.07, 0.04), colour=DARK),
    ),
    pattern="cells",
    hue=45,
    second=15,
    vivid=0.9,
    gait="flutter",
)

BALLOON = Species(
    "balloon",
    (
        BodyPart(smooth("0,-50 25,-40 34,-16 24,10 8,27 -8,27 -24,10 -34,-16 -25,-40")),
        BodyPart(limb((-0.06, 0.26), (-0.06, 0.4), 0.014, 0.014), colour=WOOD),
        BodyPart(limb((0.06, 0.26), (0.06, 0.4), 0.014, 0.014), colour=WOOD),
        BodyPart(corners("-8,38 8,38 7,50 -7,50"), colour=WOOD),
    ),
    pattern="stripes",
    hue=0,
    second=50,
    vivid=0.9,
    gait="float",
    deform=Deform(wobble=0.03),
)

CRAB = Species(
    "crab",
    (
        *(
            BodyPart(
                limb((x, side * 0.14), (x * 1.7, side * 0.4), 0.055, 0.03),
                pivot=(x, side * 0.14),
                swing=0.35,
                offset=i * 1.7 + side,
                tone=0.7,
            )
            for i, x in enumerate((0.08, -0.04, -0.16))
            for side in (-1, 1)
        ),
        *(
            BodyPart(outline, pivot=(0.1, side * 0.2), swing=0.2, offset=side)
            for side in (-1, 1)
            for outline in (
                limb((0.1, side * 0.2), (0.32, side * 0.34), 0.08, 0.06),
                smooth(f"28,{30 * side} 30,{44 * side} 50,{36 * side} 40,{31 * side} 48,{22 * side}"),
            )
        ),
        BodyPart(smooth("22,0 14,-24 -8,-30 -24,-14 -24,14 -8,30 14,24")),
        BodyPart(ellipse(0.22, -0.07, 0.03, 0.03), colour=BLACK),
        BodyPart(ellipse(0.22, 0.07, 0.03, 0.03), colour=BLACK),
    ),
    pattern="plain",
    hue=12,
    second=30,
    vivid=0.85,
    gait="scuttle",
)

GIRAFFE = Species(
    "giraffe",
    (
        _leg(0.12, 0.04, 0.44, 0.075, pi, 0.35, 0.6),
        _leg(-0.2, 0.04, 0.44, 0.08, 0, 0.35, 0.6),
        BodyPart(limb((-0.26, -0.06), (-0.34, 0.16), 0.035, 0.02), pivot=(-0.26, -0.06), swing=0.4),
        BodyPart(smooth("20,-8 0,-13 -24,-8 -28,6 -10,10 12,12 22,4")),
        _leg(0.15, 0.04, 0.44, 0.075, 0, 0.35, 1),
        _leg(-0.22, 0.04, 0.44, 0.085, pi, 0.35, 1),
        BodyPart(smooth("6,-8 20,-32 27,-54 34,-56 47,-47 45,-42 34,-44 22,2"), pivot=(0.14, 0), swing=0.09),
        *_eye(0.36, -0.49, 0.016, (0.14, 0), 0.09),
    ),
    pattern="patches",
    hue=42,
    second=28,
    vivid=0.6,
    gait="walk",
    size=1.3,
)


def _arm(turn: float, offset: float) -> BodyPart:
    profile = ((0.0, 0.0), (0.1, -1.2), (0.3, -0.22), (0.5, 0.0), (0.3, 0.22), (0.1, 1.2))
    points = " ".join(f"{100 * r * cos(turn + a)},{100 * r * sin(turn + a)}" for r, a in profile)
    return BodyPart(smooth(points), swing=0.25, offset=offset)


STARFISH = Species(
    "starfish",
    (*(_arm(2 * pi * k / 5, k * 2.5) for k in range(5)), BodyPart(ellipse(0, 0, 0.17, 0.17))),
    pattern="spots",
    hue=20,
    second=45,
    vivid=0.75,
    gait="spin",
    deform=Deform(wobble=0.05),
    size=0.9,
)

SPECIES: tuple[Species, ...] = (
    FISH,
    DOG,
    BIRD,
    BEETLE,
    CAR,
    WALKER,
    JELLYFISH,
    TURTLE,
    SNAKE,
    BUTTERFLY,
    BALLOON,
    CRAB,
    GIRAFFE,
    STARFISH,
)
NAMES: tuple[str, ...] = tuple(species.name for species in SPECIES)
