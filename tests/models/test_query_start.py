"""Placed queries: where they stand, and that auxiliary ones disturb nobody."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ookd.errors import UserError
from ookd.models.backbones.build import LiteConfig
from ookd.models.families import preset
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.parts.pixel_encoder import EncoderMemory
from ookd.models.parts.query_start import PlacedStart, peak_cells
from ookd.models.preprocess import IMAGENET
from ookd.models.seqformer.model import SeqFormer, SeqFormerConfig

SMALL = {
    "backbone": LiteConfig(),
    "classes": 3,
    "dim": 64,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "ffn": 16,
    "queries": 6,
    "dropout": 0.0,
    "start": "peaks",
}


def frames(*shape: int) -> tuple[Tensor, Tensor]:
    """Frames of 64 x 96, the right third and the last row of cells of them padding."""
    raw = torch.randint(0, 256, (*shape, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    pad = torch.zeros(*shape, 64, 96, dtype=torch.bool)
    pad[..., 64:] = True
    pad[..., 56:, :] = True
    return IMAGENET.normalise(raw, pad), pad


def test_peaks_by_hand() -> None:
    """A clip of two frames of 3 x 4 cells; the neighbour of a peak is none, and padding has none."""
    heat = torch.full((2, 2, 3, 4), -5.0)
    heat[0, 1, 1, 1], heat[0, 0, 1, 2] = 4.0, 3.0  # frame 0: a peak, and its lower neighbour
    heat[1, 0, 0, 3], heat[1, 1, 2, 0] = 2.0, 9.0  # frame 1: a peak, and one in the padding
    pad = torch.zeros(2, 12, dtype=torch.bool)
    pad[1, 8:] = True
    assert peak_cells(heat, pad, frames=2, count=2).tolist() == [[5, 12 + 3]]
    assert peak_cells(heat, pad, frames=1, count=1).tolist() == [[5], [3]]
    assert peak_cells(heat, pad, frames=1, count=40).shape == (2, 12)


def test_queries_stand_at_the_peaks_in_the_unpadded_frame() -> None:
    torch.manual_seed(0)
    model = Idol(IdolConfig.model_validate(SMALL)).eval()
    with torch.no_grad():
        memory = model.pixels(*frames(1))
        start = model.decoder.start(memory)
    assert start.heat.shape == (1, 3, 8, 12)
    columns, rows = start.reference[0, :, 0] * 8 - 0.5, start.reference[0, :, 1] * 7 - 0.5  # of 8 x 7 cells
    torch.testing.assert_close(columns, columns.round(), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows, rows.round(), atol=1e-5, rtol=0)
    cells = (rows.round() * 12 + columns.round()).long()
    best = start.heat[0].amax(0).flatten()[cells]
    assert (start.heat[0, :, :7, :8].amax() == best[0]).all()
    assert (best[:-1] >= best[1:]).all()


@pytest.mark.parametrize("length", [1, 3])
def test_auxiliary_queries_do_not_disturb_the_main_ones(length: int) -> None:
    torch.manual_seed(0)
    extra = torch.tensor([[5, 17], [96 * (length - 1) + 3, 0]])
    model = (IdolConfig, Idol) if length == 1 else (SeqFormerConfig, SeqFormer)
    model = model[1](model[0].model_validate(SMALL)).eval()
    images, pad = frames(2, length)
    with torch.no_grad():
        memory: EncoderMemory = model.pixels(images.flatten(0, 1), pad.flatten(0, 1))
        where = (memory,) if length == 1 else (memory, length)
        alone = model.decoder(*where)[-1]
        start = model.decoder.start(memory, length, extra)
        together = model.decoder(*where, start)[-1]
    assert isinstance(model.decoder.start, PlacedStart)
    assert together.features.shape == (2, 6 + 2, 64)
    torch.testing.assert_close(together.features[:, :6], alone.features)
    torch.testing.assert_close(together.boxes[..., :6, :], alone.boxes)
    changed = together.features[:, 6:] - model.decoder(*where)[-1].features[:, :2]
    assert changed.abs().max() > 1e-3


def test_a_query_can_start_from_any_frame_of_a_clip() -> None:
    """The peak of the last frame, of which nothing is in the first ones, is a query of the clip."""
    torch.manual_seed(0)
    model = SeqFormer(SeqFormerConfig.model_validate(SMALL | {"queries": 1})).eval()
    images, pad = frames(1, 2)
    with torch.no_grad():
        memory = model.pixels(images.flatten(0, 1), pad.flatten(0, 1))
        heat = model.decoder.start(memory, 2).heat.amax(1).flatten(1)[:, :]
        best = int(heat.masked_fill(memory.levels.pad[:, :96], -99).flatten().argmax())
        content = model.decoder.start(memory, 2).content[0, 0]
        expected = model.decoder.start.content(memory.tokens[best // 96, best % 96])
    torch.testing.assert_close(content, expected)


def test_auxiliary_queries_need_placed_ones() -> None:
    with pytest.raises(UserError, match="auxiliary queries need start: peaks"):
        preset("idol-r50", auxiliary=16)
