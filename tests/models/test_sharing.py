"""Models go to the hub with a card and a licence, and come back from there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

import ookd
from cli.data_and_model import write_model
from models.hub_server import serving
from ookd.errors import UserError
from ookd.models import licence, zoo
from ookd.models.sharing import card


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What a small hub on this machine has been given."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(licence, "_announced", set())
    with serving({}, tmp_path / "hub") as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield tmp_path / "hub"


def test_what_is_pushed_can_be_loaded(uploads: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    address = ookd.push_to_hub(model, "me/blocks", licence="cc-by-4.0", about="Squares and blocks.")
    assert address.endswith("/me/blocks")
    folder = uploads / "me" / "blocks"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    page = (folder / "README.md").read_text()
    assert licence.licence_in(folder) == "cc-by-4.0"
    assert "Classes: square, block." in page
    assert "Squares and blocks." in page
    assert 'model="me/blocks"' in page
    assert str(tmp_path) not in page
    mine, theirs = zoo.load(model), zoo.load("me/blocks")
    assert theirs.names == mine.names
    for name, tensor in mine.model.state_dict().items():
        assert torch.equal(theirs.model.state_dict()[name], tensor)


def test_a_licence_is_asked_for_and_that_of_others_stays(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    with pytest.raises(UserError, match="name the licence"):
        ookd.push_to_hub(model, "me/blocks")
    saved = zoo.load(model)
    zoo.save_pretrained(saved.model, tmp_path / "other", saved.names, licence="mit", source="them/start@12ab")
    with pytest.raises(UserError, match="came under the licence mit, which stays"):
        ookd.push_to_hub(tmp_path / "other", "me/blocks", licence="apache-2.0")
    assert 'license: "mit"\n' in card(tmp_path / "other", "me/blocks", "mit")
    assert 'base_model: "them/start"\n' in card(tmp_path / "other", "me/blocks", "mit")


@pytest.mark.parametrize("name", ["blocks", "me/blocks@main", "../x", "a/b/c"])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="write owner/name"):
        ookd.push_to_hub(write_model(tmp_path / "model"), name, licence="mit")


def test_a_hub_that_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({}) as url:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        with pytest.raises(UserError, match="cannot be uploaded; `hf auth login` first") as caught:
            ookd.push_to_hub(write_model(tmp_path / "model"), "me/blocks", licence="mit")
    assert "\n" not in str(caught.value)
