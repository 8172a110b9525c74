"""SeqFormer against the reference numbers, stage by stage, from converted weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import golden_cases
from models import published
from models.published import assert_close, assert_stage
from ookd.models.seqformer.model import SeqFormer
from ookd.structures import ClipQueries

CASES = golden_cases("seqformer_forward*.safetensors")


class Run:
    """One recorded forward pass of a clip and the numbers it should give."""

    def __init__(self, case: Path) -> None:
        self.expected = load_file(case)
        self.model: SeqFormer = published.seqformer(case.parent)
        frames, pad = published.prepare(self.expected["frames_raw"])
        self.clip, self.pad = frames[None], pad[None]
        pixels, decoder = self.model.pixels, self.model.decoder
        stages = {
            "input_proj": list(pixels.projections),
            "memory": [pixels],
            "decoder": [decoder],
            "cross_out": [layer.attention.output for layer in decoder.layers],
            "cross_out_box": [layer.box_output for layer in decoder.layers],
            "time_logits": [layer.time for layer in decoder.layers],
        }
        self.seen = published.record(stages)
        with torch.no_grad():
            self.layers: list[ClipQueries] = self.model.layers(self.clip, self.pad)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.stem)
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)


def test_frames(run: Run) -> None:
    for level, actual in enumerate(run.seen["input_proj"]):
        assert_stage(actual, run.expected[f"input_proj.{level}"])
    memory = run.seen["memory"][0]
    assert_stage(memory.tokens[None], run.expected["transformer.memory"])
    assert_stage(memory.levels.valid[:1], run.expected["transformer.valid_ratios"])


def test_decoder_stages(run: Run) -> None:
    for layer in range(len(run.layers)):
        for stage in ("cross_out", "cross_out_box", "time_logits"):
            expected = run.expected[f"decoder.layer{layer}.{stage}"]
            actual = run.seen[stage][layer].view(1, 4, -1, expected.shape[-1])
            assert_stage(actual[:, :, : expected.shape[2]], expected)


def test_decoder(run: Run) -> None:
    decoded = run.seen["decoder"][0]
    assert_stage(torch.stack([layer.features for layer in decoded]), run.expected["transformer.hs"])
    assert_stage(torch.stack([layer.frame_features for layer in decoded]), run.expected["transformer.hs_box"])
    assert_stage(decoded[0].reference, run.expected["transformer.init_reference"])
    boxes = torch.stack([layer.boxes for layer in decoded])
    assert_stage(boxes, run.expected["transformer.inter_references"])


def test_answers(run: Run) -> None:
    last = run.layers[-1]
    assert_close(last.logits, run.expected["pred_logits"])
    assert last.boxes is not None
    assert_close(last.boxes, run.expected["pred_boxes"])


def test_masks(run: Run) -> None:
    last, expected = run.layers[-1], run.expected["pred_masks"]
    maps = run.expected["mask_features_last_layer"][:, 0]
    parameters = run.expected["controller_params_last"]
    with torch.no_grad():
        assert_close(run.model.mask_head.maps(run.seen["memory"][0].maps()), maps)
        controller = run.model.mask_head.controller
        assert_close(controller(last.features[:, : parameters.shape[1]]), parameters)
        every = torch.arange(expected.shape[1])[None]
        assert_close(last.masks(every), expected, 2e-4)
        assert last.masks(every[:, :0]).shape == (1, 0, *expected.shape[2:])


def test_forward_is_the_last_layer(run: Run) -> None:
    with torch.no_grad():
        answer = run.model(run.clip, run.pad)
    assert_close(answer.logits, run.layers[-1].logits, 0)


def test_clips_of_a_batch_do_not_see_each_other(run: Run) -> None:
    clips = torch.stack([run.clip[0, :2], run.clip[0, 2:]])
    pads = torch.stack([run.pad[0, :2], run.pad[0, 2:]])
    with torch.no_grad():
        both = run.model(clips, pads)
        second = run.model(clips[1:], pads[1:])
        select = torch.tensor([[4, 9], [4, 9]])
        assert_close(both.masks(select)[1:], second.masks(select[1:]), 2e-4)
    assert_close(both.logits[1:], second.logits)
