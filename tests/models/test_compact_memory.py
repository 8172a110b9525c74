"""The compact student with a memory: as the stateless one at first, the same however its frames arrive."""

from __future__ import annotations

from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.staggered import check_staggered
from ookd.clips.loader import collate
from ookd.clips.sampling import ClipSampler
from ookd.clips.sources import ClipDataset
from ookd.models import zoo
from ookd.models.compact.config import CompactConfig
from ookd.models.compact.memory import CompactMemory, CompactMemoryConfig, candidates, claim_queries
from ookd.models.compact.memory_training import CompactMemoryTraining, elapsed_frames
from ookd.models.compact.model import Compact, peak_places
from ookd.models.compact.slot_noise import SlotNoise
from ookd.models.families import preset, tracker_config
from ookd.models.preprocess import IMAGENET
from ookd.structures import Batch, Tracks
from ookd.tracking.frame_model import Image
from ookd.tracking.recordings import recordings
from ookd.tracking.session import MultiSession, Session
from ookd.worlds import World

CPU = torch.device("cpu")
QUIET = SlotNoise(drop=0, swap=0, blur=0)
SIZES = {"classes": 3, "width": 32, "mask_width": 8, "embed": 16, "heads": 4, "hidden": 32, "queries": 8}
SMALL = CompactMemoryConfig(**SIZES, layers=2, slots=6, birth=0.0)  # type: ignore[arg-type]


@cache
def world() -> World:
    return World("identity", split="tune", videos=2, size=(0.3, 0.6), height=96, width=160, frames=12)


@cache
def video(number: int = 0) -> list[Image]:
    return list(recordings(world())[number].images())


def started(**changes: Any) -> CompactMemory:
    """Around the bundled student."""
    nano = zoo.load("nano").model.config
    assert isinstance(nano, CompactConfig)
    model = zoo.build(preset("nano-memory", classes=14, queries=nano.queries, **changes))
    zoo.start_from(model, "nano")
    assert isinstance(model, CompactMemory)
    return model.eval()


@pytest.fixture(scope="module")
def memory() -> CompactMemory:
    return started()


def small(seed: int = 0) -> CompactMemory:
    """A random one, in which nothing is zero."""
    torch.manual_seed(seed)
    model = CompactMemory(SMALL).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    return model


def prepared(images: list[Image]) -> tuple[Tensor, Tensor]:
    frames = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    pad = torch.zeros(len(images), *frames.shape[-2:], dtype=torch.bool)
    return IMAGENET.normalise(frames, pad), pad


def noise_images(count: int, seed: int = 0) -> list[Image]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(count)]


def session(model: CompactMemory, **changes: Any) -> Session:
    names = [f"class {label}" for label in range(model.config.classes)]
    return Session(model, constants(**changes), names, CPU)


def constants(**changes: Any) -> Any:
    sure = {"short_side": 96, "first_score": 0.3, "new_score": 0.3}
    return tracker_config("compact-memory", {**sure, **changes})


ANY = {"short_side": 64, "select_score": 0.0, "first_score": 0.0, "new_score": 0.0, "mask_nms": 1.0}


def test_it_keeps_its_promises(memory: CompactMemory) -> None:
    """At most 6 M parameters, with the widest head of the student's own promise."""
    assert sum(p.numel() for p in zoo.build(preset("nano-memory", classes=40)).parameters()) <= 6e6
    assert 16 <= memory.config.slots <= 32


@torch.no_grad()
def test_before_training_every_answer_is_one_of_the_stateless_student(memory: CompactMemory) -> None:
    nano = zoo.load("nano").model
    assert isinstance(nano, Compact)
    frames, pad = prepared(video())
    state, shown = None, 0
    for t in range(6):
        ours, state = memory(frames[t : t + 1], pad[t : t + 1], state)
        theirs, _ = nano(frames[t : t + 1], pad[t : t + 1])
        slot = (ours.identity[0] >= 0).nonzero()[:, 0]
        query = torch.cdist(ours.embed[0, slot], nn.functional.normalize(theirs.embed[0], dim=-1)).argmin(1)
        assert len(set(query.tolist())) == len(query)  # no query is held twice
        torch.testing.assert_close(ours.logits[0, slot], theirs.logits[0, query], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.masks(slot[None]), theirs.masks(query[None]), atol=1e-2, rtol=1e-3)
        shown += len(slot)
    assert shown >= 12


