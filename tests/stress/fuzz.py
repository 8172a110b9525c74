"""Fuzzes whole commands: annotations, archives, images, videos, models, runs, recipes and options.

Whatever they are given, commands must succeed, or say in a line what is wrong and end with exit code 2,
within bounds of time and memory, and write nothing outside of where they are told to. What was found is kept
as a folder with the files and the command.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from stress import command
from stress.material import Material
from stress.targets import TARGETS

ROUND = 20  # cases that are drawn with one seed


def options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}; all if none"
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="folder for what is found")


def run(asked: Namespace) -> int:
    end = time.monotonic() + 60 * asked.minutes
    tried: Counter[str] = Counter()
    found: list[Finding] = []
    with workplace() as place:
        for number in range(asked.seed, sys.maxsize):
            for target in asked.targets or TARGETS:
                for one in round_of(target, number, ROUND, place, asked.keep):
                    print(one, flush=True)
                    found.append(one)
                tried[target] += ROUND
                if time.monotonic() > end:
                    print(f"{sum(tried.values())} commands: {dict(tried)}; {len(found)} findings")
                    return 1 if found else 0
    return 0


@dataclass(frozen=True, slots=True)
class Finding:
    """A command that did what it must not."""

    target: str
    seed: int
    words: list[str]
    faults: list[str]
    kept: Path | None

    def __str__(self) -> str:
        command = f"ookd {' '.join(self.words):.300}"
        place = f"{self.target} --seed {self.seed}"
        return f"{place}: {'; '.join(self.faults)}\n    {command}\n    {self.kept or ''}"


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for all files, and an environment that knows nothing of this machine and its network."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "home").mkdir()
        os.environ |= {"HOME": str(place / "home"), "TMPDIR": str(place / "home"), "HF_HUB_OFFLINE": "1"}
        os.environ |= {"MPLCONFIGDIR": str(place / "home"), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        tempfile.tempdir = None
        try:
            yield place
        finally:
            os.environ.clear()
            os.environ.update(before)
            tempfile.tempdir = None


def round_of(target: str, number: int, cases: int, place: Path, keep: Path | None) -> list[Finding]:
    """What `cases` commands of a target did wrong; all follow from the seed."""
    from ookd.cli import main

    command.warm_up()
    material = material_in(place)
    found: list[Finding] = []

    @seed(number)
    @settings(
        max_examples=cases,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        folder = place / "case"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        words = TARGETS[target](data.draw, folder, material)
        faults = command.run(words, folder, main, own=[place / "home"]).faults()
        if faults:
            found.append(
                Finding(target, number, words, faults, _keep(folder, words, keep, f"{target}-{number}"))
            )

    attack()
    return found


_materials: dict[Path, Material] = {}


def material_in(place: Path) -> Material:
    """Sound files in the workplace, the same for all who ask."""
    if place not in _materials:
        (place / "material").mkdir()
        _materials[place] = Material(place / "material")
    return _materials[place]


def _keep(folder: Path, words: list[str], keep: Path | None, name: str) -> Path | None:
    if keep is None:
        return None
    keep.mkdir(parents=True, exist_ok=True)
    kept = keep / f"{name}-{sum(1 for _ in keep.iterdir())}"
    shutil.copytree(folder, kept, symlinks=True)
    (kept / "command.txt").write_text("\n".join(words), errors="backslashreplace")
    return kept.resolve()
