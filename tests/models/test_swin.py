"""Our Swin against the one in transformers, which also follows the detection variant."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig

from models.published import assert_close
from ookd.models.swin import Swin, SwinConfig

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


def our_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their names for the same weights, query, key and value packed."""
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for old, new in (
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
        ):
            name = name.replace(old, new)
        ours[name] = tensor
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