def test_objects_keep_their_identity_in_a_plain_scene(memory: CompactMemory) -> None:
    """Two shapes that move apart, seen by the bundled weights: their numbers stay."""
    running = session(memory)
    first = running.step(video()[0])
    assert len(first) >= 2
    later = [running.step(image) for image in video()[1:4]]
    assert len(set(first.ids.tolist()) & set(later[-1].ids.tolist())) >= 2


@torch.no_grad()
def test_a_stream_equals_the_rollout_of_training() -> None:
    model = small()
    frames, pad = prepared(noise_images(5))
    places = peak_places(pixels := model.frame.encoder(frames, pad), 8)
    seen = candidates(model.frame.decode(pixels, places)[-1], pixels, pad, 8)
    slots, state, one = model.free(1), model.begin(1), torch.ones(1)
    for t in range(5):
        here = seen.at(torch.tensor([t]))
        look = model.look(slots, here, one)
        held = model.hold(slots, here, *claim_queries(slots, here, look))
        rolled, slots = model.write(slots, here, look, held, one)
        streamed, state = model(frames[t : t + 1], pad[t : t + 1], state)
        torch.testing.assert_close(streamed.logits, rolled.logits, atol=1e-4, rtol=1e-4)
        assert torch.equal(streamed.identity, rolled.identity)
        for name, value in slots.state.items():
            torch.testing.assert_close(state[name], value, atol=1e-4, rtol=1e-4)
    assert slots.seen.max() > 1


def test_a_session_is_saved_and_restored_in_the_middle(memory: CompactMemory, tmp_path: Path) -> None:
    first, again = session(memory), session(memory)
    for image in video()[:4]:
        first.step(image)
    first.save(tmp_path / "session.safetensors")
    again.load(tmp_path / "session.safetensors")
    for image in video()[4:8]:
        before, after = first.step(image), again.step(image)
        assert np.array_equal(before.ids, after.ids)
        assert np.array_equal(before.masks, after.masks)
    assert len(before)


def test_streams_that_start_at_different_times_share_a_batch(memory: CompactMemory) -> None:
    names = [f"class {label}" for label in range(14)]
    together = MultiSession(memory, constants(), names, CPU, 2)
    check_staggered(together, lambda: session(memory), video(0)[:6], video(1)[:4])


def test_places_do_not_depend_on_padding(memory: CompactMemory) -> None:
    frames, pad = prepared(video()[:1])
    wide, wide_pad = (nn.functional.pad(x.float(), (0, 64), value=v) for x, v in ((frames, 0.0), (pad, 1.0)))
    with torch.no_grad():
        _, one = memory(frames, pad)
        _, two = memory(wide, wide_pad.bool())
    where = [slots["place"][0, :, :2][slots["seen"][0] > 0] for slots in (one, two)]
    nearest = torch.cdist(where[0][:3], where[1]).amin(1)
    assert nearest.max() < 0.05  # frame heights; the network itself is not exact about padding


def test_memory_is_flat_and_full_slots_give_way() -> None:
    model = small()
    model.hidden.bias.data.fill_(40)  # so that slots recognise nothing and all queries begin anew
    running = session(model, **ANY, horizon=20)
    sizes = set()
    for t, image in enumerate(noise_images(60)):
        result = running.step(image)
        assert len(set(result.ids.tolist())) == len(result)
        if t > 40:
            sizes.add(sum(array.nbytes for name, array in running.state.items() if "model" in name))
    assert len(sizes) == 1
    assert running.state["model.begun"][0] > 6  # more objects than slots
    assert len(running.state["memory.ids"]) <= 20 * 6


