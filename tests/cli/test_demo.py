"""`ookd demo`: everything it promises is there, and scored against exact truth."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
import torch

from ookd.cli import main
from ookd.models import zoo
from ookd.models.families import preset
from ookd.worlds import World

SMALL = {"width": 32, "mask_width": 8, "embed": 16, "heads": 4, "hidden": 32, "queries": 6, "layers": 1}


def test_demo_writes_what_it_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    names = list(World("ytvis-like").names)
    model = zoo.build(preset("nano", classes=len(names), **SMALL))
    zoo.save_pretrained(model, tmp_path / "model", names, {"similarity": "cosine", "short_side": 96})
    arguments = [
        "demo",
        "--model",
        str(tmp_path / "model"),
        "--scene",
        "ytvis-like",
        "--out",
        str(tmp_path / "demo"),
    ]
    assert main([*arguments, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    world = World("ytvis-like", split="test", seed=2026, videos=1)
    assert summary["frames"] == world.video_length(0)
    assert summary["objects"] == len(world.dataset().videos[0].tracks)
    assert 0 <= summary["ap"] <= 1
    for name in ("tracked.mp4", "scene.mp4"):
        with av.open(tmp_path / "demo" / name) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert len(frames) == summary["frames"]
        assert frames[0].shape == (320, 576, 3)
    assert isinstance(json.loads((tmp_path / "demo" / "results.json").read_text()), list)
    assert (tmp_path / "demo" / "contact-sheet.png").stat().st_size > 10_000
    assert main(arguments) == 2
