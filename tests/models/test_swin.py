"""Our Swin against the one in transformers, which also follows the detection variant."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, SwinBackbone

from models.published import assert_close
from ookd.cli import main
from ookd.models import zoo
from ookd.models.backbones.swin import Swin, SwinConfig
from ookd.models.upstream import BACKBONE

SMALL = SwinConfig(width=24, blocks=(2, 2, 3, 2), heads=(2, 2, 4, 4), window=6)


def reference(config: SwinConfig) -> nn.Module:
    torch.manual_seed(0)
    model = AutoBackbone.from_config(
        AutoConfig.for_model(
            "swin",
            embed_dim=config.width,
            depths=list(config.blocks),
            num_heads=list(config.heads),
            window_size=config.window,
            out_indices=[2, 3, 4],
        )
    )
    for parameter in model.parameters():  # norms and biases too, or half of the code is not tried
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


def renamed(state: dict[str, Tensor], *changes: tuple[str, str]) -> dict[str, Tensor]:
    """The same weights, each change made in every name, one after the other."""
    found = {}
    for name, tensor in state.items():
        for old, new in changes:
            name = name.replace(old, new)
        found[name] = tensor
    return found


def our_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their names for the same weights, query, key and value packed."""
    ours = renamed(
        state,
        ("swin.embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("swin.embeddings.norm", "patch_embed.norm"),
        ("swin.encoder.layers", "layers"),
        ("attention.relative_position_bias.", "attn."),
        ("attention.o_proj", "attn.proj"),
        ("attention.", "attn."),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("hidden_states_norms.stage2", "norm1"),
        ("hidden_states_norms.stage3", "norm2"),
        ("hidden_states_norms.stage4", "norm3"),
    )
    for name in [name for name in ours if ".q_proj." in name]:
        parts = [ours.pop(name.replace("q_proj", f"{letter}_proj")) for letter in "qkv"]
        ours[name.replace("q_proj", "qkv")] = torch.cat(parts)
    return {name: tensor for name, tensor in ours.items() if not name.startswith("swin.layernorm")}


@pytest.mark.parametrize("size", [(96, 96), (90, 133), (32, 64), (7, 5)], ids=str)
def test_maps_match(size: tuple[int, int]) -> None:
    theirs, ours = reference(SMALL), Swin(SMALL).eval()
    ours.load_state_dict(our_weights(theirs.state_dict()))
    frames = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected, actual = theirs(frames).feature_maps, ours(frames)
    assert [x.shape[1] for x in actual] == ours.channels
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, 1e-4 * float(other.abs().max()))


