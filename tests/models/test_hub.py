"""Models are named by hub ids and read from folders that `transformers` wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import ookd
from models.hub_server import COMMIT, serving
from models.tiny_videomt import NAMES, theirs, written
from ookd.cli import main
from ookd.errors import UserError
from ookd.models import licence, zoo
from ookd.models.catalogue import CATALOGUE, known_licence
from ookd.models.families import presets
from ookd.models.label_sets import LABEL_SETS
from ookd.models.videomt.model import Videomt

MIT, NON_COMMERCIAL = "---\nlicense: mit\n---\n# A model\n", "---\nlicense: cc-by-nc-4.0\n---\n"


@pytest.fixture(autouse=True)
def nothing_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licence, "_announced", set())


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Makes these repositories the hub, with an empty cache."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    opened = []

    def start(repositories: dict[str, Path | int]) -> None:
        hub = serving(repositories)
        opened.append(hub)
        url = hub.__enter__()
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    yield start
    for hub in opened:
        hub.__exit__(None, None, None)


def test_a_folder_of_transformers_is_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "m", MIT)
    saved = zoo.load(folder)
    assert isinstance(saved.model, Videomt)
    assert not saved.model.training
    assert saved.names == NAMES
    assert saved.licence == "mit"
    assert zoo.config_of(folder) == saved.model.config
    for name, tensor in theirs().state_dict().items():
        assert torch.equal(saved.model.net.state_dict()[name], tensor), name
    zoo.load(folder)
    assert capsys.readouterr().err.count("the weights' licence is mit") == 1


def test_it_round_trips_through_a_folder_of_our_own(tmp_path: Path) -> None:
    source = written(tmp_path / "m", NON_COMMERCIAL)
    assert main(["weights", "convert", str(source), str(tmp_path / "own")]) == 0
    before, after = zoo.load(source), zoo.load(tmp_path / "own")
    assert json.loads((tmp_path / "own" / "config.json").read_text())["licence"] == "cc-by-nc-4.0"
    assert after.names == NAMES
    assert after.licence == "cc-by-nc-4.0"
    assert after.model.config == before.model.config
    files = [load_file(folder / "model.safetensors") for folder in (source, tmp_path / "own")]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
    shown = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    results = [ookd.load(place, "cpu").session().step(shown) for place in (source, tmp_path / "own")]
    assert np.array_equal(results[0].masks, results[1].masks)


def test_non_commercial_weights_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.load(written(tmp_path / "m", NON_COMMERCIAL))
    assert "cc-by-nc-4.0 (NO COMMERCIAL USE)" in capsys.readouterr().err


def test_a_hub_id_is_downloaded_once(
    serve: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = written(tmp_path / "m", MIT)
    serve({"somebody/tiny": repository})
    saved = zoo.load("somebody/tiny")
    assert (saved.names, saved.source) == (NAMES, f"somebody/tiny@{COMMIT[:12]}")
    assert "somebody/tiny@5f3c5f3c5f3c: the weights' licence is mit" in capsys.readouterr().err
    serve({})
    assert zoo.load(f"somebody/tiny@{COMMIT}").names == NAMES
    assert ookd.load("somebody/tiny", "cpu").licence == "mit"
    serve({"somebody/tiny": 404})
    assert main(["weights", "convert", "somebody/tiny", str(tmp_path / "own")]) == 0
    assert zoo.load(tmp_path / "own").source == saved.source


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/gated", r"model a/gated: is gated; accept the terms at http.*/a/gated, then"),
        ("a/private", "model a/private: neither a folder here nor a model on the hub; if it is private,"),
        ("a/nothing", "model a/nothing: neither a folder here nor a model on the hub"),
        ("a/pickled", "model a/pickled: the hub has no model.safetensors of it; other kinds of weights are"),
        ("a/empty", "model a/empty: the hub has no config.json of it; it is no model"),
        ("a/cut", "model.safetensors: truncated or not a safetensors file"),
        ("a/words", "config.json: model_type 'bert' cannot be run; choose from .*videomt"),
        ("a/unnamed", "config.json: id2label does not name the classes"),
        ("a/odd", "config.json: hidden_size: Input should be a valid integer"),
        ("a/other", r"does not fit config.json: .*class_predictor.bias is \[6\], should be \[4\]"),
        ("videomt-s", "model tue-mps/videomt-dinov2-small-ytvis2019: neither a folder here nor a model on"),
    ],
)
def test_what_the_hub_cannot_give_is_one_line(
    name: str, message: str, serve: Callable[..., None], tmp_path: Path
) -> None:
    def edited(**changes: object) -> Path:
        folder = written(tmp_path / "edited")
        fields = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**fields, **changes}))
        return folder

    def folder() -> Path | int:
        if name == "a/pickled":
            place = written(tmp_path / "pickled")
            (place / "model.safetensors").rename(place / "pytorch_model.bin")
            return place
        if name == "a/cut":
            place = written(tmp_path / "cut")
            weights = (place / "model.safetensors").read_bytes()
            (place / "model.safetensors").write_bytes(weights[:-100])
            return place
        if name == "a/empty":
            (tmp_path / "empty").mkdir()
            return tmp_path / "empty"
        fields: dict[str, dict[str, object]] = {
            "a/words": {"model_type": "bert"},
            "a/unnamed": {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}},
            "a/odd": {"hidden_size": "wide"},
            "a/other": {"id2label": {"0": "x", "1": "y", "2": "z"}},
        }
        if name in fields:
            return edited(**fields[name])
        return {"a/gated": 403, "a/private": 401}.get(name, 404)

    serve({name: folder()})
    with pytest.raises(UserError, match=message) as raised:
        zoo.load(name)
    assert "\n" not in str(raised.value)


def test_no_network(serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    serve({})
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="it cannot be downloaded: the hub cannot be reached") as raised:
        zoo.load("somebody/tiny")
    assert "\n" not in str(raised.value)


def test_unnamed_classes_get_names(tmp_path: Path) -> None:
    source = written(tmp_path / "m", names=[])
    with pytest.raises(UserError, match="id2label does not name the classes"):
        zoo.load(source)
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    arguments = [str(source), str(tmp_path / "own"), "--names", str(tmp_path / "names.txt")]
    assert main(["weights", "convert", *arguments]) == 0
    assert zoo.load(tmp_path / "own").names == list("abcde")


def test_ovis_brings_its_own_size(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", names=LABEL_SETS["ovis"])
    config = ookd.load(folder, "cpu").config
    assert config.short_side == 544
    assert ookd.load(written(tmp_path / "other"), "cpu").config.short_side == 448
    zoo.save_tracker(folder, {"short_side": 256})
    assert ookd.load(folder, "cpu").config.short_side == 256


def test_a_model_starts_from_a_folder_of_transformers(tmp_path: Path) -> None:
    config = zoo.config_of(written(tmp_path / "m")).model_copy(update={"classes": 3})
    fresh = zoo.build(config)
    left = zoo.start_from(fresh, tmp_path / "m")
    assert set(left) == {f"net.{name}" for name in ("class_predictor.weight", "class_predictor.bias")} | {
        "net.criterion.empty_weight"
    }


def test_the_list_of_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    listed = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert listed["nano"]["on_disk"]
    assert listed["videomt-s"]["id"] == "tue-mps/videomt-dinov2-small-ytvis2019"
    assert listed["videomt-s"]["licence"] == "mit"
    assert listed["facebook/sam3"]["use"]
    assert not listed["facebook/sam3"]["on_disk"]
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert "52.8 AP on YTVIS-19" in told
    assert "IDEA-Research/grounding-dino-tiny" in told
    assert known_licence("facebook/sam3@main") == "sam-license"


def test_the_list_is_right_about_sizes_and_classes() -> None:
    for model in (model for model in CATALOGUE if model.family == "videomt"):
        size = {"small": "s", "base": "b", "large": "l"}[model.id.split("-")[3]]
        config = presets()[f"videomt-{size}"].model_copy(update={"classes": model.classes})
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in zoo.build(config).parameters())
        assert count / 1e6 == pytest.approx(model.millions, abs=0.6)
        assert len(LABEL_SETS.get(model.labels.lower().replace("-", ""), range(40))) == model.classes
