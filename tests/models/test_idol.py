"""IDOL against the reference numbers, stage by stage, from converted weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import golden_cases
from models import published
from models.published import assert_close, assert_stage
from ookd.models.idol.model import Idol
from ookd.models.parts.pixel_encoder import resize_pad
from ookd.models.parts.position import sine_code
from ookd.structures import FrameQueries

CASES = golden_cases("idol_forward*.safetensors")


class Run:
    """One recorded forward pass and the numbers it should give."""

    def __init__(self, case: Path) -> None:
        self.expected = load_file(case)
        self.model: Idol = published.idol(case.parent)
        self.frames, self.pad = published.prepare(self.expected["frames_raw"])
        pixels, decoder = self.model.pixels, self.model.decoder
        stages = {
            "backbone": list(pixels.backbone.stages.values()),
            "input_proj": list(pixels.projections),
            "encoder": list(pixels.layers),
            "decoder": [decoder],
            "memory": [pixels],
        }
        self.seen = published.record(stages)
        with torch.no_grad():
            self.layers: list[FrameQueries] = self.model.layers(self.frames, self.pad)
            self.maps = self.model.mask_head.maps(self.seen["memory"][0].maps())


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.stem)
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)


def test_input(run: Run) -> None:
    raw = run.expected["frames_raw"]
    inside = run.frames[..., : raw.shape[-2], : raw.shape[-1]]
    assert_close(inside, run.expected["frames_normalized"])
    assert not run.frames[run.pad.unsqueeze(1).expand_as(run.frames)].any()


def test_backbone_and_projections(run: Run) -> None:
    for stage, actual in zip(("res2", "res3", "res4", "res5"), run.seen["backbone"], strict=True):
        assert_stage(actual, run.expected[f"backbone.{stage}"])
    for level, actual in enumerate(run.seen["input_proj"]):
        assert_stage(actual, run.expected[f"input_proj.{level}"])


def test_position_codes(run: Run) -> None:
    shapes = [tuple(x.shape[-2:]) for x in run.seen["input_proj"]]
    finest = resize_pad(run.pad, tuple(run.expected["pos.0"].shape[-2:]))
    for i, pad in enumerate([finest, *run.model.pixels.level_pads(run.pad, shapes)]):
        assert_close(sine_code(pad, 256), run.expected[f"pos.{i}"])


def test_encoder(run: Run) -> None:
    for layer, actual in enumerate(run.seen["encoder"]):
        assert_stage(actual, run.expected[f"encoder.layer{layer}"])
    assert_stage(run.seen["memory"][0].tokens, run.expected["transformer.memory"])


def test_decoder(run: Run) -> None:
    decoded = run.seen["decoder"][0]
    assert_stage(torch.stack([layer.features for layer in decoded]), run.expected["transformer.hs"])
    assert_stage(decoded[0].reference, run.expected["transformer.init_reference"])
    boxes = torch.stack([layer.boxes for layer in decoded])
    assert_stage(boxes, run.expected["transformer.inter_references"])
    assert_stage(decoded[-1].reference[..., :2], run.expected["reference_points"])


def test_answers(run: Run) -> None:
    last = run.layers[-1]
    assert_close(last.logits, run.expected["pred_logits"])
    assert last.boxes is not None
    assert_close(last.boxes, run.expected["pred_boxes"])
    assert_close(last.embed, run.expected["pred_inst_embed"])


def test_masks(run: Run) -> None:
    last = run.layers[-1]
    assert_close(run.maps, run.expected["mask_features"])
    with torch.no_grad():
        assert_close(run.model.mask_head.controller(last.features), run.expected["controller_params"])
        every = torch.arange(last.logits.shape[1]).expand(len(last.logits), -1)
        assert_close(last.masks(every), run.expected["pred_masks"][:, :, 0], 2e-4)


def test_masks_only_of_the_selected(run: Run) -> None:
    select = torch.tensor([[7, 3], [7, 7], [0, 119]])
    with torch.no_grad():
        masks = run.layers[-1].masks(select)
        none = run.layers[-1].masks(select[:, :0])
    expected = run.expected["pred_masks"][:, :, 0]
    assert_close(masks, torch.stack([expected[b, rows] for b, rows in enumerate(select)]), 2e-4)
    assert none.shape == (3, 0, *masks.shape[-2:])


def test_forward_is_the_last_layer(run: Run) -> None:
    with torch.no_grad():
        answer, state = run.model(run.frames, run.pad)
    assert state is None
    assert_close(answer.logits, run.layers[-1].logits, 0)


def test_a_frame_does_not_depend_on_its_neighbours_in_the_batch(run: Run) -> None:
    with torch.no_grad():
        alone, _ = run.model(run.frames[1:2], run.pad[1:2])
    assert_close(alone.logits, run.layers[-1].logits[1:2])


def test_gradients_reach_all_but_frozen_stages_and_the_heads_of_other_layers(run: Run) -> None:
    answer = run.model.layers(run.frames, run.pad)[-1]
    assert answer.boxes is not None
    masks = answer.masks(torch.zeros(len(run.frames), 1, dtype=torch.long))
    (answer.logits.sum() + answer.boxes.sum() + answer.embed.sum() + masks.sum()).backward()
    untouched = {name for name, p in run.model.named_parameters() if p.grad is None}
    heads = [f"{kind}.{layer}." for kind in ("class_heads", "decoder.box_heads") for layer in (0, 1)]
    expected = ("pixels.backbone.stem.", "pixels.backbone.stages.res2.", *heads)
    assert untouched == {name for name, _ in run.model.named_parameters() if name.startswith(expected)}
