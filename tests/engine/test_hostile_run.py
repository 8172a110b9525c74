"""Run folders that were damaged or changed: nothing is written or lost before it is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bounded import device
from engine.tiny import CHANGES, recipe
from ookd.cli import main
from ookd.engine.page import write_run_page
from ookd.engine.run import run
from ookd.errors import UserError
from ookd.files import checksum
from ookd.locking import locked

QUICK = ["run.steps=2", "run.save_every=1", "data.val=null"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(recipe(*QUICK), folder, cpu=True)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): checksum(path) for path in folder.rglob("*") if path.is_file()}


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("step-*"))


def test_if_no_checkpoint_is_whole_nothing_is_begun_anew(copy: Path) -> None:
    for path in checkpoints(copy):
        (path / "model.safetensors").write_bytes(b"damaged")
    before = files(copy)
    with pytest.raises(UserError, match=r"none of the 2 checkpoints is whole, the last: .*begin anew"):
        run(recipe(*QUICK), copy, cpu=True)
    after = files(copy)
    del before["run.html"], after["run.html"]
    assert after == before


Change = Callable[[dict[str, Any]], object]
FACTS: dict[str, Change] = {
    "no step": lambda facts: facts.pop("step"),
    "a step as text": lambda facts: facts.update(step="2"),
    "a step below zero": lambda facts: facts.update(step=-1),
    "no generator": lambda facts: facts.pop("python"),
    "a generator of texts": lambda facts: facts.update(python=[["x"]]),
    "no place in the data": lambda facts: facts.pop("loader"),
    "a place as a list": lambda facts: facts.update(loader=[1]),
    "a place without seed": lambda facts: facts["loader"].pop("seed"),
    "skipped as an object": lambda facts: facts.update(skipped={}),
    "a scaler of texts": lambda facts: facts.update(scaler="x"),
    "nothing": lambda facts: facts.clear(),
}


@pytest.mark.parametrize("name", FACTS)
def test_facts_are_checked_though_their_checksum_agrees(name: str, copy: Path) -> None:
    path = checkpoints(copy)[-1]
    facts = json.loads((path / "facts.json").read_text())
    FACTS[name](facts)
    (path / "facts.json").write_text(json.dumps(facts))
    seal(path)
    assert run(recipe(*QUICK), copy, cpu=True).steps == 2  # from the checkpoint before


def seal(path: Path) -> None:
    sums = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({name: checksum(path / name) for name in sums}))


MANIFESTS: dict[str, str] = {
    "empty": "{}",
    "a list": "[]",
    "deep": '{"a":' * 10**5,
    "numbers": '{"facts.json": 1}',
    "a file elsewhere": '{"../../recipe.yaml": "0"}',
    "no text": "\udcff",
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_of_checkpoints_are_checked(name: str, copy: Path) -> None:
    path = checkpoints(copy)[-1] / "manifest.json"
    path.write_bytes(MANIFESTS[name].encode("utf-8", "surrogateescape"))
    assert run(recipe(*QUICK), copy, cpu=True).steps == 2


@pytest.mark.parametrize("file", ["manifest.json", "facts.json", "model.safetensors"])
def test_devices_are_no_checkpoint(file: str, copy: Path) -> None:
    path = checkpoints(copy)[-1]
    (path / file).unlink()
    device(path / file, "pipe")
    assert run(recipe(*QUICK), copy, cpu=True).steps == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("optim.kind=adamw", "made by Muon, not AdamW"),
        ("model.change.width=48", "does not fit this recipe"),
        ("run.seed=7", "resume with the same data and seed"),
    ],
)
def test_another_recipe_that_does_not_fit_changes_nothing(change: str, says: str, copy: Path) -> None:
    before = files(copy)
    with pytest.raises(UserError, match=says) as caught:
        run(recipe(*QUICK, change), copy, cpu=True)
    assert "\n" not in str(caught.value)
    after = files(copy)
    del before["run.html"], after["run.html"]
    assert after == before


@pytest.mark.parametrize(
    "line",
    [
        '{"step": "x", "loss": {}}',
        '{"step": 1, "loss": []}',
        '{"step": 1, "loss": {"total": "x"}}',
        '{"step": 1}',
        '{"step": 1, "val": {}}',
        '{"step": 1, "val": 5}',
        "[" * 10**5,
        "\x00\xff",
        "7" * 5000,
    ],
)
def test_damaged_lines_of_metrics_are_left_out(line: str, copy: Path) -> None:
    with (copy / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    assert run(recipe(*QUICK), copy, cpu=True).steps == 2
    write_run_page(copy)


def test_a_loss_without_a_name_is_drawn(copy: Path) -> None:
    lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.get("loss", {})[""] = 1.0
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_run_page(copy)


@pytest.mark.parametrize("file", ["recipe.yaml", "validation.json", "environment.json"])
@pytest.mark.parametrize("content", ["[]", "{", "{}", "x"])
def test_a_page_of_damaged_files_is_one_line(file: str, content: str, copy: Path) -> None:
    (copy / file).write_text(content)
    if (file, content) in (("validation.json", "{}"), ("environment.json", "{}")):
        write_run_page(copy)  # as before the first validation
        return
    with pytest.raises(UserError, match=r"damaged|not JSON|JSON object|not valid YAML"):
        write_run_page(copy)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("tracker.short_side=-3", "short_side"),
        ("tracker.short_side=1000000000", "short_side"),
        ("tracker.new_scor=0.5", "new_scor"),
        ("tracker.memory_length=1000000000", "memory_length"),
        ("tracker.horizon=1000000000", "horizon"),
        ("tracker.scale=.nan", "scale"),
        ("tracker.nearness=.inf", "nearness"),
        ("tracker.associator=best", "associator"),
        ("tracker.match=high", "match"),
    ],
)
def test_tracker_constants_are_checked_before_training(change: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"tracker constants: {says}"):
        run(recipe(*QUICK, change), tmp_path / "run", cpu=True)
    assert not (tmp_path / "run").exists()


def test_what_a_killed_save_left_goes_with_the_next(copy: Path) -> None:
    left = copy / "checkpoints" / ".step-00000001.99999"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    run(recipe("run.steps=3", *QUICK[1:]), copy, cpu=True)
    assert not left.exists()


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_the_second_trainer_is_refused(
    option: str, copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [word for change in (*CHANGES, *QUICK) for word in ("--set", change)]
    before = files(copy)
    with locked(copy):
        monkeypatch.setattr("ookd.locking._held", set())  # as another process sees it
        assert main(["train", "nano-ytvis-like", *changes, "--out", str(copy), option]) == 2
    assert "another process writes there" in capsys.readouterr().err
    assert files(copy) == before


@pytest.mark.parametrize("out", ["file", "file/below", "n" * 300])
def test_a_folder_that_cannot_be_is_one_line(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["train", "nano", "--out", str(tmp_path / out)]) == 2
    assert "cannot be" in capsys.readouterr().err
