"""Constants are tried on cached queries; what they score there is what they score in truth."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.evaluation.run import evaluate
from ookd.tracking.associators.ranges import Between, Choice, Steps
from ookd.tracking.predict import predict
from ookd.tune.replay import Cache, average_precision, gain
from ookd.tune.search import cache_queries, maximise, tune
from tracking.colour_model import NAMES, ColourModel, Scenes


@pytest.fixture(scope="module")
def cache() -> Cache:
    source = Scenes()
    return cache_queries(ColourModel(), source, source.truth(), NAMES, TrackerConfig())


@pytest.mark.parametrize(
    "config",
    [
        TrackerConfig(),
        TrackerConfig(horizon=3, new_score=0.5),
        TrackerConfig(mask_nms=0.2, match=0.8, every_class=False, pool="max"),
    ],
)
def test_a_replay_scores_what_evaluation_scores(cache: Cache, config: TrackerConfig) -> None:
    source = Scenes()
    report = evaluate(source.truth(), predict(ColourModel(), source, config))
    assert 0.05 < report.ap < 0.95
    assert average_precision(cache, config) == pytest.approx(report.ap, abs=1e-9)


def test_a_replay_is_of_the_frames_as_the_model_is_shown_them(cache: Cache) -> None:
    source, config = Scenes(), TrackerConfig(short_side=48, select_score=0.01)
    smaller = cache_queries(ColourModel(), source, source.truth(), NAMES, config)
    report = evaluate(source.truth(), predict(ColourModel(), source, config))
    assert average_precision(smaller, config) == pytest.approx(report.ap, abs=1e-9)
    assert report.ap < average_precision(cache, TrackerConfig()) - 0.05  # coarser masks


def test_the_search_finds_better_constants_and_says_the_same_twice(cache: Cache) -> None:
    blind = TrackerConfig(horizon=3, match=0.9, first_score=0.7)  # forgets what is away for five frames
    heard: list[tuple[int, float]] = []
    tuned = tune(cache, blind, trials=24, seed=1, on_trials=lambda *news: heard.append(news))
    assert tuned.start_ap == average_precision(cache, blind)
    assert tuned.ap == average_precision(cache, tuned.config) > tuned.start_ap + 0.05
    assert [trials for trials, _ in heard] == [8, 16, 24]
    assert all(later >= earlier for (_, earlier), (_, later) in pairwise(heard))
    assert tune(cache, blind, trials=24, seed=1) == tuned


def test_a_search_begins_with_what_there_was_and_goes_on_around_the_best() -> None:
    ranges = {
        "near": Between(0.0, 1.0),
        "many": Steps(1, 50),
        "way": Choice("this", "that"),
        "new": Choice(True),
    }
    asked: list[dict[str, Any]] = []

    def score(drawn: list[dict[str, Any]]) -> list[float]:
        asked.extend(drawn)
        return [-abs(values["near"] - 0.42) - abs(values["many"] - 10) / 50 for values in drawn]

    start = {"near": 0.4, "many": 90, "way": "another"}  # partly out of range
    best, reached = maximise(ranges, score, -9.0, 80, start=start)
    assert asked[0]["near"] == 0.4
    assert asked[0]["many"] == 50
    assert asked[0]["way"] in ("this", "that")
    assert all(0 <= values["near"] <= 1 and 1 <= values["many"] <= 50 for values in asked)
    assert reached > -0.05
    assert best in asked
    assert maximise(ranges, score, 9.0, 8, start=start) == (start, 9.0)


def test_processes_do_not_change_the_outcome(cache: Cache) -> None:
    assert tune(cache, TrackerConfig(), trials=8, jobs=2) == tune(cache, TrackerConfig(), trials=8)


def test_a_gain_comes_with_its_interval(cache: Cache) -> None:
    blind, seeing = TrackerConfig(horizon=3), TrackerConfig()
    gained = gain(cache, blind, seeing)
    assert gained.b == pytest.approx(average_precision(cache, blind))
    assert gained.a == pytest.approx(average_precision(cache, seeing))
    assert 0 < gained.low <= gained.difference <= gained.high
    nothing = gain(cache, seeing, seeing)
    assert (nothing.difference, nothing.low, nothing.high) == (0, 0, 0)


def test_what_is_not_searched_stays(cache: Cache) -> None:
    start = TrackerConfig(similarity="cosine", scale=20, horizon=3, every_class=False, box_nms=0.7)
    found = tune(cache, start, trials=8).config
    assert (found.similarity, found.every_class, found.box_nms) == ("cosine", False, 0.7)


def test_without_annotations_there_is_nothing_to_tune_against() -> None:
    truth = Scenes().truth()
    del truth.videos[3]
    with pytest.raises(UserError, match="video 4 has no annotations"):
        cache_queries(ColourModel(), Scenes(), truth, NAMES, TrackerConfig())
    for video in (truth := Scenes().truth()).videos:
        for track in video.tracks:
            track.iscrowd = True
    with pytest.raises(UserError, match="no video has a track"):
        cache_queries(ColourModel(), Scenes(), truth, NAMES, TrackerConfig())
