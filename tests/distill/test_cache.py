"""A teacher's answers on disk: the same as running it, wherever augmentation put the frames."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from engine.test_loop import TINY
from ookd import config
from ookd.cli import main
from ookd.clips.loader import collate
from ookd.clips.minor_paste import PASTED
from ookd.clips.sampling import DistillSampler
from ookd.clips.sources import ClipDataset, hide_labels
from ookd.clips.warps import Crop, Flip, Resize, Warp, warp_clip
from ookd.distill.cache import MANIFEST, CachedWindow, CacheKey, TeacherCache, cache_key
from ookd.distill.cached import CachedTeacher
from ookd.distill.fill import FRAMES, OVERLAP, FillPlan, infer_window, window_starts
from ookd.distill.qfa import match_teacher
from ookd.distill.teacher import LiveTeacher
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.families import family_of, preset
from ookd.models.protocols import OfflineModel
from ookd.structures import Clip, ClipQueries
from ookd.worlds import World
from toy_family import toy_family

KEY = CacheKey("teacher", [{"kind": "world"}], 0.3, 0.6, None)


def window(first: int, value: int = 7, frames: int = 3) -> CachedWindow:
    masks = torch.full((2, frames, 4, 6), value, dtype=torch.uint8)
    return CachedWindow(
        first,
        torch.full((2, 5), float(value)).half(),
        torch.full((2, 8), float(value)).half(),
        torch.full((frames, 2, 8), float(value)).half(),
        masks,
        torch.tensor([24.0, 16.0]),
    )


def test_windows_cover_a_video_and_hold_every_near_pair() -> None:
    for length in (1, FRAMES, FRAMES + 1, 200):
        spans = [range(first, min(first + FRAMES, length)) for first in window_starts(length)]
        assert all(len(span) == min(FRAMES, length) for span in spans)
        for frame in range(length):
            other = min(frame + OVERLAP - 1, length - 1)
            assert any(frame in span and other in span for span in spans)


def test_what_was_written_is_read_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path, KEY)
    cache.add("a", [window(0, 1), window(2, 2)])
    cache.flush()
    cache.add("b", [window(0, 3)])
    cache.flush()
    again = TeacherCache(tmp_path, KEY)
    assert "a" in again
    assert "c" not in again
    assert len(again) == 2
    assert again.windows("a") == [0, 2]
    found = again.read("a", 1)
    assert list(found.frames) == [2, 3, 4]
    assert all(torch.equal(value, window(2, 2).tensors()[name]) for name, value in found.tensors().items())
    again.add("c", [window(0, 4)])
    again.flush()
    assert sorted(path.name for path in tmp_path.glob("shard-*")) == [
        f"shard-0000{n}.safetensors" for n in range(3)
    ]
    assert again.bytes == sum(path.stat().st_size for path in tmp_path.glob("shard-*"))


def test_what_is_not_in_the_manifest_does_not_count(tmp_path: Path) -> None:
    """A kill between the shard and the manifest leaves a shard that is written again."""
    cache = TeacherCache(tmp_path, KEY)
    cache.add("a", [window(0)])
    cache.flush()
    (tmp_path / MANIFEST).unlink()
    again = TeacherCache(tmp_path, KEY)
    assert len(again) == 0
    again.add("b", [window(0, 9)])
    again.flush()
    assert TeacherCache(tmp_path, KEY).read("b", 0).masks.unique().tolist() == [9]


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_shard_is_noticed_and_left_out(how: str, tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path, KEY)
    for video in ("a", "b"):
        cache.add(video, [window(0)])
        cache.flush()
    shard = tmp_path / "shard-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    if how == "gone":
        shard.unlink()
    else:
        shard.write_bytes(content if how == "flipped" else content[:-5])
    again = TeacherCache(tmp_path, KEY)
    assert again.damaged == ["shard-00000.safetensors"]
    assert "a" not in again
    assert "b" in again
    again.add("a", [window(0)])
    again.flush()
    mended = TeacherCache(tmp_path, KEY)
    assert not mended.damaged
    assert len(mended) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": "other"}, "another teacher"),
        ({"data": []}, "other data"),
        ({"short_side": 360}, "another size"),
        ({"min_score": 0.1}, "filtered with min_score 0.3"),
    ],
)
def test_a_cache_of_something_else_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path, KEY)
    cache.add("a", [window(0)])
    cache.flush()
    fields = {
        "teacher": "teacher",
        "data": KEY.data,
        "min_score": 0.3,
        "tube_nms": 0.6,
        "short_side": None,
    }
    with pytest.raises(UserError, match=words):
        TeacherCache(tmp_path, CacheKey(**{**fields, **change}))
    stricter = TeacherCache(tmp_path, CacheKey(**{**fields, "min_score": 0.5}))  # chooses among what is there
    assert "a" in stricter
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(UserError, match="not the manifest"):
        TeacherCache(tmp_path, KEY)


class Boxes(OfflineModel):
    """A teacher whose masks are where the image is red: query 0; and nowhere: query 1."""

    def __init__(self) -> None:
        super().__init__()
        self.config = BOXES
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, clip: Tensor, pad: Tensor) -> ClipQueries:
        red = clip[:, :, 0, ::2, ::2] > 0  # [B, T, h, w]
        tubes = torch.stack([red, torch.zeros_like(red)], 1).float() * 20 - 10
        b, t = clip.shape[:2]
        logits = torch.tensor([[4.0, -4.0], [3.0, -4.0]]).expand(b, -1, -1)
        features = torch.arange(6.0).view(1, 2, 3).expand(b, -1, -1)
        frame = torch.arange(float(t)).view(1, t, 1, 1).expand(b, -1, 2, 3)

        def masks(select: Tensor) -> Tensor:
            return tubes[torch.arange(b).unsqueeze(1), select]

        return ClipQueries(logits, None, features, frame, masks)


BOXES = toy_family(Boxes, 2)


def red_block() -> Clip:
    """Six frames of 64 x 96; a red block of 20 x 24 moves right by four pixels a frame."""
    images, masks = [], []
    for t in range(6):
        image = np.zeros((64, 96, 3), np.uint8)
        mask = np.zeros((1, 64, 96), np.bool_)
        image[20:40, 10 + 4 * t : 34 + 4 * t, 0] = 255
        mask[0, 20:40, 10 + 4 * t : 34 + 4 * t] = True
        images.append(image)
        masks.append(mask)
    one = np.ones(1, np.int64)
    return Clip(images, masks, 0 * one, one, np.arange(6), "v", student=(1, 4))


def cached(tmp_path: Path, *windows: range) -> CachedTeacher:
    """One that knows these frames of the red block, or all."""
    live = LiveTeacher.__new__(LiveTeacher)
    live.model = Boxes()
    live.family = family_of(live.model)
    live._columns = torch.tensor([[1], [0]])  # classes the other way round
    live.known, live.side = torch.tensor([True, True]), None
    spec = config.Distill()
    cache = TeacherCache(tmp_path, KEY)
    images = red_block().images
    spans = windows or (range(6),)
    cache.add("v", [infer_window(live, one.start, [images[i] for i in one], spec, None) for one in spans])
    cache.flush()
    return CachedTeacher(live, cache)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [Flip()],
        [Resize(96, 144)],
        [Crop(8, 8, 64, 48)],
        [Resize(128, 192), Flip(), Crop(31, 10, 130, 100), Resize(77, 100)],
    ],
)
def test_cached_masks_are_where_augmentation_put_the_frames(steps: list[Warp], tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    batch = collate([warp_clip(red_block(), [steps] * 6)])
    (answer,) = teacher.infer(batch)
    assert answer.queries.features[0, 0].tolist() == [0, 1, 2]
    assert answer.queries.frame_features[0, :, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert answer.queries.logits[0, 0].tolist() == [-4, 4]
    assert answer.places.tolist() == [[1, 4]]
    masks = answer.queries.masks(torch.tensor([[0]]))[0, 0].sigmoid()  # [6, h, w]
    for frame in range(6):
        there = batch.tracks[0].masks[0, frame].float()
        truth = torch.nn.functional.avg_pool2d(there[None], 4)[0]  # share of each cell
        overlap = torch.minimum(masks[frame], truth).sum() / torch.maximum(masks[frame], truth).sum()
        assert overlap > 0.85, (steps, frame)


def test_what_the_cache_cannot_know_goes_to_the_live_teacher(tmp_path: Path) -> None:
    """Clip 0 is known, clip 1 has a pasted object, clip 2 is of another video."""
    teacher = cached(tmp_path)
    clips = [red_block() for _ in range(3)]
    clips[1].ids = clips[1].ids + PASTED
    clips[2].video = "w"
    answers = teacher.infer(collate(clips))
    assert [one.clips.tolist() for one in answers] == [[0], [1, 2]]
    assert answers[0].queries.frame_features.shape[1] == 6
    assert answers[1].queries.frame_features.shape[1] == 6
    assert answers[1].places.tolist() == [[1, 4], [1, 4]]


@pytest.mark.parametrize(("known", "iou"), [(range(6), 2 / 10), (range(5), 2 / 8), (range(1, 5), 2 / 6)])
def test_the_exact_filter_judges_the_frames_that_the_student_does_not_see(
    known: range, iou: float, tmp_path: Path
) -> None:
    """The truth is elsewhere in all frames but the student's two; one that no window has does not count."""
    teacher = cached(tmp_path, known)
    clip = red_block()
    for frame in {0, 2, 3, 5}:
        clip.masks[frame] = np.roll(clip.masks[frame], 20, axis=1)  # just below the block
    (answer,) = teacher.infer(collate([clip]))
    matches = match_teacher(answer.queries, 0, answer.tracks[0])
    assert matches.query.tolist() == [0]
    assert matches.iou.item() == pytest.approx(iou, abs=0.03)


