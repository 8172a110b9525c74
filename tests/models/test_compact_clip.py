"""The clip teacher: seeds that differ, parts that exchange, tubes matched once."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from ookd.models.compact.clip import (
    ClipAnswer,
    ClipFrames,
    CompactClip,
    CompactClipConfig,
    choose_seeds,
    claim_queries,
    follow_seeds,
    initial_presence,
    path_likelihood,
)
from ookd.models.compact.clip_training import CompactClipTraining, TubeTargets, tube_terms
from ookd.models.compact.config import CompactConfig
from ookd.models.compact.model import Compact
from ookd.models.families import preset
from ookd.models.zoo import build, save_pretrained, start_from
from ookd.structures import Batch, Tracks

SIZES = {
    "classes": 3,
    "width": 32,
    "mask_width": 8,
    "embed": 16,
    "heads": 4,
    "hidden": 32,
    "queries": 6,
    "layers": 2,
}
SMALL = CompactClipConfig(**SIZES, clip_queries=5, clip_layers=2)  # type: ignore[arg-type]


def batch(frames: int = 3) -> Batch:
    """Two clips: one with two objects, of which the second is missing in the first frame; one with none."""
    masks = torch.zeros(2, frames, 64, 96, dtype=torch.bool)
    masks[0, :, 5:30, 5:40] = True
    masks[1, 1:, 35:60, 50:90] = True
    full = Tracks(
        torch.tensor([0, 2]), torch.tensor([7, 9]), torch.zeros(2, frames, 4), masks, masks.any((2, 3))
    )
    empty = Tracks(*(x[:0] for x in (full.labels, full.ids, full.boxes, full.masks, full.visible)))
    images = torch.randint(0, 256, (2, frames, 3, 64, 96), dtype=torch.uint8)
    return Batch(images, torch.zeros(2, frames, 64, 96, dtype=torch.bool), [full, empty], seeds=[1, 2])


def frames_with(unit: Tensor, score: Tensor, apart: Tensor | None = None) -> ClipFrames:
    nothing: Tensor = torch.zeros(0)
    if apart is None:
        b, t, q = score.shape
        apart = torch.zeros(b, t - 1, q, q)
    return ClipFrames(nothing, nothing, nothing, F.normalize(unit, dim=-1), score, apart)  # type: ignore[arg-type]


def test_seeds_take_each_object_once_although_every_frame_shows_it() -> None:
    """Three objects in four frames: embeddings nearly alike for one object, at right angles for others."""
    unit = torch.eye(3).repeat(4, 1, 1) + 0.05 * torch.rand(
        4, 3, 3, generator=torch.Generator().manual_seed(0)
    )
    score = torch.tensor([[0.9, 0.5, 0.3], [0.8, 0.7, 0.3], [0.9, 0.6, 0.2], [0.95, 0.6, 0.25]])
    seeds = choose_seeds(frames_with(unit[None], score[None]), 3)[0]
    assert seeds[0] == 3 * 3  # the surest of all: object 0 in frame 3
    assert sorted((seeds % 3).tolist()) == [0, 1, 2]


def test_what_another_likes_more_is_not_taken() -> None:
    """Both clip queries like frame query 0 best, the first one more; a hidden rival changes nothing."""
    association = torch.tensor([[9.0, 2.0, 0.0], [7.0, 6.5, 0.0]])[None, None]  # [B, T, N, Q]
    assert claim_queries(association, None).tolist() == [[[0, 1]]]
    between = torch.zeros(1, 2, 2)
    between[0, 1, 0] = -torch.inf
    assert claim_queries(association, between).tolist() == [[[0, 0]]]
    between = between.transpose(1, 2)
    assert claim_queries(association, between).tolist() == [[[0, 1]]]


def test_an_object_that_turns_is_followed_by_the_mean_of_its_looks() -> None:
    """It turns by 35 degrees a frame; from the first look alone another object is nearer in the last."""

    def looks(*degrees: float) -> Tensor:
        angle = torch.deg2rad(torch.tensor(degrees))
        return torch.stack([angle.cos(), angle.sin()], -1)

    unit = torch.stack([looks(0, 180), looks(35, 180), looks(70, -60)])[None]  # [B, T, Q, E]
    frames = frames_with(unit, torch.full((1, 3, 2), 0.9))
    first = torch.einsum("e,btqe->btq", frames.unit[0, 0, 0], frames.unit).argmax(-1)
    assert first.flatten().tolist() == [0, 0, 1]
    alike, likely, choice = follow_seeds(frames, torch.tensor([[0]]), None)
    assert choice.flatten().tolist() == [0, 0, 0]
    assert alike[0, 2, 0].argmax() == likely[0, 2, 0].argmax() == 0


def test_of_two_that_look_the_same_each_is_the_one_that_is_near() -> None:
    """They stand still and swap their numbers from frame to frame."""
    swapped = torch.tensor([[2.0, 0.0], [0.0, 2.0]]).expand(1, 2, 2, 2)
    frames = frames_with(torch.ones(1, 3, 2, 4), torch.full((1, 3, 2), 0.9), swapped)
    _, likely, choice = follow_seeds(
        frames, torch.tensor([[0, 5]]), None
    )  # first of frame 0, second of frame 2
    assert choice.tolist() == [[[0, 1], [1, 0], [0, 1]]]
    assert (likely.exp().sum(-1) - 1).abs().max() < 1e-3


def test_ways_are_summed_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    likely = torch.randn(2, 4, 3, 3, generator=generator)  # [B, T, N, Q]
    cost = torch.rand(2, 3, 3, 3, generator=generator)
    sums = torch.zeros(2, 4, 3, 3)
    for way in product(range(3), repeat=4):
        gained = torch.stack([likely[:, t, :, q] for t, q in enumerate(way)]).sum(0)
        paid = torch.stack([cost[:, t, way[t], way[t + 1]] for t in range(3)]).sum(0)
        for t, q in enumerate(way):
            sums[:, t, :, q] += (gained - paid.unsqueeze(1)).exp()
    torch.testing.assert_close(path_likelihood(likely, cost).exp(), sums / sums.sum(-1, keepdim=True))
    torch.testing.assert_close(path_likelihood(likely[:, :1], cost[:, :0]), likely[:, :1].log_softmax(-1))


def test_who_looks_less_like_it_than_another_does_is_not_in_view() -> None:
    """Both take the same frame query; who does not know of the other stays."""
    alike = torch.tensor([[0.98], [0.9]])[None, None]  # [B, T, N, Q]
    both = torch.zeros(1, 1, 2, dtype=torch.long)
    assert (initial_presence(alike, both, None) > 0).tolist() == [[[True, False]]]
    between = torch.zeros(1, 2, 2)
    between[0, 1, 0] = -torch.inf
    assert (initial_presence(alike, both, between) > 0).all()


def test_shapes_and_empty_masks_where_absent() -> None:
    torch.manual_seed(0)
    model = CompactClip(SMALL).eval()
    torch.nn.init.constant_(model.presence.bias, -50.0)
    with torch.no_grad():
        queries = model(torch.randn(2, 3, 3, 64, 96), torch.zeros(2, 3, 64, 96, dtype=torch.bool))
    assert queries.logits.shape == (2, 5, 3)
    assert queries.frame_features.shape == (2, 3, 5, 16)
    assert queries.features.shape == (2, 5, 16)
    masks = queries.masks(torch.tensor([[4, 0], [1, 1]]))
    assert masks.shape == (2, 2, 3, 32, 48)
    assert (masks < 0).all()


def test_what_one_frame_shows_reaches_the_answer_about_another() -> None:
    torch.manual_seed(0)
    model = CompactClip(SMALL).eval()
    for correction in (model.change, model.classify):  # as if trained
        torch.nn.init.normal_(correction.weight)
    clip, pad = torch.randn(1, 3, 3, 64, 96), torch.zeros(1, 3, 64, 96, dtype=torch.bool)
    changed = clip.clone()
    changed[:, 2] = torch.randn(3, 64, 96)
    with torch.no_grad():
        a, b = model.encode(clip, pad), model.encode(changed, pad)
        torch.testing.assert_close(
            a.score[:, :2], b.score[:, :2]
        )  # frame by frame the others are as they were
        seeds = torch.tensor([[0, 1, 2, 3, 4]])  # of frame 0
        first, second = model.decode(a, seeds)[-1], model.decode(b, seeds)[-1]
    assert (first.frame.features[0] - second.frame.features[0]).abs().max() > 1e-3
    assert (first.logits - second.logits).abs().max() > 1e-3


def test_before_training_a_part_is_the_frame_query_that_looks_most_like_the_seed() -> None:
    torch.manual_seed(0)
    model = CompactClip(SMALL).eval()
    clip, pad = torch.randn(1, 3, 3, 64, 96), torch.zeros(1, 3, 64, 96, dtype=torch.bool)
    with torch.no_grad():
        frames = model.encode(clip, pad)
        frames.unit = torch.zeros_like(frames.unit)  # embeddings that leave no doubt: query 2 - t is the seed
        for t in range(3):
            frames.unit[:, t, :, 1] = 1.0
            frames.unit[:, t, 2 - t] = torch.eye(frames.unit.shape[-1])[0]
        answer = model.decode(frames, torch.tensor([[2]]))[-1]  # query 2 of frame 0
        for t in range(3):
            assert answer.association[0, t, 0].argmax() == 2 - t
            part, query = torch.zeros(3, 1, dtype=torch.long), torch.full((3, 1), 2 - t)
            torch.testing.assert_close(
                answer.frame.masks(part)[t], frames.answer.masks(query)[t], atol=1e-4, rtol=1e-4
            )
    assert (answer.presence > 0).all()


def test_masks_are_taught_only_where_a_part_stands_on_its_instance() -> None:
    """In the second frame it took another frame query than the instance's."""
    drawn = torch.zeros(2, 1, 4, 4, requires_grad=True)  # [BT, N, h, w]
    truth = torch.zeros(1, 2, 1, 4, 4)
    truth[..., :2, :2] = 1
    answer = ClipAnswer(
        logits=torch.zeros(1, 1, 3),
        presence=torch.zeros(1, 2, 1),
        association=torch.zeros(1, 2, 1, 6),
        choice=torch.tensor([[[4], [1]]]),
        frame_embeds=torch.zeros(1, 2, 1, 16),
        identity=torch.zeros(1, 1, 16),
        frame=SimpleNamespace(masks_at=lambda select, stride: drawn),  # type: ignore[arg-type]
    )
    tubes = TubeTargets(
        torch.zeros(1, 1, dtype=torch.long), {4: truth}, torch.ones(1, 2, 1, dtype=torch.bool)
    )
    matched = torch.tensor([[[4], [3]]])
    terms = tube_terms(answer, torch.zeros(1, 1, dtype=torch.long), tubes, matched, 4)
    (terms["mask"] + terms["dice"]).backward()  # type: ignore[no-untyped-call]
    assert drawn.grad is not None
    assert drawn.grad[0].any()
    assert not drawn.grad[1].any()


