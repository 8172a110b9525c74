"""Masks of promptable models, cleaned on any machine."""

from __future__ import annotations

import torch

from ookd.data import rle
from ookd.label.mask_cleaning import MaskKernels, apart, encoded, without_specks


def block(height: int, width: int, *boxes: tuple[int, int, int, int]) -> torch.Tensor:
    logits = torch.full((height, width), -1.0)
    for y0, x0, y1, x1 in boxes:
        logits[y0:y1, x0:x1] = 1
    return logits


def test_sam3_drops_duplicates_fills_holes_and_removes_specks_with_these_functions() -> None:
    from transformers.models.sam3_video import modeling_sam3_video as theirs

    vars(theirs)["cv_utils_kernel"] = MaskKernels
    masks = torch.stack(
        [block(16, 16, (2, 2, 10, 10)), block(16, 16, (2, 2, 10, 11)), block(16, 16, (12, 12, 15, 15))]
    )
    kept = theirs.nms_masks(torch.tensor([0.8, 0.9, 0.7]), masks, 0.5, 0.1)
    assert kept.tolist() == [False, True, True]
    logits = block(16, 16, (2, 2, 12, 12), (14, 14, 15, 15))
    logits[5, 5] = -1
    cleaned = theirs.fill_holes_in_mask_scores(logits[None, None], 4)[0, 0]
    assert cleaned[5, 5] > 0 > cleaned[14, 14]


def test_holes_and_specks_go_but_tiny_objects_stay() -> None:
    logits = block(16, 16, (2, 2, 12, 12), (14, 14, 15, 15))
    logits[5, 5] = -1
    tiny = block(16, 16, (3, 3, 5, 5))
    cleaned = without_specks(torch.stack([logits, tiny]), 4)
    assert cleaned[0, 5, 5] > 0 > cleaned[0, 14, 14]
    assert torch.equal(cleaned[1], tiny)


def test_one_owner_a_pixel_within_a_group() -> None:
    left, right = block(4, 8, (0, 0, 4, 5)), block(4, 8, (0, 3, 4, 8))
    both = torch.stack([left, right])
    mine = apart(both, [0.2, 0.9], [0, 0]) > 0
    assert mine.sum((1, 2)).tolist() == [12, 20]
    assert torch.equal(apart(both, [0.2, 0.9], [0, 1]), both)


def test_masks_of_the_frames_size() -> None:
    mask, none = encoded(torch.stack([block(4, 4, (0, 0, 4, 2)), block(4, 4)]), 8, 12)
    assert none is None
    assert mask is not None
    assert mask["size"] == [8, 12]
    assert rle.box_xywh(mask) == [0, 0, 6, 8]
