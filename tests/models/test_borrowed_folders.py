"""Folders that `transformers` wrote are models: read, tracked with, and copied into folders of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.borrowed import CLIP, FRAMES, TINY, tiny, written
from ookd.cli import main
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.catalogue import CATALOGUE, known_licence
from ookd.models.families import family_of, presets
from ookd.models.label_sets import LABEL_SETS
from ookd.models.licence import non_commercial

NAMES = ["cat", "dog", "owl", "fox", "hen"]


@pytest.mark.parametrize("name", FRAMES)
def test_it_loads_and_round_trips(name: str, tmp_path: Path) -> None:
    net, folder = written(name, tmp_path / "theirs", NAMES)
    saved = zoo.load(folder)
    assert saved.model.config.family == tiny(name).config.family
    assert saved.names == NAMES
    loaded = saved.model.net.state_dict()
    for key, tensor in net.state_dict().items():
        assert torch.equal(loaded[key], tensor), key

    assert main(["weights", "convert", str(folder), str(tmp_path / "ours")]) == 0
    again = zoo.load(tmp_path / "ours")
    assert again.model.config == saved.model.config
    files = [load_file(place / "model.safetensors") for place in (folder, tmp_path / "ours")]
    assert files[0].keys() <= files[1].keys()
    assert all(torch.equal(files[0][key], files[1][key]) for key in files[0])


def test_labels_without_a_name_are_left_out(tmp_path: Path) -> None:
    names = ["N/A", "person", "LABEL_2", "car", "background"]
    _, folder = written("rf-detr-seg-small", tmp_path, names)
    saved = zoo.load(folder)
    assert saved.names == ["person", "car"]
    assert saved.model.config.keep == (1, 3)
    square = torch.randn(1, 3, 72, 72), torch.zeros(1, 72, 72, dtype=torch.bool)
    with torch.no_grad():
        logits = saved.model(*square)[0].logits
        assert torch.equal(logits, saved.model.net(square[0]).logits[..., [1, 3]])


def test_stuff_has_no_instances(tmp_path: Path) -> None:
    names = [f"thing {label}" for label in range(80)] + [f"stuff {label}" for label in range(53)]
    names[0], names[79] = "person", "toothbrush"
    _, folder = written("eomt-small", tmp_path, names)
    saved = zoo.load(folder)
    assert saved.names == names[:80]
    assert saved.model.config.keep == tuple(range(80))


def test_the_list_is_right_about_sizes() -> None:
    sizes = {"s": "small", "b": "base", "l": "large"}
    for model in CATALOGUE:
        if model.family not in ("rf-detr", "eomt", "mask2former", "mask2former-clip"):
            continue
        name, _, size = model.alias.removesuffix("-1280").partition("-ytvis")[0].rpartition("-")
        preset = {
            "rf-detr-seg": f"rf-detr-seg-{size}",
            "eomt": f"eomt-{sizes.get(size)}",
            "eomt-dinov3": f"eomt-{sizes.get(size)}-dinov3",
            "mask2former": f"mask2former-swin-{size}",
            "video-mask2former": f"mask2former-clip-swin-{size}",
        }[name]
        with torch.device("meta"):
            built = zoo.build(presets()[preset])
        assert family_of(built).name == model.family
        millions = sum(parameter.numel() for parameter in built.parameters()) / 1e6
        assert model.millions == pytest.approx(millions, abs=3)


@pytest.mark.parametrize(
    ("alias", "licence"),
    [
        ("rf-detr-seg-nano", "apache-2.0"),
        ("eomt-l", "mit"),
        ("eomt-dinov3-s", "mit, dinov3-license"),
        ("mask2former-tiny", "cc-by-nc-4.0"),
        ("video-mask2former-large-ytvis21", "cc-by-nc-4.0"),
    ],
)
def test_the_list_knows_licences(alias: str, licence: str) -> None:
    (model,) = (model for model in CATALOGUE if model.alias == alias)
    assert known_licence(f"{model.id}@main") == licence
    assert non_commercial(licence) == licence.startswith("cc-by-nc")


def test_the_classes_of_a_video_benchmark_say_that_it_sees_clips(tmp_path: Path) -> None:
    _, folder = written(CLIP, tmp_path, LABEL_SETS["ytvis19"])
    saved = zoo.load(folder)
    assert saved.model.config.family == "mask2former-clip"
    assert family_of(saved.model).sees == "clips"
    clip = torch.randn(1, 2, 3, 64, 64), torch.zeros(1, 2, 64, 64, dtype=torch.bool)
    with torch.no_grad():
        assert saved.model(*clip).logits.shape == (1, 10, 41)


def test_an_embedding_head_is_added_and_kept(tmp_path: Path) -> None:
    """The folder of `transformers` has none, so it starts with random weights."""
    _, folder = written("rf-detr-seg-small", tmp_path / "theirs", NAMES)
    with_head = tiny("rf-detr-seg-small", embed=8)
    left = zoo.start_from(with_head, folder)
    assert left
    assert all(name.startswith("embed.") for name in left)
    zoo.save_pretrained(with_head, tmp_path / "ours", NAMES)
    again = zoo.load(tmp_path / "ours").model
    for key, tensor in with_head.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    _, folder = written("eomt-small", tmp_path, NAMES)
    fields = json.loads((folder / "config.json").read_text())
    for changes, message in (
        ({"hidden_size": 48}, r"does not fit config.json: .*should be \["),
        ({"id2label": {"0": "LABEL_0"}}, "id2label does not name the classes"),
        ({"hidden_size": "wide"}, "transformers cannot build a eomt"),
        ({"attn_implementation": "somebody/kernel"}, "attn_implementation is not part of an architecture"),
        ({"backbone_config": {"_attn_implementation": "a/b"}}, "_attn_implementation is not part of"),
        ({"backbone": "somebody/net"}, "backbone names a model; backbone_config must describe it"),
    ):
        (folder / "config.json").write_text(json.dumps({**fields, **changes}))
        with pytest.raises(UserError, match=message) as raised:
            zoo.load(folder)
        assert "\n" not in str(raised.value)
    assert set(TINY) == {*FRAMES, CLIP}
