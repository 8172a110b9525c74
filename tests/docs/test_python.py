"""The Python of README, quickstart and notebook runs as it stands, and gives what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.pages import ROOT, blocks
from ookd.cli import main
from ookd.data.formats import save_ytvis
from ookd.data.video import VideoWriter
from ookd.worlds import World

NOTEBOOKS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the pages speak of, with three frames of video."""
    monkeypatch.chdir(tmp_path)
    world = World("ytvis-like", split="test", videos=1, frames=3, height=64, width=96)
    (tmp_path / "demo").mkdir()
    with VideoWriter(tmp_path / "demo" / "scene.mp4", 12) as video:
        for image in world.clip(0, [0, 1, 2]).images:
            video.write(image)
    shutil.copy("demo/scene.mp4", "street.mp4")
    save_ytvis(world.dataset(), Path("gt.json"))
    Path("results.json").write_text("[]")
    return tmp_path


def python_of(page: str) -> str:
    return "\n".join(block.text for block in blocks(ROOT / page) if block.language == "python")


def test_quickstart(folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(python_of("docs/quickstart.md"), names)
    assert names["result"].masks.shape[1:] == (64, 96)


def test_quickstart_has_types(tmp_path: Path) -> None:
    """As a program with `mypy --strict` would use it."""
    (tmp_path / "quickstart.py").write_text(python_of("docs/quickstart.md"))
    (tmp_path / "mypy.ini").write_text("[mypy]\nfollow_imports = silent\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "mypy.ini", "quickstart.py"]
    where = {"MYPYPATH": str(ROOT / "src"), "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache" / "quickstart")}
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = World("ytvis-like", split="test", videos=1, height=64, width=96).clip(0, [0]).images[0]
    names: dict[str, Any] = {"image": image}
    exec(python_of("README.md").replace('"videomt-s"', '"nano"'), names)  # the hub may be out of reach
    assert capsys.readouterr().out.endswith("\n0.0 0.0\n")  # AP and HOTA of an empty list


def executed(notebook: str) -> dict[str, Any]:
    """What a notebook's cells leave, run as a script."""
    names: dict[str, Any] = {"run": lambda line: main(shlex.split(line)[1:])}
    for cell in NOTEBOOKS[notebook]["cells"]:
        if cell["cell_type"] == "code" and "install" not in cell["metadata"].get("tags", ()):
            lines = "".join(cell["source"]).splitlines()
            exec(
                "\n".join(f"assert run({line[1:]!r}) == 0" if line[0:1] == "!" else line for line in lines),
                names,
            )
    return names


def test_quickstart_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score that it counts itself is the demo's."""
    monkeypatch.chdir(tmp_path)
    names = executed("quickstart")
    demo = json.loads(Path("demo/demo.json").read_text())
    assert names["report"].ap == pytest.approx(demo["ap"])
    assert names["report"].tracking.switches == demo["identity_switches"]


def test_notebook_of_own_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score that it counts itself is that of the run's own validation."""
    monkeypatch.chdir(tmp_path)
    names = executed("own-classes")
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert names["report"].ap == lines[-1]["val"]["AP"]


def test_notebook_of_live_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = executed("live-streams")
    assert len(names["results"]) == len(names["waited"]) == 12
    assert len(names["sure"]) == len(names["detections"])
    assert any(names["resumed"])


@pytest.mark.parametrize("notebook", NOTEBOOKS)
@pytest.mark.parametrize("beside", [True, False])
def test_a_notebook_installs_the_checkout_around_it(
    notebook: str, beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = NOTEBOOKS[notebook]["cells"]
    (cell,) = (cell for cell in cells if "install" in cell["metadata"].get("tags", ()))
    code = re.sub(r"%pip (.+)", r"pip(f'\1')", "".join(cell["source"]))
    asked: list[str] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    checkout = tmp_path / "a clone"
    (checkout / "src" / "ookd").mkdir(parents=True)
    for place in (tmp_path, checkout / "notebooks") if beside else (tmp_path / "elsewhere" / "far",):
        place.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(place)
        if beside:
            exec(code, {"pip": asked.append})
        else:
            with pytest.raises(SystemExit, match="clone or upload its repository"):
                exec(code, {"pip": asked.append})
    assert asked == [f'install --quiet "{checkout}"'] * 2 * beside


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_holds_no_output(notebook: str) -> None:
    code = [cell for cell in NOTEBOOKS[notebook]["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
