"""More objects than queries: those that go without are taught to nobody."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from ookd.distill.qfa import KeptQueries, associate_by_label
from ookd.models.compact import clip_training as compact_clip_training
from ookd.models.compact import training as compact_training
from ookd.models.compact.clip import CompactClip, CompactClipConfig
from ookd.models.compact.clip_training import CompactClipTraining
from ookd.models.compact.config import CompactConfig
from ookd.models.compact.model import Compact
from ookd.models.compact.training import CompactTraining
from ookd.structures import Batch, Tracks

QUERIES, OBJECTS, FRAMES = 40, 45, 2
SIZES = {"classes": 3, "width": 32, "mask_width": 8, "embed": 16, "heads": 4, "hidden": 32, "layers": 1}


@cache
def task(kind: str) -> CompactTraining | CompactClipTraining:
    torch.manual_seed(0)
    sizes = {**SIZES, "queries": QUERIES}
    if kind == "student":
        return CompactTraining(Compact(CompactConfig.model_validate(sizes)))
    clip = {**sizes, "clip_queries": QUERIES, "clip_layers": 1, "freeze_frame": False}
    return CompactClipTraining(CompactClip(CompactClipConfig.model_validate(clip)))


@cache
def crowd() -> Batch:
    """Two frames of 64 x 96 with 5 x 9 boxes, all in view."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(OBJECTS, FRAMES, 64, 96, dtype=torch.bool)
    for n in range(OBJECTS):
        top, left = 12 * (n // 9) + 2, 10 * (n % 9) + 2
        masks[n, :, top : top + 8, left : left + 8] = True
    labels = torch.randint(3, (OBJECTS,), generator=generator)
    visible = torch.ones(OBJECTS, FRAMES, dtype=torch.bool)
    tracks = Tracks(labels, torch.arange(OBJECTS), torch.zeros(OBJECTS, FRAMES, 4), masks, visible)
    frames = torch.randint(256, (1, FRAMES, 3, 64, 96), dtype=torch.uint8, generator=generator)
    return Batch(frames, torch.zeros(1, FRAMES, 64, 96, dtype=torch.bool), [tracks])


def test_every_query_stands_for_one_object_and_some_objects_for_none() -> None:
    student: Any = task("student")
    matches = student.learn(crowd())[1]
    assert matches.valid.sum(1).tolist() == [QUERIES] * FRAMES
    for query, valid in zip(matches.query, matches.valid, strict=True):
        assert sorted(query[valid].tolist()) == list(range(QUERIES))
    everyone = torch.arange(OBJECTS)
    kept = [KeptQueries(everyone, everyone, torch.ones(OBJECTS))]
    found = associate_by_label(kept, matches, torch.tensor([0]), torch.arange(FRAMES)[None])
    assert len(found) == QUERIES * FRAMES
    assert len(set(zip(found.frame.tolist(), found.student.tolist(), strict=True))) == len(found)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_what_stands_in_for_a_missing_query_is_never_read(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were an object without a query taught to the query 0 that stands in for it, another would change the
    losses."""

    def another(real: Any) -> Any:
        def changed(*given: Any) -> tuple[Tensor, Tensor]:
            query, found = real(*given)
            assert (found.sum(-1) == QUERIES).all()
            return query.masked_fill(~found, QUERIES - 1), found

        return changed

    plain = task(kind)(crowd())
    for module, name in (
        (compact_training, "match_masks"),
        (compact_clip_training, "match_masks"),
        (compact_clip_training, "match_clip"),
    ):
        monkeypatch.setattr(module, name, another(getattr(module, name)))
    changed = task(kind)(crowd())
    assert {name: value.item() for name, value in changed.items()} == {
        name: value.item() for name, value in plain.items()
    }
