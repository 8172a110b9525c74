"""Model folders: what is saved comes back, and what is broken is one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from bounded import device
from ookd import UserError
from ookd.models import zoo
from ookd.models.backbones.build import LiteConfig
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.backbones.swin import SwinConfig
from ookd.models.families import preset, presets
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.seqformer.model import SeqFormer, SeqFormerConfig

SMALL = {"queries": 6, "dim": 64, "heads": 2, "points": 1, "encoder_layers": 1, "decoder_layers": 2, "ffn": 8}
TINY = IdolConfig(backbone=ResNetConfig(width=2), classes=2, **SMALL)
SWIN = SwinConfig(width=8, blocks=(1, 1, 1, 1), heads=(1, 1, 2, 2), window=4)


@pytest.mark.parametrize(
    "model",
    [
        Idol(TINY),
        Idol(IdolConfig(backbone=SWIN, classes=2, **SMALL)),
        Idol(IdolConfig(backbone=LiteConfig(), classes=2, start="peaks", auxiliary=4, **SMALL)),
        SeqFormer(SeqFormerConfig(backbone=ResNetConfig(width=2, frozen_stages=0), classes=2, **SMALL)),
    ],
    ids=["idol", "idol-swin", "idol-peaks", "seqformer"],
)
def test_round_trip(model: Idol | SeqFormer, tmp_path: Path) -> None:
    zoo.save_pretrained(model, tmp_path / "m", ["cat", "dog"], {"match": 0.4})
    saved = zoo.load(tmp_path / "m")
    assert saved.model.config == model.config
    assert saved.names == ["cat", "dog"]
    assert saved.tracker == {"match": 0.4}
    assert saved.trained_on == ""
    assert not saved.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(saved.model.state_dict()[name], tensor), name
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "m").iterdir()}
    assert modes.keys() == {"config.json", "model.safetensors"}
    assert len(set(modes.values())) == 1  # who may read the one may read the other


def test_tracker_constants_can_be_changed_alone(tmp_path: Path) -> None:
    zoo.save_pretrained(Idol(TINY), tmp_path, ["cat", "dog"], {"match": 0.4})
    weights = (tmp_path / "model.safetensors").read_bytes()
    zoo.save_tracker(tmp_path, {"new_score": 0.6})
    saved = zoo.load(tmp_path)
    assert saved.tracker == {"new_score": 0.6}
    assert saved.names == ["cat", "dog"]
    assert (tmp_path / "model.safetensors").read_bytes() == weights


def test_what_a_model_learned_from_is_kept(tmp_path: Path) -> None:
    assert zoo.load("nano").trained_on == zoo.DRAWN
    zoo.save_pretrained(Idol(TINY), tmp_path, ["cat", "dog"], trained_on=zoo.DRAWN)
    zoo.save_tracker(tmp_path, {"new_score": 0.6})
    assert zoo.load(tmp_path).trained_on == zoo.DRAWN


def test_a_bundled_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.save_pretrained(Idol(TINY), tmp_path / "nano", ["cat", "dog"])
    monkeypatch.setattr(zoo, "BUNDLED", tmp_path)
    assert zoo.bundled() == ["nano"]
    assert zoo.load("nano").names == ["cat", "dog"]
    with pytest.raises(UserError, match=r"model micro: neither .* bundled name \(nano\),.* nor a hub id"):
        zoo.load("micro")


def test_a_hub_id_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = "model nobody/nothing-7f3a: no such folder, and it cannot be downloaded"
    with pytest.raises(UserError, match=words):
        zoo.load("nobody/nothing-7f3a")


def edit(**changes: object) -> Callable[[Path], None]:
    def break_it(folder: Path) -> None:
        fields = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(fields | changes))

    return break_it


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """Change the first matrix of the weights."""

    def break_it(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        name = next(name for name, tensor in state.items() if tensor.dim() > 1)
        save_file({**state, name: change(state[name])}, folder / "model.safetensors")

    return break_it


def replaced_by(file: str, target: str) -> Callable[[Path], None]:
    def break_it(folder: Path) -> None:
        (folder / file).unlink()
        device(folder / file, target)

    return break_it


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda folder: (folder / "config.json").unlink(),
            r"config.json: no such file; .* holds config",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: is not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "must be a JSON object"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "truncated or not a safetensors"),
        (truncate, "truncated or not a safetensors"),
        (edit(model={"family": "yolo"}), "model: family: 'yolo' is none of .*idol"),
        (edit(model={"family": "idol", "depth": 5}), "model: depth: Extra inputs"),
        (edit(names=["cat"]), "names must be a list of 2 class names"),
        (edit(names=["cat", "cat"]), "cat appears twice"),
        (edit(names=["cat", "\x1b[31mdog"]), r"names\.1: .*short text without control"),
        (edit(names=["cat", "d" * 10**6]), r"names\.1: .*short text without control"),
        (edit(names=["cat", ["dog"]]), r"names\.1: "),
        (edit(names=[]), "names: "),
        (edit(model=[]), "model: must be an object"),
        (edit(trained_on={}), "trained_on: "),
        (lambda folder: (folder / "config.json").write_text("[" * 10**5), "is nested too deeply|not JSON"),
        (lambda folder: (folder / "config.json").write_text("7" * 5000), "not JSON: Exceeds the limit"),
        (lambda folder: (folder / "config.json").write_bytes(b'{"\xff": 1}'), "is not UTF-8 text"),
        (replaced_by("config.json", "pipe"), "is a pipe or a device"),
        (replaced_by("config.json", "/dev/zero"), "is a pipe or a device"),
        (replaced_by("model.safetensors", "pipe"), "is a pipe or a device"),
        (replaced_by("model.safetensors", "/dev/zero"), "is a pipe or a device"),
        (weights(lambda tensor: tensor * torch.nan), "holds values that are not finite"),
        (weights(lambda tensor: tensor / 0), "holds values that are not finite"),
        (weights(lambda tensor: tensor > 0), r"is torch\.bool, should be torch\.float32"),
        (weights(lambda tensor: tensor.to(torch.int8)), r"is torch\.int8, should be torch\.float32"),
        pytest.param(
            weights(lambda tensor: tensor.to(torch.complex64)),
            r"is torch\.complex64|not a safetensors",
            marks=pytest.mark.skipif(safetensors.__version__ < "0.7", reason="cannot write such weights"),
        ),
        (edit(tracker=7), "tracker: Input should be a valid dictionary"),
        (
            edit(model=TINY.model_copy(update={"ffn": 9}).model_dump()),
            r"does not fit config.json: .*feed_forward.inner.weight is \[8, 64\], should be \[9, 64\];",
        ),
        (
            edit(model=TINY.model_copy(update={"encoder_layers": 2}).model_dump()),
            "pixels.layers.1.attention.offsets.bias is missing",
        ),
    ],
)
def test_broken_folders(break_it: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    zoo.save_pretrained(Idol(TINY), tmp_path, ["cat", "dog"])
    break_it(tmp_path)
    with pytest.raises(UserError, match=message) as raised:
        zoo.load(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    zoo.save_pretrained(Idol(TINY), tmp_path, ["cat", "dog"])
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="already holds a model"):
        zoo.save_pretrained(Idol(TINY), tmp_path, ["ant", "bee"])
    assert (tmp_path / "model.safetensors").read_bytes() == before
    zoo.save_pretrained(Idol(TINY), tmp_path, ["ant", "bee"], overwrite=True)
    assert zoo.load(tmp_path).names == ["ant", "bee"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/m/model.safetensors: cannot be written: Not a directory"):
        zoo.save_pretrained(Idol(TINY), tmp_path / "file" / "m", ["cat", "dog"])


def test_names_must_fit_the_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 class names for a model of 2 classes"):
        zoo.save_pretrained(Idol(TINY), tmp_path / "m", ["a", "b", "c"])
    assert not (tmp_path / "m").exists()


def test_starting_from_a_model_of_other_classes(tmp_path: Path) -> None:
    trained, fresh = Idol(TINY), Idol(TINY.model_copy(update={"classes": 3}))
    zoo.save_pretrained(trained, tmp_path, ["cat", "dog"])
    kept = fresh.class_heads[0].weight.clone()
    left = zoo.start_from(fresh, tmp_path)
    assert left == [f"class_heads.{layer}.{leaf}" for layer in (0, 1) for leaf in ("weight", "bias")]
    assert torch.equal(fresh.class_heads[0].weight, kept)
    assert torch.equal(fresh.mask_head.fine.weight, trained.mask_head.fine.weight)


def test_a_student_starts_from_its_teacher(tmp_path: Path) -> None:
    teacher = SeqFormer(SeqFormerConfig(backbone=ResNetConfig(width=2), classes=2, **SMALL))
    zoo.save_pretrained(teacher, tmp_path, ["cat", "dog"])
    student = Idol(TINY)
    left = zoo.start_from(student, tmp_path)
    assert {name.split(".")[0] for name in left} == {"embed_head"}


def test_starting_from_something_else_is_an_error(tmp_path: Path) -> None:
    zoo.write_folder(tmp_path, {"unrelated": torch.ones(1)}, {}, overwrite=False)
    with pytest.raises(UserError, match="no weight fits"):
        zoo.start_from(Idol(TINY), tmp_path)


def test_presets_have_the_published_sizes() -> None:
    pytest.importorskip("transformers", minversion="5.23")  # has all families
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in zoo.build(config).parameters()) / 1e6
            for name, config in presets().items()
        }
    assert counts["idol-r50"] == pytest.approx(43.07, abs=0.06)  # frozen statistics are not counted here
    assert counts["idol-swin-l"] == pytest.approx(213.4, abs=0.1)
    unused = 6 * (256 * 256 + 256) / 1e6  # projections that nothing reads
    assert counts["seqformer-r50"] + unused == pytest.approx(48.40, abs=0.06)


def test_preset_with_changes() -> None:
    assert preset("idol-r101", classes=3).classes == 3
    with pytest.raises(UserError, match="no model configuration 'idol'; choose from idol-r50, idol-r101"):
        preset("idol")
    with pytest.raises(UserError, match="clases: Extra inputs"):
        preset("idol-r50", clases=3)
    with pytest.raises(UserError, match="dim 256 does not split into 7 heads"):
        preset("idol-r50", heads=7)