def test_what_is_learned_now_reaches_what_was_written_before() -> None:
    """The claims of the last frame alone send gradients to the writer, which worked in the first frames."""
    model = small().train()
    frames, pad = prepared(noise_images(4))
    pixels = model.frame.encoder(frames, pad)
    places = peak_places(pixels, 8)
    seen = candidates(model.frame.decode(pixels, places)[-1], pixels, pad, 8)
    slots, one = model.free(1), torch.ones(1)
    first = None
    for t in range(4):
        here = seen.at(torch.tensor([t]))
        look = model.look(slots, here, one)
        if t == 3:
            break
        held = model.hold(slots, here, *claim_queries(slots, here, look))
        slots = model.write(slots, here, look, held, one)[1]
        if t == 1:
            first = slots.query
            first.retain_grad()
    look.likely.logsumexp(-1).sum().backward()  # type: ignore[no-untyped-call]
    assert first is not None
    assert first.grad is not None
    assert first.grad.abs().max() > 0
    for part in (model.gate, model.trust):
        assert part.weight.grad is not None
        assert part.weight.grad.abs().max() > 0


def clips(count: int, length: int) -> Batch:
    """Clips of the world's first videos, of consecutive frames."""
    dataset = ClipDataset(world(), ClipSampler(length, length), [], 0)
    return collate([dataset[0, number] for number in range(count)])


def test_gaps_between_frames_are_counted() -> None:
    batch = clips(2, 4)
    elapsed = elapsed_frames(batch)
    assert elapsed.shape == (2, 4)
    for row, origin in zip(elapsed.tolist(), batch.origins, strict=True):
        assert row == [1.0, *np.diff(origin.frames)]


def test_a_frozen_frame_network_is_left_alone_and_all_else_learns() -> None:
    task = CompactMemoryTraining(started(freeze_frame=True))
    terms = task(clips(1, 4))
    assert set(terms) - {"claimed_right"} <= set(task.weights)
    torch.stack([task.weights[name] * terms[name] for name in terms if name in task.weights]).sum().backward()
    graded = {name for name, p in task.named_parameters() if p.grad is not None}
    assert graded == {name for name, _ in task.named_parameters() if ".frame." not in name}
    assert all(torch.isfinite(p.grad).all() for p in task.parameters() if p.grad is not None)


def test_clips_without_objects_give_finite_losses() -> None:
    torch.manual_seed(0)
    task = CompactMemoryTraining(CompactMemory(SMALL))
    batch = clips(1, 3)
    (full,) = batch.tracks
    batch.tracks = [Tracks(*(x[:0] for x in (full.labels, full.ids, full.boxes, full.masks, full.visible)))]
    assert all(torch.isfinite(value) for value in task(batch).values())


def test_it_learns_a_tiny_world_and_no_object_is_held_twice() -> None:
    torch.manual_seed(0)
    model = started(freeze_frame=True)
    task = CompactMemoryTraining(model, noise=QUIET)
    batch = clips(2, 5)
    learning = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    totals = []
    for _ in range(20):
        terms = task(batch)
        total = torch.stack(
            [task.weights[name] * terms[name] for name in terms if name in task.weights]
        ).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.7 * totals[0]
    assert float(terms["claimed_right"]) > 0.9
    model.eval()
    owners = [ids_of_objects(model, batch, clip) for clip in range(2)]
    kept = [len(ids) == 1 for ids in chain(*owners)]
    assert len(kept) >= 5
    assert sum(kept) >= len(kept) - 1


def ids_of_objects(model: CompactMemory, batch: Batch, clip: int) -> list[set[int]]:
    """The ids that each true object had in the frames of a clip, if any; never two at once."""
    running, truth = session(model), batch.tracks[clip].masks.numpy()  # [N, T, H, W]
    owners: list[set[int]] = [set() for _ in truth]
    for t, frame in enumerate(batch.frames[clip].permute(0, 2, 3, 1).numpy()):
        result = running.step(frame)
        for true, ids in zip(truth[:, t], owners, strict=True):
            shared = (result.masks & true).sum((1, 2)) / np.maximum((result.masks | true).sum((1, 2)), 1)
            shows = result.ids[shared > 0.6].tolist()
            assert len(shows) <= 1
            ids.update(shows)
    return [ids for ids in owners if ids]
