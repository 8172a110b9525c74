"""The SLURM example, with stand-ins for SLURM's commands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "slurm" / "train.sbatch"
NOTES = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$NOTES"
"""
SRUN = """#!/usr/bin/env bash
shift
export SLURM_PROCID=3 SLURM_LOCALID=1 SLURM_NTASKS=16
"$@"
exit "$STATUS"
"""
SCONTROL = NOTES + 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; fi\n'
OOKD = NOTES + 'echo "rank $RANK of $WORLD_SIZE at $MASTER_ADDR, here $LOCAL_RANK" >> "$NOTES"\n'


@pytest.mark.parametrize(("status", "requeued", "code"), [(138, True, 0), (0, False, 0), (2, False, 2)])
def test_a_job_out_of_time_queues_again(status: int, requeued: bool, code: int, tmp_path: Path) -> None:
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "ookd": OOKD}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    notes = tmp_path / "notes"
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "NOTES": str(notes),
        "STATUS": str(status),
        "SLURM_JOB_ID": "41",
        "SLURM_JOB_NODELIST": "node[7-8]",
    }
    done = subprocess.run(["bash", str(SCRIPT), "nano", "runs/a", "--set", "run.steps=5"], env=environment)
    assert done.returncode == code
    lines = notes.read_text().splitlines()
    assert "ookd train nano --out runs/a --resume --set run.steps=5" in lines
    assert "rank 3 of 16 at node7, here 1" in lines
    assert ("scontrol requeue 41" in lines) == requeued
