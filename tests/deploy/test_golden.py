"""Every runtime gives the reference numbers of the released IDOL, from converted weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import golden_cases
from deploy.exported import RUNNERS, open_graphs
from models import published
from models.published import assert_close
from ookd.deploy.convert import write_graphs
from ookd.deploy.folder import Kind
from ookd.deploy.graph import OnnxGraphs, trace

CASES = golden_cases("idol_forward*.safetensors")
SIZE = (96, 128)  # of the padded frames


@cache
def graphs(golden: Path) -> OnnxGraphs:
    return trace(published.idol(golden), SIZE)


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_frame(case: Path, kind: Kind, tmp_path: Path) -> None:
    expected, traced = load_file(case), graphs(case.parent)
    write_graphs(traced, tmp_path, kind, "fp32", [])
    runner = open_graphs(tmp_path, kind)
    for index, raw in enumerate(expected["frames_raw"]):
        height, width = raw.shape[-2:]
        frame = np.zeros((1, *SIZE, 3), np.uint8)
        frame[0, :height, :width] = raw.permute(1, 2, 0).numpy()
        outputs = runner.start({"frames": frame, "size": np.array([height, width])})()
        for ours, theirs in {"logits": "logits", "boxes": "boxes", "embed": "inst_embed"}.items():
            assert_close(torch.from_numpy(outputs[ours][0]), expected[f"pred_{theirs}"][index])
        every = np.arange(outputs["logits"].shape[1])[None]
        masks = runner.masks({**{name: outputs[name] for name in traced.shared}, "select": every})
        # runtimes sum in other orders, and pixels from the query, up to 160, multiply what that changes
        assert_close(torch.from_numpy(masks[0]), expected["pred_masks"][index, :, 0], 2e-3)
