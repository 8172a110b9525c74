"""The ablation in slices, for a machine that is lent for minutes: the same command again goes on.

    python benchmarks/gpu_experiment.py --minutes 9 --out "$OUT" -- --world identity --steps 2000

Worlds are drawn where they are needed, by the loaders on all cores; nothing is brought along. What a slice
has to leave for the next (checkpoints, models) stays in `--work`; `--out` gets what there is to read, a few
MB. What follows `--` goes to `ablation.py`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ABLATION = Path(__file__).with_name("ablation.py")
SAVING = 45  # seconds that a training has to save and end
READABLE = ("*.json", "*.jsonl", "*.html", "*.md", "*.log", "recipe.yaml")
LARGEST = 2_000_000  # bytes of a file that is copied


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=9, help="of this slice")
    parser.add_argument("--processes", type=int, default=2, help="arms that train side by side")
    parser.add_argument("--work", type=Path, default=Path("runs/gpu-experiment"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("ablation", nargs="*", help="arguments of ablation.py, after --")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes - SAVING
    options.work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ABLATION), "--out", str(options.work), *options.ablation]
    codes = side_by_side(command, options.processes, options.work, end)
    reported = subprocess.run([*command, "--report"]).returncode
    bring(options.work, options.out)
    done = all(code == 0 for code in codes)
    print("all arms are done" if done else "not done yet: the same command goes on")
    return reported


def side_by_side(command: list[str], count: int, work: Path, end: float) -> list[int]:
    """The exit codes of `count` processes, asked to save and stop at `end`."""
    threads = str(max(1, (os.cpu_count() or 1) // count))
    processes = []
    for number in range(count):
        with (work / f"process-{number}.log").open("a") as log:
            environment = os.environ | {"OMP_NUM_THREADS": threads}
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    while time.monotonic() < end and any(process.poll() is None for process in processes):
        time.sleep(0.5)
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(SAVING)
        except subprocess.TimeoutExpired:
            process.kill()  # what it has saved before stays whole
    return [process.wait() for process in processes]


def bring(work: Path, out: Path) -> None:
    """Copy what there is to read."""
    for pattern in READABLE:
        for path in work.rglob(pattern):
            if "checkpoints" not in path.parts and path.stat().st_size <= LARGEST:
                place = out / path.relative_to(work)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)


if __name__ == "__main__":
    sys.exit(main())