def test_a_frozen_frame_network_is_left_alone_and_the_rest_learns() -> None:
    torch.manual_seed(0)
    task = CompactClipTraining(CompactClip(SMALL))
    terms = task(batch())
    assert set(terms) <= set(task.weights)
    total = torch.stack([task.weights[name] * value for name, value in terms.items()]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    graded = {name for name, p in task.named_parameters() if p.grad is not None}
    assert not any(".frame." in name for name in graded)
    assert {"model.layers.0.recall.query.weight", "model.me.weight", "model.presence.weight"} <= graded
    assert all(torch.isfinite(p.grad).all() for p in task.parameters() if p.grad is not None)


def test_learning_frame_and_clip_together() -> None:
    torch.manual_seed(0)
    config = SMALL.model_copy(update={"freeze_frame": False})
    task = CompactClipTraining(CompactClip(config))
    terms = task(batch())
    assert "frame_heat" in terms
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert task.model.frame.heads.classify.weight.grad is not None


def test_clips_without_objects_give_finite_losses() -> None:
    torch.manual_seed(0)
    task = CompactClipTraining(CompactClip(SMALL))
    both = batch()
    terms = task(Batch(both.frames[1:], both.pad[1:], both.tracks[1:], seeds=[2]))
    assert all(torch.isfinite(value) for value in terms.values())
    assert terms["mask"] == terms["presence"] == 0


def test_a_teacher_starts_from_a_student(tmp_path: object) -> None:
    torch.manual_seed(0)
    student = Compact(CompactConfig(**SIZES))  # type: ignore[arg-type]
    save_pretrained(student, f"{tmp_path}/student", ["a", "b", "c"])
    teacher = CompactClip(SMALL)
    start_from(teacher, f"{tmp_path}/student")
    for name, value in student.state_dict().items():
        assert torch.equal(teacher.frame.state_dict()[name], value)


def test_the_preset_builds() -> None:
    model = build(preset("nano-clip", classes=2))
    assert isinstance(model, CompactClip)
    assert sum(p.numel() for p in model.parameters()) < 8e6
