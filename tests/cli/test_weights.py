"""`ookd weights convert`: from a published file to a folder that loads, or one clear line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.published import assert_close, idol, prepare
from ookd.cli import main
from ookd.models import zoo
from ookd.models.backbones.resnet import ResNet, ResNetConfig
from ookd.models.families import preset
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.upstream import BACKBONE, to_upstream


@pytest.fixture
def file(golden: Path, tmp_path: Path) -> Path:
    """The small IDOL as a checkpoint of its training program."""
    path = tmp_path / "model_final.pth"
    state = load_file(golden / "idol_state_dict.safetensors")
    schedule = {"last_lr": [np.float64(1e-5), np.float32(1e-4)], "last_epoch": np.int64(12000)}
    torch.save({"model": state, "scheduler": schedule, "iteration": 12000}, path)
    return path


def convert(*arguments: object) -> int:
    return main(["weights", "convert", *map(str, arguments)])


def test_converted_file_gives_the_published_numbers(golden: Path, file: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\ncow\ndog\nelk\n")
    assert convert(file, tmp_path / "out", "--names", names) == 0
    saved = zoo.load(tmp_path / "out")
    assert saved.names == ["ant", "bee", "cow", "dog", "elk"]
    assert isinstance(saved.model, Idol)
    assert saved.model.config == idol(golden).config.model_copy(update={"dropout": 0.1})
    expected = load_file(golden / "idol_forward.safetensors")
    with torch.no_grad():
        answer, _ = saved.model(*prepare(expected["frames_raw"]))
    assert_close(answer.logits, expected["pred_logits"])


def test_answer_as_json(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(file, tmp_path / "out", "--json") == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["kind"] == "idol"
    assert answer["classes"] == 5
    assert "5 classes are numbered" in err


def test_ovis_is_recognised_and_brings_its_tracker(tmp_path: Path) -> None:
    small = {"backbone": ResNetConfig(width=2), "classes": 25, "queries": 5, "dim": 64, "ffn": 8}
    config = preset("idol-r50", encoder_layers=1, decoder_layers=1, **small)
    assert isinstance(config, IdolConfig)
    torch.save({"model": to_upstream(Idol(config).state_dict())}, tmp_path / "ovis.pth")
    assert convert(tmp_path / "ovis.pth", tmp_path / "out") == 0
    saved = zoo.load(tmp_path / "out")
    assert saved.names[-1] == "Vehical"
    assert saved.tracker == {"short_side": 720, "mask_nms": 0.3, "new_score": 0.3}


def test_resnet_becomes_a_start_for_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = ResNet(ResNetConfig(width=1))
    upstream = to_upstream({BACKBONE + k: torch.rand_like(v) for k, v in trained.state_dict().items()})
    state = {name.removeprefix("detr.detr.backbone.0.backbone."): value for name, value in upstream.items()}
    torch.save(state, tmp_path / "r50.pth")
    assert convert(tmp_path / "r50.pth", tmp_path / "out") == 0
    model = Idol(IdolConfig(backbone=ResNetConfig(width=1), queries=5, encoder_layers=1, decoder_layers=1))
    fresh = zoo.start_from(model, tmp_path / "out")
    assert not any(name.startswith(BACKBONE) for name in fresh)
    expected = state["res4.5.conv2.weight"]
    assert torch.equal(model.state_dict()[BACKBONE + "stages.res4.5.conv2.0.weight"], expected)
    capsys.readouterr()
    with pytest.raises(zoo.UserError, match="backbone to start training from"):
        zoo.load(tmp_path / "out")


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_what_is_there_is_not_overwritten(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert convert(file, out) == 0
    before = (out / "config.json").read_bytes()
    capsys.readouterr()
    assert convert(file, out, "--names", "ovis") == 2
    assert "25 names for 5 classes" in one_line(capsys)
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\ne")
    assert convert(file, out, "--names", names) == 2
    assert "already holds a model" in one_line(capsys)
    assert (out / "config.json").read_bytes() == before
    assert convert(file, out, "--names", names, "--overwrite") == 0
    assert zoo.load(out).names == ["a", "b", "c", "d", "e"]


def test_odd_and_missing_weights_are_all_listed(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_file(golden / "idol_state_dict.safetensors")
    state["detr.detr.extra.weight"] = torch.ones(1)
    torch.save(state, tmp_path / "odd.pth")
    assert convert(tmp_path / "odd.pth", tmp_path / "out") == 2
    assert "detr.detr.extra.weight" in one_line(capsys)
    del state["detr.detr.extra.weight"], state["detr.mask_head.dcn.bias"]
    state["detr.detr.input_proj.0.1.bias"] = torch.ones(3)
    torch.save(state, tmp_path / "short.pth")
    assert convert(tmp_path / "short.pth", tmp_path / "out") == 2
    message = one_line(capsys)
    assert "mask_head.fine.bias is missing" in message
    assert "pixels.projections.0.1.bias is [3], should be [256]" in message
    assert not (tmp_path / "out").exists()


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code from the file was run",))


KINDS = ["absent", "folder", "code", "pickle", "text", "truncated", "list", "number"]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", KINDS)
def test_bad_files_are_one_line(
    kind: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.pth"
    match kind:
        case "folder":
            path.mkdir()
        case "code":
            torch.save({"model": Trap()}, path)
        case "pickle":
            path.write_bytes(pickle.dumps({"model": {"stem.conv1.weight": [1.0]}}))
        case "text":
            path.write_text("<html>404</html>")
        case "truncated":
            path.write_bytes(file.read_bytes()[:100_000])
        case "list":
            torch.save([torch.ones(1)], path)
        case "number":
            torch.save({"model": {"detr.detr.query_embed.weight": torch.ones(1, 2), "epoch": 3}}, path)
    assert convert(path, tmp_path / "out") == 2
    message = one_line(capsys)
    assert message.count("bad.pth") == 1
    assert "code from the file was run" not in message
    assert kind != "code" or "it would run print" in message
    assert not (tmp_path / "out").exists()
