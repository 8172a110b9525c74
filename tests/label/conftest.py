"""What the tests of a labeller's confidence train on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ookd.clips.loader import collate
from ookd.clips.sampling import PairSampler
from ookd.clips.sources import ClipDataset
from ookd.structures import Batch
from ookd.worlds import World


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Pairs of frames with objects of classes 0 to 4."""
    world = World("ytvis-like", videos=2, height=64, width=96, frames=6, crowd=[2, 3])
    clips = ClipDataset(world, PairSampler(2))
    batch = collate([clips[0, 0], clips[0, 1]])
    batch.tracks = [replace(tracks, labels=tracks.labels % 5) for tracks in batch.tracks]
    return batch
