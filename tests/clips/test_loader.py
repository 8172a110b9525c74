"""Batches: what is in them, and that they come out the same however they are made."""

from __future__ import annotations

import json
import os
import pickle
import signal
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import small_set
from ookd.clips.loader import ClipLoader, Mixture, collate, make_loader
from ookd.clips.minor_paste import MinorPaste, MinorPasteConfig
from ookd.clips.opening import augmentation
from ookd.clips.sampling import ClipSampler, DistillSampler, PairSampler
from ookd.clips.sources import ClipDataset, ClipSource, DatasetClips
from ookd.config import Augment
from ookd.data.formats import load
from ookd.errors import UserError
from ookd.structures import Batch, Clip
from ookd.worlds import World


class Counting:
    """Videos whose pixels name them: red = video, green = frame. Each has one track, a 4x4 square."""

    names = ("square", "other")

    def __init__(self, videos: int = 7, length: int = 9, broken: int = -1) -> None:
        self.videos, self.length, self.broken = videos, length, broken

    def __len__(self) -> int:
        return self.videos

    def video_length(self, i: int) -> int:
        return self.length

    def labels(self, i: int) -> list[int]:
        return [i % 2]

    def class_counts(self) -> list[int]:
        return [sum(i % 2 == label for i in range(self.videos)) for label in (0, 1)]

    def clip(self, i: int, frames: Sequence[int]) -> Clip:
        if i == self.broken:
            raise UserError(f"video {i}: the image is damaged")
        images, masks = [], []
        for frame in frames:
            image = np.zeros((20, 30, 3), np.uint8)
            image[..., 0], image[..., 1] = i, frame
            mask = np.zeros((1, 20, 30), np.bool_)
            mask[0, 2:6, frame : frame + 4] = True
            images.append(image)
            masks.append(mask)
        return Clip(images, masks, np.array([i % 2]), np.array([5]), np.array(frames), str(i))


def noise(clip: Clip, rng: np.random.Generator) -> Clip:
    """A stage that uses the generator: blue becomes random."""
    blue = np.array([0, 0, rng.integers(256)], np.uint8)
    return replace(clip, images=[image + blue for image in clip.images])


def stream(seed: int = 0, **source: int) -> ClipDataset:
    return ClipDataset(Counting(**source), PairSampler(), [noise], seed)


def take(loader: ClipLoader, count: int) -> list[Batch]:
    return list(islice(loader, count))


def pixels(batches: Sequence[Batch]) -> list[list[int]]:
    """Video, frames and noise of every clip, in order: what identifies a clip."""
    return [clip[:, :, 0, 0].flatten().tolist() for batch in batches for clip in batch.frames]


def test_counting_is_a_clip_source() -> None:
    assert isinstance(Counting(), ClipSource)


