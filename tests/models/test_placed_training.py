"""What placed queries learn: places inside objects, and steps at the edges of what data can be."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from models.test_idol_training import random_batch
from models.test_query_start import SMALL
from ookd.models.idol.model import Idol, IdolConfig
from ookd.models.idol.training import IdolTraining
from ookd.models.parts.placed_queries import place_auxiliary
from ookd.models.seqformer.model import SeqFormer, SeqFormerConfig
from ookd.models.seqformer.training import SeqFormerTraining
from ookd.structures import Batch, Tracks

TRAINING = {
    "idol": (IdolTraining, Idol, IdolConfig),
    "seqformer": (SeqFormerTraining, SeqFormer, SeqFormerConfig),
}


def training(family: str, auxiliary: int = 6) -> IdolTraining | SeqFormerTraining:
    torch.manual_seed(0)
    task, model, config = TRAINING[family]
    return task(model(config.model_validate(SMALL | {"auxiliary": auxiliary})))


def test_auxiliary_queries_stand_inside_their_objects_and_frames_take_turns() -> None:
    """Two clips of two frames: object 1 of the first is gone in frame 1, the second clip shows nothing."""
    masks = torch.zeros(2, 2, 64, 96, dtype=torch.bool)
    masks[0, 0, 8:24, 16:40] = True
    masks[0, 1, 8:24, 24:48] = True
    masks[1, 0, 40:56, 48:80] = True
    full = Tracks(torch.tensor([0, 2]), torch.arange(2), torch.zeros(2, 2, 4), masks, masks.any((2, 3)))
    none = Tracks(*(x[:0] for x in (full.labels, full.ids, full.boxes, full.masks, full.visible)))
    batch = Batch(torch.zeros(2, 2, 3, 64, 96), torch.zeros(2, 2, 64, 96), [full, none], seeds=[3, 4])
    auxiliary = place_auxiliary(batch, batch.tracks, 40)
    assert [len(match.query) for match in auxiliary.matches] == [40, 0]
    frame, cell = auxiliary.cells[0] // 96, auxiliary.cells[0] % 96  # 8 x 12 cells
    assert frame.tolist() == [0, 1] * 20
    for f, c, owner in zip(frame, cell, auxiliary.matches[0].instance, strict=True):
        assert full.masks[owner, f, c // 12 * 8, c % 12 * 8]
    assert set(auxiliary.matches[0].instance[::2].tolist()) == {0, 1}


@pytest.mark.parametrize("family", TRAINING)
@pytest.mark.parametrize(("instances", "frames"), [((0,), 2), ((3, 0), 2), ((2,), 1), ((1000,), 2)], ids=str)
def test_any_number_of_objects_gives_finite_gradients(
    family: str, instances: Sequence[int], frames: int
) -> None:
    task = training(family)
    batch = random_batch(instances, frames)
    terms = task(batch)
    assert set(terms) - {"class_error"} == {
        name for name in task.weights if frames == 2 or not name.startswith("embed")
    }
    assert {"heat", "aux_box", "aux_dice_0"} <= set(terms)
    assert "heat_0" not in task.weights
    total = torch.stack([task.weights[name] * term for name, term in terms.items() if name in task.weights])
    total.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in task.parameters() if p.grad is not None)
    start = task.model.decoder.start
    assert start.classify.weight.grad.abs().max() > 0
    if sum(instances):
        assert terms["aux_box"] > 0
        assert start.content.weight.grad.abs().max() > 0
    else:
        assert terms["aux_mask"] == terms["aux_box"] == 0 < terms["aux_class"]


@pytest.mark.parametrize("family", TRAINING)
def test_without_auxiliary_queries_the_published_terms_are_the_same(family: str) -> None:
    """They teach the network more, but what they are added to stays as it is."""
    torch.manual_seed(1)
    batch = random_batch((3, 2))
    more, none = (training(family, auxiliary).eval()(batch) for auxiliary in (6, 0))
    for name in ("class", "box", "giou", "mask", "dice", "class_0", "heat"):
        assert more[name].item() == pytest.approx(none[name].item(), rel=1e-4), name
    assert none["aux_box"] == 0
