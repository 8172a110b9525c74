"""A student says who labelled its training data."""

from __future__ import annotations

from pathlib import Path

from engine import tiny
from ookd import config
from ookd.data.convert import convert
from ookd.data.formats import load
from ookd.engine.run import run
from ookd.models import zoo
from ookd.models.licence import licence_in
from ookd.worlds import World
from ookd.worlds.write import write


def test_the_card_of_a_student_names_its_teacher_and_the_licence(tmp_path: Path) -> None:
    write(World("ytvis-like", videos=2, height=64, width=96, frames=4, crowd=[2, 2]), tmp_path / "world")
    dataset = load(tmp_path / "world")
    teacher = {
        "id": "a/b",
        "revision": "123",
        "licence": "sam-license",
        "prompts": {"cat": "cat", "a": "dog"},
    }
    dataset.extra["info"] = {"teacher": teacher}
    convert(dataset, tmp_path / "labels", "ytvis", frames=False)
    changes = [change for change in tiny.CHANGES if not change.startswith(("data.train", "data.val"))]
    source = f"data.train=[{{kind: folder, path: {tmp_path / 'labels'}}}]"
    recipe = config.load("nano-ytvis-like", [source, "data.val=null", *changes, "run.steps=1"])
    model = Path(run(recipe, tmp_path / "run", cpu=True).model)
    said = "a/b@123 (sam-license; asked for cat, a=dog)"
    assert zoo.load(model).labelled_by == said
    card = (model / "README.md").read_text()
    assert f"labelled by {said}" in card
    assert licence_in(model) == "unknown"  # the weights are our own


def test_people_are_not_named(tmp_path: Path) -> None:
    run(tiny.recipe("run.steps=1", "data.val=null"), tmp_path, cpu=True)
    assert not (tmp_path / "model" / "README.md").exists()
    assert zoo.load(tmp_path / "model").labelled_by == ""
