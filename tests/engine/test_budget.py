"""A planned run has the schedule of its recipe, stretched or shortened."""

from __future__ import annotations

from ookd import config
from ookd.engine.budget import as_begun, planned
from ookd.engine.build import rate


def test_the_schedule_ends_with_the_run() -> None:
    recipe = config.load("nano", ["optim.schedule=cosine", "optim.warmup=100", "run.steps=2400"])
    short = planned(recipe, 240)
    factor = rate(short.optim, short.run.steps)
    assert short.run.steps == 240
    assert short.optim.warmup == 24
    assert factor(23) == 1.0
    assert factor(239) < 0.01
    assert planned(recipe, 24000).optim.warmup == 100


def test_milestones_and_signals_keep_their_place() -> None:
    signal = "{relation: {weight: 1, warmup: 100, until: 600, decay: 200}}"
    steps = ["optim.schedule=step", "optim.milestones=[400, 700]", "run.steps=800"]
    half = planned(config.load("nano-distill", [*steps, f"distill.signals={signal}"]), 400)
    assert half.optim.milestones == [200, 350]
    assert half.distill is not None
    found = half.distill.signals["relation"]
    assert (found.weight, found.warmup, found.until, found.decay) == (1, 50, 300, 100)


def test_a_run_that_goes_on_has_the_plan_with_which_it_began() -> None:
    recipe = config.load("nano", ["run.steps=100"])
    assert as_begun(recipe, planned(recipe, 77)) == planned(recipe, 77)
    assert as_begun(recipe, planned(recipe, 100)) == planned(recipe, 100)  # its warm-up is shorter