def test_padding_boxes_and_visibility_by_hand() -> None:
    small = Clip(
        images=[np.full((10, 20, 3), 7, np.uint8), np.full((12, 16, 3), 8, np.uint8)],
        masks=[np.zeros((2, 10, 20), np.bool_), np.zeros((2, 12, 16), np.bool_)],
        labels=np.array([3, 1]),
        ids=np.array([11, 12]),
        frames=np.array([0, 4]),
    )
    small.masks[0][0, 2:5, 4:12] = True  # rows 2..4, columns 4..11 of 10 x 20
    batch = collate([small], divisor=16)
    assert batch.frames.shape == (1, 2, 3, 16, 32)
    assert batch.frames.dtype == torch.uint8
    assert (~batch.pad).sum(dim=(2, 3)).tolist() == [[200, 192]]
    assert batch.frames[0, 0, 0].sum() == 200 * 7
    assert not batch.frames[batch.pad[:, :, None].expand_as(batch.frames)].any()
    (tracks,) = batch.tracks  # the second instance is never seen
    assert tracks.labels.tolist() == [3]
    assert tracks.ids.tolist() == [11]
    assert tracks.visible.tolist() == [[True, False]]
    expected = torch.tensor([[8 / 20, 3.5 / 10, 8 / 20, 3 / 10], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(tracks.boxes[0], expected)
    assert tracks.masks.shape == (1, 2, 16, 32)
    assert tracks.masks[0, 0, 2:5, 4:12].all()
    assert tracks.masks.sum() == 24


def test_clips_of_different_length_do_not_mix() -> None:
    source = Counting()
    with pytest.raises(ValueError, match="differ in frames"):
        collate([source.clip(0, [1]), source.clip(0, [1, 2])])


def test_a_clip_without_instances_has_no_targets() -> None:
    nothing = np.zeros(0, np.int64)
    masks = [np.zeros((0, 8, 8), np.bool_)]
    clip = Clip([np.zeros((8, 8, 3), np.uint8)], masks, nothing, nothing, frames=np.zeros(1, np.int64))
    assert len(collate([clip]).tracks[0]) == 0


def test_the_students_frames_are_told() -> None:
    loader = make_loader(ClipDataset(Counting(), DistillSampler(5)), 2, workers=0)
    (batch,) = take(loader, 1)
    assert batch.student is not None
    assert batch.student.shape == (2, 2)
    assert (batch.student[:, 0] < batch.student[:, 1]).all()


def test_batches_do_not_depend_on_workers() -> None:
    alone = pixels(take(make_loader(stream(), 2, workers=0), 8))
    assert alone == pixels(take(make_loader(stream(), 2, workers=2), 8))
    assert alone != pixels(take(make_loader(stream(seed=1), 2, workers=0), 8))


def test_workers_start_after_opencv_has_used_threads() -> None:
    """A forked worker that finds OpenCV's thread pool waits for ever; the alarm turns that into a failure."""

    def fail(*_: object) -> None:
        pytest.fail("no batch within a minute")

    cv2.setNumThreads(4)
    cv2.warpAffine(np.zeros((2000, 2000, 3), np.uint8), np.eye(2, 3), (2000, 2000))
    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    try:
        take(make_loader(stream(), 2, workers=2), 2)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_loader_processes_may_start_anew(tmp_path: Path) -> None:
    """As on macOS and Windows, where they get what they need in a pickle."""
    data = DatasetClips(load(small_set.write_set(tmp_path)))
    world = World("ytvis-like", videos=2, height=64, width=96, frames=4)
    for source in (data, world):
        paste = MinorPaste(source, MinorPasteConfig())
        stream = ClipDataset(source, PairSampler(2), [paste, augmentation(Augment(colour=True))], seed=3)
        again = pickle.loads(pickle.dumps(stream))
        for ours, theirs in zip(stream[0, 0].images, again[0, 0].images, strict=True):
            np.testing.assert_array_equal(theirs, ours)


def test_ranks_together_make_the_global_batch() -> None:
    whole = pixels(take(make_loader(stream(), 4, workers=0), 5))
    ranks = [take(make_loader(stream(), 2, workers=0, rank=rank, world=2), 5) for rank in (0, 1)]
    assert whole == pixels([batch for both in zip(*ranks, strict=True) for batch in both])


def test_every_epoch_shows_every_video_once_with_new_chance() -> None:
    clips = pixels(take(make_loader(stream(videos=6), 3, workers=0), 4))
    first, second = clips[:6], clips[6:]
    videos = [[clip[0] for clip in epoch] for epoch in (first, second)]
    assert sorted(videos[0]) == sorted(videos[1]) == list(range(6))
    assert videos[0] != videos[1]
    assert sorted(first) != sorted(second)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_the_same_batches(workers: int) -> None:
    uninterrupted = take(make_loader(stream(), 3, workers=workers), 6)
    loader = make_loader(stream(), 3, workers=workers)
    take(loader, 4)  # with workers, more are under way and must not count
    state = loader.state_dict()
    data = state["data"]
    assert state == {"seed": 0, "epoch": 1, "position": 5, "epoch_length": 7, "data": data}
    resumed = make_loader(stream(), 3, workers=workers)
    resumed.load_state_dict(state)
    assert pixels(take(resumed, 2)) == pixels(uninterrupted[4:])


def test_a_run_resumes_on_another_number_of_ranks() -> None:
    loader = make_loader(stream(), 2, workers=0, rank=1, world=2)
    take(loader, 3)
    resumed = make_loader(stream(), 4, workers=0)
    resumed.load_state_dict(loader.state_dict())
    assert pixels(take(resumed, 2)) == pixels(take(make_loader(stream(), 4, workers=0), 5))[12:]


def test_resuming_with_other_data_is_refused() -> None:
    loader = make_loader(stream(), 2, workers=0)
    with pytest.raises(UserError, match=r"7 clips an epoch.*same data and seed"):
        make_loader(stream(videos=5), 2, workers=0).load_state_dict(loader.state_dict())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_ends_in_one_line(workers: int) -> None:
    loader = make_loader(stream(broken=3), 7, workers=workers)
    with pytest.raises(UserError) as caught:
        take(loader, 1)
    assert str(caught.value) == "video 3: the image is damaged"


def test_a_killed_worker_ends_in_one_line() -> None:
    def dies(clip: Clip, rng: np.random.Generator) -> Clip:
        os.kill(os.getpid(), signal.SIGKILL)
        return clip

    loader = make_loader(ClipDataset(Counting(), PairSampler(), [dies]), 2, workers=1)
    with pytest.raises(UserError, match=r"a process that reads training data died .*fewer workers"):
        take(loader, 1)


def test_a_mixture_keeps_its_ratios_and_skips_nothing() -> None:
    large, small = stream(videos=12), ClipDataset(Counting(videos=4, length=3), PairSampler())
    mixture = Mixture([large, small], [1, 3])
    assert len(mixture) == 16
    keys = [key for epoch in range(3) for key in mixture.order(epoch)]
    assert [sum(part == number for part, _, _ in keys[:16]) for number in (0, 1)] == [4, 12]
    assert sorted(video for part, _, video in keys if part == 0) == list(
        range(12)
    )  # one round in three epochs
    assert sorted(key for key in keys if key[0] == 1) == [(1, e, v) for e in range(9) for v in range(4)]
    assert len(set(keys)) == len(keys)


def test_a_mixture_resumes_exactly() -> None:
    def mixture() -> Mixture:
        return Mixture([stream(videos=5), ClipDataset(Counting(3), ClipSampler(2))], [2, 1], seed=4)

    loader = make_loader(mixture(), 3, workers=0)
    take(loader, 4)
    resumed = make_loader(mixture(), 3, workers=0)
    resumed.load_state_dict(loader.state_dict())
    assert pixels(take(resumed, 3)) == pixels(take(make_loader(mixture(), 3, workers=0), 7)[4:])


def test_a_mixture_needs_a_ratio_for_each_part() -> None:
    with pytest.raises(UserError, match="2 data sets need as many ratios above 0"):
        Mixture([stream(), stream()], [1])


def test_resuming_with_other_videos_of_equal_number_is_refused(tmp_path: Path) -> None:
    def loader(first_id: int) -> ClipLoader:
        document = small_set.document()
        document["annotations"][0]["id"] = first_id
        path = tmp_path / f"{first_id}.json"
        path.write_text(json.dumps(document))
        data = DatasetClips(load(path, frames=tmp_path))
        return make_loader(ClipDataset(data, PairSampler(), [], 0), 1, workers=0)

    loader(70).load_state_dict(loader(70).state_dict())
    with pytest.raises(UserError, match="began with other videos or tracks"):
        loader(71).load_state_dict(loader(70).state_dict())
