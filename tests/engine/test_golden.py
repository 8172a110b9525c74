"""The whole engine against the released programs: their batches through recipe, trainer and optimiser."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import nn

from conftest import golden_cases
from models import test_idol_training as idol
from models import test_seqformer_training as seqformer
from ookd import config
from ookd.engine import loop
from ookd.engine.run_log import RunLog
from ookd.models import zoo
from ookd.structures import Batch

NAMES = [f"class {k}" for k in range(5)]
IDOL_STEPS = idol.STEPS
SEQFORMER_STEPS = golden_cases("seqformer_train_*.json")


class OneBatch:
    """A loader that hands out the same batch for ever."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.batch

    def state_dict(self) -> dict[str, int]:
        return {}


def lines_of_a_run(
    recipe: str,
    model: nn.Module,
    batch: Batch,
    steps: int,
    seed: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[dict[str, Any]]:
    """What the trainer writes down about `steps` steps of a published recipe on a reference batch."""
    zoo.save_pretrained(model, folder / "start", NAMES)
    changes = {
        "model.base": folder / "start",
        "model.start": "null",
        "run.steps": steps,
        "run.seed": seed,
        "run.log_every": 1,
    }
    parsed = config.load(recipe, [f"{key}={value}" for key, value in changes.items()])
    monkeypatch.setattr(loop, "open_loader", lambda *_: (OneBatch(batch), NAMES))
    loop.Trainer(parsed, folder, RunLog(parsed, folder, quiet=True), cpu=True).fit()
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def gradient_norm(norms: dict[str, float | None]) -> float:
    return math.sqrt(sum((norm or 0) ** 2 for norm in norms.values()))


@pytest.mark.parametrize("case", IDOL_STEPS, ids=lambda path: path.stem)
def test_a_step_of_idol(case: Path, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = json.loads(case.read_text())
    batch = idol.golden_batch(load_file(case.with_suffix(".safetensors")))
    (line,) = lines_of_a_run(
        "idol-r50-ytvis19", idol.golden_model(golden), batch, 1, expected["seed"], tmp_path, monkeypatch
    )
    for name, value in expected["losses_unweighted"].items():
        assert line["loss"][idol.our_name(name)] == pytest.approx(value, rel=1e-5, abs=1e-7), name
    assert line["loss"]["total"] == pytest.approx(expected["total"], rel=1e-5)
    assert line["grad_norm"] == pytest.approx(gradient_norm(expected["grad_norms"]), rel=5e-3)


@pytest.mark.parametrize("case", SEQFORMER_STEPS, ids=lambda path: path.stem)
def test_a_step_of_seqformer(
    case: Path, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = json.loads(case.read_text())
    batch = seqformer.golden_batch(load_file(case.with_suffix(".safetensors")))
    (line,) = lines_of_a_run(
        "seqformer-r50-ytvis19", seqformer.golden_model(golden), batch, 1, 0, tmp_path, monkeypatch
    )
    for name, value in expected["losses_unweighted"].items():
        assert line["loss"][seqformer.our_name(name)] == pytest.approx(value, rel=1e-5, abs=1e-7), name
    assert line["loss"]["total"] == pytest.approx(expected["total"], rel=1e-5)
    assert line["grad_norm"] == pytest.approx(gradient_norm(expected["grad_norms"]), rel=5e-3)


def test_four_steps_of_idol(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five losses over four steps. Rounding grows by the steps and may tip a near tie in the fifth."""
    path = golden / "idol_train_steps.json"
    if not path.exists():
        pytest.skip(f"no {path.name} at {golden}")
    expected = json.loads(path.read_text())
    batch = idol.golden_batch(load_file(golden / f"{expected['batch']}.safetensors"))
    lines = lines_of_a_run(
        "idol-r50-ytvis19",
        idol.golden_model(golden),
        batch,
        len(expected["steps"]),
        expected["random_seed"],
        tmp_path,
        monkeypatch,
    )
    for step, line in zip(expected["steps"][:-1], lines[:-1], strict=True):
        assert line["loss"]["total"] == pytest.approx(step["total"], rel=2e-4)
        assert line["grad_norm"] == pytest.approx(step["grad_norm_before_clip"], rel=5e-3)
    assert lines[-1]["loss"]["total"] == pytest.approx(expected["steps"][-1]["total"], rel=2e-2)