def imagenet_weights(config: SwinConfig) -> dict[str, Tensor]:
    """Random weights under the names of a file of the first repository, with what only ImageNet needs."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def layer(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = 0.1 * torch.randn(*shape, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)

    layer("patch_embed.proj", config.width, 3, 4, 4)
    layer("patch_embed.norm", config.width)
    cells, rows = config.window**2, (2 * config.window - 1) ** 2
    for stage, (blocks, heads) in enumerate(zip(config.blocks, config.heads, strict=True)):
        dim = config.width * 2**stage
        for block in range(blocks):
            name = f"layers.{stage}.blocks.{block}"
            layer(f"{name}.norm1", dim)
            layer(f"{name}.attn.qkv", 3 * dim, dim)
            layer(f"{name}.attn.proj", dim, dim)
            layer(f"{name}.norm2", dim)
            layer(f"{name}.mlp.fc1", 4 * dim, dim)
            layer(f"{name}.mlp.fc2", dim, 4 * dim)
            table = torch.randn(rows, heads, generator=generator)
            state[f"{name}.attn.relative_position_bias_table"] = table
            state[f"{name}.attn.relative_position_index"] = torch.zeros(cells, cells, dtype=torch.long)
            if block % 2 and stage < 3:
                state[f"{name}.attn_mask"] = torch.zeros(4, cells, cells)
        if stage < 3:
            layer(f"layers.{stage}.downsample.norm", 4 * dim)
            layer(f"layers.{stage}.downsample.reduction", 2 * dim, 4 * dim)
            del state[f"layers.{stage}.downsample.reduction.bias"]
    layer("norm", 8 * config.width)
    layer("head", 10, 8 * config.width)
    return state


def hub_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same as it is published for transformers: other names, and query, key and value apart."""
    theirs: dict[str, Tensor] = {}
    names = renamed(
        state,
        ("patch_embed.proj", "swin.embeddings.patch_embeddings.projection"),
        ("patch_embed.norm", "swin.embeddings.norm"),
        ("layers.", "swin.encoder.layers."),
        ("attn.proj", "attention.output.dense"),
        ("attn.", "attention.self."),
        ("norm1", "layernorm_before"),
        ("norm2", "layernorm_after"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    )
    for name, tensor in names.items():
        if "qkv" in name:
            for part, value in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                theirs[name.replace("qkv", part)] = value.contiguous()
        elif name.startswith("swin.") and not name.endswith(("_mask", "_index")):
            theirs[name] = tensor
    return theirs


def test_weights_of_imagenet_give_the_maps_that_transformers_gives_from_them(tmp_path: Path) -> None:
    state = imagenet_weights(SMALL)
    torch.save({"model": state}, tmp_path / "swin.pth")
    assert main(["weights", "convert", str(tmp_path / "swin.pth"), str(tmp_path / "ours")]) == 0
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["backbone"]["window"] == 6
    model = nn.ModuleDict({"pixels": nn.ModuleDict({"backbone": Swin(SMALL)})}).eval()
    fresh = zoo.start_from(model, tmp_path / "ours")
    assert fresh == [f"{BACKBONE}norm{i}.{leaf}" for i in (1, 2, 3) for leaf in ("weight", "bias")]

    reference(SMALL).config.save_pretrained(tmp_path / "theirs")
    save_file(hub_weights(state), tmp_path / "theirs" / "model.safetensors", {"format": "pt"})
    theirs, told = SwinBackbone.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert all("hidden_states_norms" in name or "layernorm" in name for name in told["missing_keys"])
    assert not told["unexpected_keys"]
    frames = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, actual = theirs.eval()(frames).feature_maps, model["pixels"]["backbone"](frames)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, 1e-4 * float(other.abs().max()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"absolute_pos_embed": torch.zeros(1)}, "unknown names: absolute_pos_embed"),
        ({"layers.0.blocks.0.attn.q_bias": torch.zeros(1)}, "attn.q_bias is not part of the model"),
        ({"layers.1.downsample.norm.weight": None}, "downsample.norm.weight is missing"),
        (
            {"layers.3.blocks.0.attn.relative_position_bias_table": None},
            "not a whole backbone: .* is missing",
        ),
        ({"layers.1.blocks.0.mlp.fc1.bias": torch.zeros(7)}, r"fc1.bias is \[7\], should be \[192\]"),
    ],
    ids=["name", "other-kind", "missing", "table", "shape"],
)
def test_an_imagenet_file_converts_wholly_or_not_at_all(
    change: dict[str, Tensor | None], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {name: value for name, value in (imagenet_weights(SMALL) | change).items() if value is not None}
    torch.save({"model": state}, tmp_path / "swin.pth")
    assert main(["weights", "convert", str(tmp_path / "swin.pth"), str(tmp_path / "ours")]) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "ours").exists()


def test_stochastic_depth_is_off_outside_training() -> None:
    model = Swin(SMALL).eval()
    frames = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        once, again = model(frames), model(frames)
        other = model.train()(frames)
    assert torch.equal(once[-1], again[-1])
    assert not torch.equal(once[-1], other[-1])


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="192 channels into 7 heads"):
        SwinConfig(heads=(7, 12, 24, 48))
