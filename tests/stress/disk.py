"""Lets every command that writes meet a full disk, a disk that fills up, and one that is read-only.

Each must say so in a line and end with exit code 2; what lay there before stays. Needs the right to mount.
"""

from __future__ import annotations

import json
import subprocess
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import small_set
from engine.tiny import CHANGES
from ookd.data.formats import writable
from ookd.tracking.sinks import SINKS
from stress import command
from stress.fuzz import material_in, workplace
from stress.material import SIZE, Material

SECONDS = 600  # of a command: some are long, and the machine may be busy
DISKS = {"full": 0, "of 16 kB": 16, "of 100 kB": 100, "of 1 MB": 1000, "read-only": None}  # kB that are free


def options(parser: ArgumentParser) -> None:
    parser.add_argument("writers", nargs="*", help="which commands; all if none")


def run(asked: Namespace) -> int:
    with workplace() as place:
        given = material_in(place)
        names = asked.writers or writers(given)
        faults = []
        for name in names:
            for disk in DISKS:
                faults += trial(name, disk, place, given)
            print(f"{name}: {len(faults)} faults so far", *faults[-5:], sep="\n    ", flush=True)
    print(f"{len(names)} writers on {len(DISKS)} disks: {len(faults)} faults")
    return 1 if faults else 0


def writers(given: Material) -> dict[str, list[str]]:
    """Commands whose output is OUT or below."""
    model, frames = str(given.model), str(given.data / "frames")
    data = str(given.data / "instances.json")
    tiny = [word for change in [*CHANGES, "run.val_videos=1"] for word in ("--set", change)]
    track = ["track", f"{frames}/0", "--model", model, "--out", "OUT/a", "--device", "cpu"]
    return {
        **{f"track {name}": [*track, "--save", name] for name in SINKS},
        **{
            f"convert to {to}": ["data", "convert", str(given.set), "--to", to, "--out", "OUT/a"]
            for to in writable()
        },
        "predict": ["predict", data, "--frames", frames, "--model", model, "--out", "OUT/a"],
        "label": ["label", data, "--model", model, "--score", "0.1", "--out", "OUT/a"],
        "export": ["export", model, "OUT/a", "--to", "onnx", "--size", SIZE, "--scenes", "0", "--no-check"],
        "train": ["train", "nano-ytvis-like", "--out", "OUT/a", "--device", "cpu", *tiny],
        "synth": ["data", "synth", "--out", "OUT/a", "--videos", "3", "--set", "frames=4"],
        "preview": ["data", "preview", data, "--frames", frames, "--out", "OUT/a", "--mp4"],
        "plot": ["data", "stats", str(given.set), "--plot", "OUT/a.png"],
        "report": ["eval", "--gt", "truth.json", "--pred", "results.json", "--report", "OUT/a.html"],
        "demo": ["demo", "--out", "OUT/a"],
    }


def trial(name: str, disk: str, place: Path, given: Material) -> list[str]:
    """What a writer did wrong there."""
    from ookd.cli import main

    words, folder = writers(given)[name], place / "case"
    folder.mkdir(exist_ok=True)
    (folder / "truth.json").write_text(json.dumps(small_set.document()))
    (folder / "results.json").write_text(json.dumps(given.predictions))
    with mounted(place / "disk", DISKS[disk]) as out:
        named = [word.replace("OUT", str(out)) for word in words]
        done = command.run(named, folder, main, own=[place / "home", out], seconds=SECONDS)
        faults = done.faults()
        if done.code == 2 and not any(word in done.err for word in ("cannot", "space", "full")):
            faults.append(f"does not say what is wrong: {done.err.strip()[-300:]}")
        if done.code == 0 and disk in ("full", "read-only"):
            faults.append("says that all is well")
        if (out / "mine.txt").read_text() != "mine":
            faults.append("lost what was there")
    return [f"{name}, disk {disk}: {fault}" for fault in faults]


@contextmanager
def mounted(folder: Path, free: int | None) -> Iterator[Path]:
    """A small disk that holds a file of somebody else; None: one that nothing can be written to."""
    folder.mkdir(exist_ok=True)
    size = f"size={(free or 100) + 64}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        (folder / "mine.txt").write_text("mine")
        if free is None:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        else:
            _fill(folder / "filler", free)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(path: Path, free: int) -> None:
    """Leave so many kB."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    with path.open("r+b") as file:
        file.truncate(max(0, path.stat().st_size - 1024 * free))
