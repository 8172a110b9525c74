"""The page of a run: everything on it, nothing from elsewhere, made from the run's files alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from engine.tiny import recipe
from ookd.cli.train import app
from ookd.engine.page import write_run_page
from ookd.errors import UserError

STEP = {"lr": 1e-3, "grad_norm": 4.0, "frames_per_s": 50.0, "memory_mb": 700.0, "time_model": 0.9}
LOSS = {"class": 1.5, "class_0": 8.0, "total": 3.25}


def run_folder(folder: Path, *more: dict[str, Any]) -> Path:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe().model_dump() | {"name": "a<b"}))
    (folder / "environment.json").write_text('{"ookd": "1.2", "revision": "abcdef1234567", "changed": true}')
    lines = [{"step": 1, "loss": LOSS, **STEP}, {"step": 2, "loss": LOSS, **STEP}, *more]
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "lo'
    )
    return folder


def page(folder: Path) -> str:
    return write_run_page(folder).read_text()


def headings(text: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", text)


def charts(text: str) -> list[str]:
    return re.findall(r'class="chart"><figcaption><b>(.*?)</b>', text)


def test_a_run_without_validation_and_teacher(tmp_path: Path) -> None:
    text = page(run_folder(tmp_path))
    assert headings(text) == ["Losses", "Training"]
    assert charts(text)[:2] == ["total", "class"]  # not the copies for each decoder layer
    assert "class_0" not in charts(text)
    assert "<h1>a&lt;b</h1>" in text
    assert "revision abcdef1234 with changes" in text
    assert "<b>2</b><span>of 6 steps</span>" in text
    assert "validate_every: 2" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)|<script|@import|https?:", text)
    assert list(tmp_path.glob("*.part")) == []


def test_validation_is_followed_and_the_last_one_explained(tmp_path: Path) -> None:
    def validated(step: int, ap: float) -> dict[str, Any]:
        scores = {"AP": ap, "AP50": 0.8, "AP75": 0.4, "HOTA": 0.5, "switches": 7, "AP_minor": 0.1}
        return {"step": step, "val": scores}

    folder = run_folder(tmp_path, validated(1, 0.345), validated(2, 0.312))
    row = {"name": "cat", "frequency": "minor", "tracks": 4, "predictions": 9, "ap": 0.123, "ap50": 0.2}
    report = {
        "step": 2,
        "strata": {"frequency": {"minor": 0.123, "middle": -1.0}},
        "errors": {"identity": {"ap": 0.071, "ap50": 0.1, "count": 5}},
        "per_class": {"cat": row, "dog": row | {"name": "dog", "tracks": 0, "predictions": 0}},
        "samples": [{"caption": "video 1", "jpeg": "AAAA"}],
    }
    (folder / "validation.json").write_text(json.dumps(report))
    text = page(folder)
    assert headings(text) == [
        "Validation",
        "Losses",
        "Training",
        "Samples at step 2",
        "What fixing one kind of error would add",
        "AP by kind of track",
        "Classes",
    ]
    assert "<b>31.2</b><span>AP</span>" in text
    assert "<b>34.5</b><span>best AP, step 1</span>" in text
    assert "<b>7</b><span>identity switches</span>" in text
    assert "7.1 (5)" in text
    assert "frequency: minor" in text
    assert "frequency: middle" not in text
    assert "data:image/jpeg;base64,AAAA" in text
    assert "<td>cat</td>" in text
    assert "<td>dog</td>" not in text


def test_what_is_logged_about_a_teacher_has_a_section(tmp_path: Path) -> None:
    told = {"kd_relation": 2.0, "kd_mask": 0.5, "kept_share": 0.1, "exact_cat": 0.75, "share_kd_mask": 0.2}
    lines = [{"step": step, "loss": LOSS | told | {"agree_class": 0.5}, **STEP} for step in (2, 3)]
    text = page(run_folder(tmp_path, *lines))
    assert headings(text) == ["Losses", "Teacher", "Training"]
    teacher = text[text.index("<h2>Teacher") : text.index("<h2>Training")]
    losses = text[text.index("<h2>Losses") : text.index("<h2>Teacher")]
    assert len(charts(teacher)) == 5
    assert charts(losses) == ["total", "class"]
    assert re.findall(r">(relation|mask) ([\d.]+)<", teacher) == [("relation", "2"), ("mask", "0.5")]


def test_from_the_command_line(tmp_path: Path) -> None:
    run_folder(tmp_path)
    answer = CliRunner().invoke(app, ["--page", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    assert answer.output.strip() == str(tmp_path / "run.html")
    with pytest.raises(UserError, match=r"not a run folder; it has no recipe\.yaml"):
        write_run_page(tmp_path / "elsewhere")
