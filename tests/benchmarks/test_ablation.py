"""The ablation: what an arm stands for, that nothing is done twice, and that differences are told rightly."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import preset, tracker_config

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from learning import ablation  # noqa: E402
from learning.arms import ARMS, defined, named, recipe_of  # noqa: E402
from learning.claim import claimed  # noqa: E402
from learning.judge import Conditions, Outcomes, judge  # noqa: E402
from learning.splits import Split, of_world  # noqa: E402
from learning.summary import difference, resampled  # noqa: E402
from program import main, parser_of  # noqa: E402

SMALL = {"width": 32, "mask_width": 16, "embed": 16, "heads": 4, "hidden": 64, "queries": 8}
TINY = [
    *("--steps=2", "--seeds=0", "--trials=2", "--world-change=height=64", "--world-change=width=96"),
    *("--world-change=frames=4", "--world-change=crowd=[2, 3]"),
    *("--train-videos=6", "--tune-videos=2", "--val-videos=1", "--test-videos=2"),
    *("--set=data.frames={kind: distill, length: 3}", "--set=data.workers=0", "--set=data.batch=1"),
    *(f"--set=model.change={json.dumps(SMALL)}", "--set=model.pretrained=false"),
    *("--set=run.precision=fp32", "--set=run.log_every=1"),
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ookd.worlds import World

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("teacher")
    names = World("identity").names
    model = zoo.build(preset("nano-clip", classes=len(names), clip_queries=6, **SMALL))
    zoo.save_pretrained(model, folder, names, overwrite=True)
    return folder


def first_losses(folder: Path) -> dict[str, float]:
    losses: dict[str, float] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    return losses


def test_two_arms_from_one_start_and_nothing_twice(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*TINY, f"--teacher={teacher}", f"--out={tmp_path}"]
    naive = ["--arm", "all-queries=naive:distill.signals={class: {weight: 1, warmup: 0}}"]

    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # between training and judging
        patch.setattr(ablation, "judge", killed)
        assert main(["ablation", *command, "--arms", "alone"]) == 130
    alone = tmp_path / "arms" / "alone" / "seed-0"
    assert not (alone / "result.json").exists()
    weights = (alone / "model" / "model.safetensors").stat()

    assert main(["ablation", *command, "--arms", "alone", *naive]) == 0
    taught = tmp_path / "arms" / "all-queries" / "seed-0"
    assert (alone / "model" / "model.safetensors").stat().st_mtime_ns == weights.st_mtime_ns
    assert not list(tmp_path.glob("arms/*/*/checkpoints"))
    plain, both = first_losses(alone), first_losses(taught)
    assert both["kd_class"] > 0
    assert {name: both[name] for name in plain if name != "total"} == {
        name: value for name, value in plain.items() if name != "total"
    }  # the same weights saw the same clips

    capsys.readouterr()
    with monkeypatch.context() as patch:  # once more there is nothing to do but report
        patch.setattr(ablation, "trained", killed)
        assert main(["ablation", *command, "--arms", "alone", *naive]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert rows[:4] == ["arm", "---", "alone", "all-queries"]
    told = json.loads((tmp_path / "results.json").read_text())["arms"]
    assert told["all-queries"]["against"]["seeds"] == [0]
    assert told["alone"]["seeds"]["0"]["steps"] == 2

    assert main(["ablation", *command, "--arms", "alone", "--steps=3"]) == 2
    assert "steps 2, not 3: choose another --out" in capsys.readouterr().err


def test_arms_differ_in_what_they_say() -> None:
    recipes = {name: recipe_of(arm, "nano-distill", ["run.steps=7"]) for name, arm in ARMS.items()}
    assert all(recipe.run.steps == 7 for recipe in recipes.values())
    untaught = {name for name, recipe in recipes.items() if recipe.distill is None}
    assert untaught == {"alone", "longer", "paste", "teacher"}
    assert {name for name, recipe in recipes.items() if recipe.data.minor_paste is not None} == {
        "paste",
        "ookd",
    }
    features, shuffled = recipes["qfa-features"].distill, recipes["shuffled"].distill
    assert features is not None
    assert {"class", "mask"}.isdisjoint(features.signals)
    assert shuffled == features.model_copy(update={"control": "shuffled"})
    key, naive = recipes["qfa-key"].distill, recipes["naive"].distill
    assert key is not None
    assert set(key.signals) == {"key"}
    assert key.signals["key"].weight > 0
    assert naive is not None
    assert (naive.filter.kind, naive.associate) == ("none", "prediction")
    # all but one see the same frames in the same order
    assert {name for name, r in recipes.items() if r.data.frames != recipes["alone"].data.frames} == {
        "longer"
    }
    assert recipes["longer"].data.frames.kind == "pair"


def test_few_labels_are_all_that_a_student_without_a_teacher_gets() -> None:
    given = ["--labelled=20", "--train-videos=300", "--unlabelled=clips/"]
    experiment = ablation.Experiment(parser_of("ablation").parse_args(given))
    alone, ookd = (experiment.recipe(ARMS[name]).data.train for name in ("alone", "ookd"))
    assert [source.model_dump()["videos"] for source in alone] == [20]
    assert alone == ookd[:1]
    assert [source.unlabelled for source in ookd] == [False, True, True]
    assert ookd[1].model_dump()["videos"] == 300
    folder = ablation.Experiment(parser_of("ablation").parse_args([*given, "--train=clips/"]))
    with pytest.raises(UserError, match="of a folder all videos keep their labels"):
        folder.recipe(ARMS["alone"])


def test_arms_of_one_s_own() -> None:
    arm = defined("strict=ookd:distill.filter={kind: exact, min_iou: 0.8},optim.lr=1e-4")
    recipe = recipe_of(arm, "nano-distill", [])
    assert recipe.distill is not None
    assert recipe.distill.filter.min_iou == 0.8
    assert recipe.optim.lr == 1e-4
    assert recipe.data.minor_paste is not None
    with pytest.raises(UserError, match="qfa is an arm already"):
        defined("qfa:optim.lr=1")
    with pytest.raises(UserError, match="write it as NAME:key=value"):
        defined("other")
    with pytest.raises(UserError, match="no arm prototype; did you mean prototypes"):
        named("prototype")
    with pytest.raises(UserError, match="has no `distill`"):
        recipe_of(named("qfa"), "nano-ytvis-like", [])


def test_a_folder_is_one_process_s_until_it_ends(tmp_path: Path) -> None:
    program = (
        f"import sys, time; sys.path.append({str(BENCHMARKS)!r})\n"
        "from pathlib import Path\nfrom learning.claim import claimed\n"
        f"with claimed(Path({str(tmp_path)!r})) as mine:\n print(mine, flush=True)\n time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    with claimed(tmp_path) as mine:
        assert not mine
    other.send_signal(signal.SIGKILL)
    other.wait()
    with claimed(tmp_path) as mine:
        assert mine


def outcomes(right: list[int], switches: list[int]) -> Outcomes:
    """One class, two videos of one track each, each with one prediction that is right or wrong."""
    one = np.array(right, np.uint8)
    return Outcomes(
        np.zeros(2, np.int16),
        np.arange(2, dtype=np.int32),
        np.array([0.9, 0.8], np.float32),
        np.repeat(one[None], 10, 0),
        np.ones((2, 1), np.int64),
        np.array(switches, np.int64),
        np.array([100, 300]),
    )


def test_the_difference_of_means_over_seeds_and_its_interval() -> None:
    perfect, half = resampled(outcomes([1, 1], [1, 0])), resampled(outcomes([1, 0], [1, 4]))
    found = difference([perfect, half], [half, half], {"minor": [0], "major": []})
    # With both videos, half of the tracks are found before the first mistake: 51 of 101 recall thresholds.
    # Drawn twice, the first video leaves no difference and the second one all of it; one seed of two differs.
    assert found["test_ap"].difference == pytest.approx(100 * (1 - 51 / 101) / 2)
    assert (found["test_ap"].low, found["test_ap"].high) == pytest.approx((0, 50))
    assert found["minor_ap"] == found["test_ap"]
    assert "major_ap" not in found
    assert found["switches"].difference == pytest.approx((1 - 5) / 2)
    assert (found["switches"].low, found["switches"].high) == pytest.approx((-4, 0))
    assert found["switch_rate"].difference == pytest.approx(1000 * (1 / 400 - 5 / 400) / 2)


def test_without_trials_an_arm_keeps_the_family_s_constants(tmp_path: Path) -> None:
    """And no tuning split is asked for."""
    changes = ["height=64", "width=96", "frames=4", "crowd=[2, 3]"]
    splits = {name: Split(of_world("identity", name, 2, 0, changes)) for name in ("train", "test")}
    names = list(splits["train"].source.names)
    zoo.save_pretrained(zoo.build(preset("nano", classes=len(names), **SMALL)), tmp_path, names)
    told, _ = judge(tmp_path, Conditions(splits, trials=0, seed=0, half=False))
    assert told["constants"] == tracker_config("compact").model_dump()
    assert told["test_ap"] == told["test_ap_default"]
    assert "tune_ap" not in told
