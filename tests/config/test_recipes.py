"""Recipes: every mistake is one line that says where it is and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ookd import config
from ookd.errors import UserError

# nine lists, each nine times the one before: 414 bytes that stand for 4e8 values
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize("name", config.bundled())
def test_bundled_recipes_are_valid_and_say_what_they_are_for(name: str) -> None:
    recipe = config.load(name)
    assert recipe.name == name
    assert recipe.about
    assert config.Recipe.model_validate(yaml.safe_load(config.describe(recipe))) == recipe


@pytest.mark.parametrize("name", config.bundled())
def test_training_tuning_and_validation_never_share_videos(name: str) -> None:
    data = config.load(name).data
    used = [source for source in (*data.train, data.tune, data.val) if source is not None]
    kept_apart = [(s.preset, s.split, s.seed) for s in used if isinstance(s, config.WorldData)]
    assert len(set(kept_apart)) == len(kept_apart)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lrr=1", "unknown key optim.lrr; did you mean lr?"),
        ("data.train.0.vidoes=3", "unknown key data.train.0.vidoes; did you mean videos?"),
        ("optim.lr=-1", "optim.lr: Input should be greater than 0, not -1"),
        ("run.precision=fp8", "run.precision: Input should be 'fp32', 'bf16' or 'fp16', not 'fp8'"),
        ("run.steps=many", "run.steps: Input should be a valid integer"),
        ("data.augment.flip=2", "data.augment.flip: Input should be less than or equal to 1, not 2"),
        ("data.train.3.seed=1", "data.train.3 has no keys below it"),
        ("data.train.7=1", "the list has entries 0 to 0"),
        ("optim.lr", "write it as key=value"),
        ("optim.lr={", "is not valid YAML"),
        ("data.val.kind=wold", "kind"),
        ("data.tune.sed=1", "unknown key data.tune.sed; did you mean seed?"),
        ("data.frames={kind: distill, lenght: 4}", "unknown key data.frames.lenght; did you mean length?"),
        ("distill.teachr=x", "unknown key distill.teachr; did you mean teacher?"),
        ("distill.filter.min_uio=1", "unknown key distill.filter.min_uio; did you mean min_iou?"),
        ("distill.signals.key.wait=1", "unknown key distill.signals.key.wait; did you mean weight?"),
    ],
)
def test_a_wrong_change_is_one_clear_line(change: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load("nano-distill", [change])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_mistakes_are_reported_at_once() -> None:
    with pytest.raises(UserError, match=r"unknown key optim\.lrr.*run\.steps"):
        config.load("nano-ytvis-like", ["optim.lrr=1", "run.steps=0"])


def test_changes_reach_lists_and_mappings() -> None:
    recipe = config.load(
        "nano-ytvis-like",
        ["data.train.0.videos=9", "model.change.queries=7", "optim.lr=5e-4", "data.val=null"],
    )
    assert recipe.data.train[0].videos == 9  # type: ignore[union-attr]
    assert recipe.model.change == {"queries": 7}
    assert recipe.optim.lr == 5e-4
    assert recipe.data.val is None


def test_a_recipe_inherits_and_changes_kind(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "base: nano-ytvis-like\nname: mine\noptim: {lr: 0.5}\n"
        "data: {frames: {kind: clip, length: 3}, val: {kind: folder, path: x}}\n"
    )
    grandchild = tmp_path / "grandchild.yaml"
    grandchild.write_text("base: mine.yaml\nname: grandchild\n")
    recipe = config.load(str(grandchild))
    assert (recipe.name, recipe.optim.lr, recipe.optim.hold) == ("grandchild", 0.5, 0.6)
    assert recipe.data.frames == config.Clips(kind="clip", length=3)
    assert recipe.data.val == config.FolderData(kind="folder", path="x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: mine.yaml\nname: x\n", "is its own base"),
        ("base: 3\n", "base must be the name of a recipe"),
        ("- a\n", "must be a mapping"),
        ("a: [\n", "is not valid YAML"),
        ("a: &a [*a]\n", "a value contains itself"),
        ("a: 2001-99-99\n", "is not valid YAML: month must be in"),
        ("a: 0x_\n", "is not valid YAML"),
        ("a: \x07\n", "is not valid YAML"),
        ("a: " + "[" * 5000 + "\n", "is nested too deeply"),
        (BOMB, "more than 100000 values in a YAML file"),
        ("base: nano-ytvis-lik\n", "did you mean nano-ytvis-like?"),
        ("name: x\n", "data is missing"),
    ],
)
def test_a_broken_file_is_one_clear_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        config.load(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        config.load(str(tmp_path / "mine.yaml"))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        config.load(str(tmp_path / "none.yaml"))
