"""The published models leave PyTorch's eager mode: nothing in them depends on the values of tensors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.published import assert_close
from ookd.models.backbones.build import LiteConfig
from ookd.models.backbones.resnet import ResNetConfig
from ookd.models.backbones.swin import SwinConfig
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.seqformer.model import SeqFormer, SeqFormerConfig

SMALL = {"classes": 3, "queries": 5, "dim": 64, "encoder_layers": 1, "decoder_layers": 2, "ffn": 16}
SWIN = SwinConfig(width=8, blocks=(2, 1, 1, 1), heads=(1, 1, 2, 2), window=4)


class Tensors(nn.Module):
    """The model with all masks computed: tensors in, tensors out."""

    def __init__(self, model: Idol | SeqFormer) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, pad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        answer = self.model(frames, pad)
        if isinstance(self.model, Idol):
            answer = answer[0]
        every = torch.arange(SMALL["queries"]).expand(frames.shape[0], -1)
        return answer.logits, answer.boxes, answer.masks(every)


def inputs(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Frames padded by different amounts at each seed."""
    frames = torch.randn(*shape, 3, 64, 96, generator=torch.Generator().manual_seed(seed))
    pad = torch.zeros(*shape, 64, 96, dtype=torch.bool)
    pad[..., 64 - 9 * seed :, :] = True
    pad[..., :, 96 - 5 * seed :] = True
    return frames.masked_fill(pad.unsqueeze(-3), 0), pad


MODELS = {
    "idol": (lambda: Idol(IdolConfig(backbone=ResNetConfig(width=4), **SMALL)), (1,)),
    "idol-peaks": (lambda: Idol(IdolConfig(backbone=LiteConfig(), start="peaks", **SMALL)), (1,)),
    "idol-swin": (lambda: Idol(IdolConfig(backbone=SWIN, **SMALL)), (1,)),
    "seqformer": (lambda: SeqFormer(SeqFormerConfig(backbone=ResNetConfig(width=4), **SMALL)), (1, 2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_gives_the_same_for_other_frames_and_padding(name: str) -> None:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model = Tensors(make()).eval()
    with torch.no_grad():
        exported = torch.export.export(model, inputs(shape, seed=1)).module()
        expected, actual = model(*inputs(shape, seed=2)), exported(*inputs(shape, seed=2))
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, 1e-5 * max(1.0, float(other.abs().max())))
