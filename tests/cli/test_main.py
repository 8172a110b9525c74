"""What the command line does before any verb runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What OpenMP's waiting threads were told when torch, and OpenMP with it, began to load.
WATCH = """
import os, sys
from importlib.abc import MetaPathFinder

class Watch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch", os.environ.get("OMP_WAIT_POLICY"))

sys.meta_path.insert(0, Watch())
from ookd.cli import main
assert "torch" not in sys.modules
main(["train", "nano", "--out", sys.argv[1]])
"""


@pytest.mark.parametrize(("own", "told"), [(None, "passive"), ("active", "active")])
def test_waiting_threads_leave_the_cores(tmp_path: Path, own: str | None, told: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if own is not None:
        environment["OMP_WAIT_POLICY"] = own
    (tmp_path / "recipe.yaml").write_text("name: mine\n")  # a run that is refused, once torch is loaded
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("torch")] == [f"torch {told}"]
