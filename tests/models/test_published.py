"""Published models give the published numbers: `pytest -m hub`, where the hub can be reached."""

from __future__ import annotations

import urllib.request
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import family_of
from ookd.models.label_sets import LABEL_SETS

CATS = "http://images.cocodataset.org/val2017/000000039769.jpg"  # the two cats of every example
pytestmark = pytest.mark.hub


def published(name: str) -> zoo.Saved:
    try:
        return zoo.load(name)
    except UserError as error:
        pytest.skip(str(error))


def cats(side: int) -> np.ndarray:
    try:
        with urllib.request.urlopen(CATS, timeout=5) as answer:
            image = Image.open(BytesIO(answer.read()))
    except OSError as error:
        pytest.skip(f"{CATS}: {error}")
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


@torch.no_grad()
def test_the_small_videomt_has_the_scores_of_transformers() -> None:
    """An image twice, squashed to 640x640: class probability times the mean probability inside the mask."""
    saved = published("videomt-s")
    assert saved.names == LABEL_SETS["ytvis19"]
    frame = torch.from_numpy(cats(640).copy()).permute(2, 0, 1)[None]
    pad, state = torch.zeros(1, 640, 640, dtype=torch.bool), None
    pixels = family_of(saved.model).preprocessing.normalise(frame, pad)
    for expected in ([0.907, 0.806, 0.777], [0.958, 0.798, 0.893]):
        answer, state = saved.model(pixels, pad, state)
        probability, label = answer.logits.softmax(-1)[0, :, :-1].max(-1)
        sure = (probability > 0.5).nonzero()[:, 0]
        masks = answer.masks(sure[None])[0]
        inside = ((masks > 0) * masks.sigmoid()).sum((1, 2)) / (masks > 0).sum((1, 2))
        scores = sorted((probability[sure] * inside).tolist(), reverse=True)[:3]
        assert scores == pytest.approx(sorted(expected, reverse=True), abs=0.01)
        assert set(label[sure].tolist()) <= {7, 13}
