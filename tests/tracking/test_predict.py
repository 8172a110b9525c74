"""Results over many videos, in the numbers of the data."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ookd.config.tracker import TrackerConfig
from ookd.data.rle import decode
from ookd.errors import UserError
from ookd.structures import Category, Clip, Dataset, Video
from ookd.tracking.predict import predict
from ookd.tracking.recordings import category_ids
from ookd.tracking.session import Session
from tracking.colour_model import LABELS, NAMES, PALETTE, ColourModel, scene

CONFIG = TrackerConfig()


class Scenes:
    """Squares as a source of clips: video i has 12 + i frames."""

    names = NAMES

    def __len__(self) -> int:
        return 3

    def video_length(self, i: int) -> int:
        return 12 + i

    def clip(self, i: int, frames: list[int]) -> Clip:
        none = np.zeros(0, np.int64)
        images = [scene(frame + i) for frame in frames]
        return Clip(images, [np.zeros((0, 96, 128), bool)] * len(frames), none, none, np.array(frames))


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """The same scenes on disk, with numbers of their own and classes in another order."""
    categories = [Category(30, "plum"), Category(10, "apple"), Category(40, "stone")]
    videos = []
    for i in range(3):
        names = []
        for frame in range(12 + i):
            names.append(f"{i}/{frame:03d}.png")
            path = tmp_path / names[-1]
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), scene(frame + i)[:, :, ::-1])
        videos.append(Video(100 + i, 128, 96, names))
    return Dataset(categories, videos, tmp_path)


@pytest.mark.parametrize("carry", [False, True])
def test_the_same_as_a_session_over_each_video(carry: bool) -> None:
    source, model = Scenes(), ColourModel(carry)
    results = predict(model, source, CONFIG)
    wanted = []
    for i in range(3):
        live = Session(model, CONFIG, NAMES, "cpu", final=True)
        for frame in range(12 + i):
            live.step(scene(frame + i))
        wanted += live.results.tracks(i + 1, [1, 2, 3])
    assert [(r.video_id, r.category_id, r.segmentations) for r in results] == [
        (w.video_id, w.category_id, w.segmentations) for w in wanted
    ]
    np.testing.assert_allclose([r.score for r in results], [w.score for w in wanted], rtol=1e-6)


def test_every_track_has_one_entry_a_frame_and_covers_its_square() -> None:
    for result in predict(ColourModel(), Scenes(), CONFIG):
        assert len(result.segmentations) == 12 + result.video_id - 1
        colours = set()
        for frame, rle in enumerate(result.segmentations):
            if rle is not None:
                inside = scene(frame + result.video_id - 1)[decode(rle)]
                rgb, count = np.unique(inside, axis=0, return_counts=True)
                colours.add(tuple(rgb[count.argmax()].tolist()))
        (colour,) = colours
        assert result.category_id == LABELS[PALETTE.tolist().index(list(colour))] + 1


def test_a_model_without_memory_sees_several_frames_at_once_and_one_with_memory_does_not() -> None:
    for carry, calls in ((False, 3 * 3), (True, 12 + 13 + 14)):  # 1 + 8 + the rest
        model = ColourModel(carry)
        predict(model, Scenes(), CONFIG)
        assert model.calls == calls


def test_results_carry_the_numbers_of_the_data(dataset: Dataset) -> None:
    results = predict(ColourModel(), dataset, CONFIG, NAMES)
    own = predict(ColourModel(), Scenes(), CONFIG)
    number = {1: 10, 3: 30}  # the data has no leaves
    assert [(r.video_id, r.category_id, r.score, r.segmentations) for r in results] == [
        (o.video_id + 99, number[o.category_id], o.score, o.segmentations)
        for o in own
        if o.category_id in number
    ]


def test_classes_are_matched_by_name(dataset: Dataset) -> None:
    assert category_ids(dataset, NAMES) == [10, None, 30]
    with pytest.raises(UserError, match="no class in common: cat, dog against plum, apple, stone"):
        category_ids(dataset, ["cat", "dog"])


def test_an_image_of_another_size_than_the_data_says_is_named(dataset: Dataset) -> None:
    dataset.videos[1].width = 130
    with pytest.raises(UserError, match=r"video 101, frame 0 \(1/000.png\): the image is 128x96"):
        predict(ColourModel(), dataset, CONFIG, NAMES)


def test_training_goes_on_in_training_mode() -> None:
    model = ColourModel().train()
    predict(model, Scenes(), CONFIG)
    assert model.training