def test_of_two_windows_the_one_with_more_of_the_clip_answers(tmp_path: Path) -> None:
    teacher = cached(tmp_path, range(4), range(1, 6), range(2, 4))
    clip = red_block()
    clip.student = (2, 3)
    (answer,) = teacher.infer(collate([clip]))
    assert answer.tracks[0].visible[0].tolist() == [False, True, True, True, True, True]


SMALL = {"width": 32, "mask_width": 16, "embed": 16, "heads": 4, "hidden": 64, "queries": 8}


def recipe(tmp_path: Path, *changes: str) -> config.Recipe:
    torch.manual_seed(0)
    folder = tmp_path / "teacher"
    if not folder.exists():
        names = list(World("ytvis-like").names)
        model = zoo.build(preset("nano-clip", classes=len(names), clip_queries=6, **SMALL))
        torch.nn.init.constant_(model.presence.bias, 5.0)  # type: ignore[union-attr, arg-type]
        zoo.save_pretrained(model, folder, names)
    taught = (
        f"distill={{teacher: {folder}, cache: {tmp_path / 'cache'}, filter: {{min_score: 0, min_iou: 0}},"
        "signals: {relation: {weight: 1}, class: {weight: 1}, mask: {weight: 1}}}"
    )
    return config.load("nano-ytvis-like", [*TINY, "data.train.0.videos=3", "run.steps=2", taught, *changes])


