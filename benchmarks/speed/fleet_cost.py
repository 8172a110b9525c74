"""What would very many videos cost? Reckoned from rates that were measured or published elsewhere.

Frames over rates, no more: decoding is part of the measured rates and not of the published ones, and no time
is lost to queues. --rate names a machine and its frames/s, --bytes is what a result has for each frame.
"""

from __future__ import annotations

import argparse

from measuring import Table
from ookd.errors import UserError

RATES = (
    "two CPU cores, nano int8=110.8",
    "H100, VidEoMT-L (published)=160",
    "H100, VidEoMT-S (published)=294",
)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--rate", nargs="+", default=list(RATES), metavar="MACHINE=FRAMES/S")
    parser.add_argument("--bytes", type=float, default=400.0, help="of a result, a frame")
    parser.add_argument("--megabits", type=float, default=2.0, help="a second, of the videos")


def run(given: argparse.Namespace) -> None:
    frames = given.videos * given.seconds * given.fps
    columns = {"machine": "", "frames/s": ".1f", "every": "", "machine hours": ",.0f"}
    columns |= {"machines for a day": ",.1f", "each reads (Mbit/s)": ",.0f"}
    with Table(given, columns) as table:
        for text in given.rate:
            name, found, rate = text.rpartition("=")
            if not found:
                raise UserError(f"--rate {text}: write a machine and its frames/s, as in H100=200")
            for every in (1, 5):
                hours = frames / every / float(rate) / 3600
                speed = float(rate) * every / given.fps * given.megabits
                table.add(name, float(rate), every, hours, hours / 24, speed)
        read = given.videos * given.seconds * given.megabits / 8 / 1e6
        results = frames * given.bytes / 1e12
        table.note(f"{frames / 1e6:,.0f} million frames; videos {read:,.1f} TB, results {results:,.2f} TB.")
