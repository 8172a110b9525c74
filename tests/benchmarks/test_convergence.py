"""A longer budget that goes on from a shorter one is the run it would have been from the first step."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

from engine.tiny import recipe  # noqa: E402
from learning.convergence import held_steps, train  # noqa: E402
from ookd.engine.run import run  # noqa: E402
from ookd.errors import UserError  # noqa: E402

HELD = ["optim.kind=muon", "optim.hold=0.5", "data.val=null"]


def test_budgets_share_the_steps_of_the_held_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, long = recipe(*HELD, "run.steps=4"), recipe(*HELD, "run.steps=8")
    assert held_steps(short) == 2
    first = train(short, tmp_path / "short", None)
    second = train(long, tmp_path / "long", tmp_path / "short")
    told = capsys.readouterr()
    assert "continuing after step 2" in told.out + told.err
    run(long, tmp_path / "whole")
    assert (first["steps"], second["steps"]) == (4, 8)
    assert second["trained_s"] > 0
    a, b = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("long", "whole"))
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_a_rate_that_falls_at_milestones_is_refused() -> None:
    with pytest.raises(UserError, match="schedule"):
        held_steps(recipe("optim.schedule=step"))