def test_filling_resumes_repairs_and_estimates_the_size(tmp_path: Path) -> None:
    estimates: list[int] = []
    plan = FillPlan(recipe(tmp_path), "cpu")
    assert (plan.missing, plan.missing_frames) == (3, 18)
    plan.run(lambda frames, estimate: estimates.append(estimate))
    on_disk = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.safetensors"))
    assert estimates[-1] == pytest.approx(on_disk, rel=0.1)
    assert FillPlan(recipe(tmp_path), "cpu").missing == 0
    assert FillPlan(recipe(tmp_path, "data.train.0.videos=5"), "cpu").missing == 2
    with pytest.raises(UserError, match="other data"):
        FillPlan(recipe(tmp_path, "data.train.0.seed=1"), "cpu")
    (tmp_path / "cache" / "shard-00000.safetensors").write_bytes(b"?")
    assert FillPlan(recipe(tmp_path), "cpu").missing == 3


def test_a_torch_built_for_a_gpu_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    plan = FillPlan(recipe(tmp_path))
    plan.run()
    assert len(plan.cache) == 3


def test_stopping_keeps_what_is_done(tmp_path: Path) -> None:
    plan = FillPlan(recipe(tmp_path), "cpu")

    def stop(frames: int, estimate: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan.run(stop)
    assert FillPlan(recipe(tmp_path), "cpu").missing == 2


def test_the_manifest_says_whose_answers_these_are(tmp_path: Path) -> None:
    plan = FillPlan(recipe(tmp_path), "cpu")
    plan.run()
    manifest = json.loads((tmp_path / "cache" / MANIFEST).read_text())
    assert len(manifest["subject"]["teacher"]) == 64
    assert manifest["subject"]["data"][0]["preset"] == "ytvis-like"
    assert sum(len(shard["videos"]) for shard in manifest["shards"]) == 3


def test_caches_of_earlier_versions_are_recognised() -> None:
    """The teacher's fingerprint in their manifests: SHA-256 over its tensors in the order of their names."""
    teacher = nn.Linear(2, 1)
    digest = hashlib.sha256()
    for name in ("bias", "weight"):
        digest.update(name.encode() + getattr(teacher, name).detach().numpy().tobytes())
    given = config.load("nano-distill")
    assert given.distill is not None
    assert cache_key(teacher, given.data, given.distill).teacher == digest.hexdigest()


def test_unlabelled_clips_are_served_too(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    clip = hide_labels(red_block(), np.random.default_rng(0))
    (answer,) = teacher.infer(collate([clip]))
    assert len(answer.tracks[0]) == 0
    assert answer.queries.features.shape == (1, 1, 3)


def test_a_filter_that_keeps_everything_does_not_go_with_a_cache(tmp_path: Path) -> None:
    made = recipe(tmp_path, "distill.filter.kind=none", "distill.associate=prediction")
    from ookd.engine.build import make_model, make_task

    with pytest.raises(UserError, match="without the cache"):
        make_task(make_model(made.model, 14), made, list(World("ytvis-like").names))


def test_a_run_fills_the_cache_and_then_needs_no_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = ["distill.filter.kind=sure", "distill.associate=prediction", "distill.pair_iou=0"]
    given = recipe(tmp_path, "distill.cache=null", "data.train.0.videos=2", *rule)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(given.model_dump()))
    call = ["distill", str(file), "--cache", str(tmp_path / "known"), "--device", "cpu", "--json"]
    assert main([*call, "--only-cache"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["videos"] == 2
    assert known["bytes"] == sum(path.stat().st_size for path in (tmp_path / "known").glob("shard-*"))

    def live(*_: object) -> None:
        raise AssertionError("the teacher ran again")

    monkeypatch.setattr(LiveTeacher, "infer", live)
    assert main([*call, "--out", str(tmp_path / "run")]) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["loss"]["kept_share"] > 0


def test_only_cache_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "--teacher", str(tmp_path), "--only-cache"]) == 2
    assert "--cache" in capsys.readouterr().err


def test_beside_a_cache_the_teacher_sees_the_students_frames(tmp_path: Path) -> None:
    """What it says of single frames is the same, whether it saw the whole clip or these alone."""
    from ookd.engine.build import make_model, make_task

    given = recipe(
        tmp_path,
        "data.train.0.videos=2",
        "distill.signals={pixels: {weight: 1}, shared: {weight: 1}}",
        f"model.change={SMALL}",
    )
    FillPlan(given, "cpu").run()
    names = list(World("ytvis-like").names)
    torch.manual_seed(1)
    task = make_task(make_model(given.model, len(names)), given, names)
    source = World("ytvis-like", videos=2, height=64, width=96, frames=6, crowd=[2, 3])
    batch = collate([ClipDataset(source, DistillSampler(length=4))[video, 0] for video in range(2)])
    teacher: Any = task.teacher
    (answer,) = teacher.infer(batch)
    assert answer.frames is not None
    assert answer.frames.maps
    assert not answer.queries.maps  # which come from the cache
    with torch.no_grad():
        cached_terms = task(batch)
        task.teacher = teacher.live
        live_terms = task(batch)
    for name in ("kd_pixels", "kd_shared"):
        assert cached_terms[name] > 0.01
        torch.testing.assert_close(cached_terms[name], live_terms[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "harm",
    [
        lambda manifest: manifest.update(subject=[]),
        lambda manifest: manifest["subject"].update(teacher=[1]),
        lambda manifest: manifest["subject"].update(min_score="high"),
        lambda manifest: manifest["shards"].append({"file": "x.safetensors"}),
        lambda manifest: manifest["shards"][0].update(file="../x.safetensors"),
        lambda manifest: manifest["shards"][0].update(videos=[1]),
        lambda manifest: manifest["shards"][0].update(videos={"a": "b"}),
        lambda manifest: manifest.update(shards={}),
    ],
)
def test_fields_of_the_manifest_are_checked(harm, tmp_path: Path) -> None:
    key = CacheKey("t", [], 0.3, 0.6, None)
    cache = TeacherCache(tmp_path, key)
    cache.add("a", [window(0)])
    cache.flush()
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert len(TeacherCache(tmp_path, key)) == 1
    harm(manifest)
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is not the manifest of a teacher's cache"):
        TeacherCache(tmp_path, key)
