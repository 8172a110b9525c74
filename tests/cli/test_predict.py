"""`ookd predict`: whole runs, runs that are stopped, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cli.data_and_model import FRAMES, VIDEOS, write_clip_model, write_data, write_model
from ookd import evaluate, load
from ookd.cli import main
from ookd.config.tracker import TrackerConfig
from ookd.data import frames as room


@pytest.fixture(scope="module", params=[write_model, write_clip_model], ids=["online", "offline"])
def given(request, tmp_path_factory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("given")
    return str(write_data(folder)), str(request.param(folder / "model"))


def run(given: tuple[str, str], out: Path, *more: str) -> int:
    data, model = given
    options = ["--frames", str(Path(data).parent / "frames"), "--device", "cpu", *more]
    return main(["predict", data, "--model", model, "--out", str(out), *options])


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory) -> Path:
    """The results of a run that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(given, out) == 0
    return out


def test_results_fit_the_data(given, whole: Path) -> None:
    entries = json.loads((whole / "results.json").read_text())
    assert {entry["video_id"] for entry in entries} == set(range(1, VIDEOS + 1))
    assert all(len(entry["segmentations"]) == FRAMES for entry in entries)
    assert evaluate(given[0], whole / "results.json").predictions == len(entries)
    assert sorted(path.name for path in whole.iterdir()) == ["results.json", "run.json"]


@pytest.mark.parametrize("stop", [0, 1, FRAMES, 2 * FRAMES + 3, VIDEOS * FRAMES - 1])
def test_a_stopped_run_goes_on_to_the_same_results(given, whole, tmp_path, monkeypatch, capsys, stop) -> None:
    out = tmp_path / "out"
    seen = iter(range(stop))

    def reader(*arguments):
        if next(seen, None) is None:
            raise KeyboardInterrupt
        return read(*arguments)

    read = room.read_frame
    with monkeypatch.context() as patch:
        patch.setattr(room, "read_frame", reader)
        assert run(given, out) == 130
    assert not (out / "results.json").exists()
    capsys.readouterr()
    assert run(given, out, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["videos"] == VIDEOS
    assert summary["predicted"] == VIDEOS - stop // FRAMES
    assert (out / "results.json").read_bytes() == (whole / "results.json").read_bytes()


def test_killed_when_the_list_was_whole_it_is_done(given, whole, tmp_path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "videos").mkdir()
    (out / "videos" / f"{VIDEOS}.jsonl").write_text("the last part that was not removed yet")
    assert run(given, out) == 0
    assert (out / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert not (out / "videos").exists()


@pytest.mark.parametrize("left", ["run.json.part", None])
def test_killed_at_its_very_beginning(left, given, whole, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    if left:
        (tmp_path / "out" / left).write_text("{")
    assert run(given, tmp_path / "out") == 0
    assert (tmp_path / "out" / "results.json").read_bytes() == (whole / "results.json").read_bytes()


OTHER = b'{"video_id": 2, "category_id": 1, "score": 1, "segmentations": []}\n'


@pytest.mark.parametrize("damage", [b"\xdf", b"{}\n", OTHER])
def test_damaged_results_of_a_video_are_named(damage, given, whole, tmp_path, capsys) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "results.json").unlink()
    (out / "videos").mkdir()
    (out / "videos" / "1.jsonl").write_bytes(damage)
    assert run(given, out) == 2
    assert "1.jsonl: is damaged; delete it and run again" in capsys.readouterr().err
    assert not (out / "results.json").exists()


def test_finished_results_are_not_replaced_unless_asked(given, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert run(given, out) == 0
    before = (out / "results.json").read_bytes()
    assert run(given, out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(given, out, "--overwrite") == 0
    assert (out / "results.json").read_bytes() == before


def test_another_model_does_not_go_on_with_the_results_of_the_first(given, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert run(given, out) == 0
    (out / "results.json").unlink()
    folder = shutil.copytree(given[1], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "tracker": {**config["tracker"], "final_score": 0.3}})
    )
    assert run((given[0], str(folder)), out) == 2
    assert "started with another tracker" in capsys.readouterr().err


def test_overwriting_goes_on_with_what_the_same_run_began(given, whole, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "results.json").unlink()
    (out / "videos").mkdir()
    (out / "videos" / "1.jsonl").write_bytes(OTHER.replace(b'"video_id": 2', b'"video_id": 1'))
    assert run(given, out, "--overwrite") == 0
    assert (
        (out / "results.json")
        .read_text()
        .startswith("[" + OTHER.decode().replace('2, "cat', '1, "cat').strip())
    )


def test_a_folder_of_something_else_is_left_alone(given, tmp_path, capsys) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    for more in ((), ("--overwrite",)):
        assert run(given, tmp_path, *more) == 2
        assert "holds something other than results" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "chapter 1"


@pytest.mark.parametrize("missing", ["data", "model"])
def test_what_is_missing_is_named(given, tmp_path, capsys, missing: str) -> None:
    data, model = given
    where = str(tmp_path / "nowhere")
    given = (where, model) if missing == "data" else (data, where)
    assert run(given, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--offline"], ["--delay", "2"]])
def test_identities_may_be_decided_later(given, whole, tmp_path, capsys, options) -> None:
    """An online model finds the same masks; only who is who may differ. Offline models decide late anyway."""
    out = tmp_path / "out"
    if not isinstance(load(given[1]).config, TrackerConfig):
        assert run(given, out, *options) == 2
        assert "--delay and --offline are for online models" in capsys.readouterr().err
        assert not out.exists()
        return
    assert run(given, out, *options) == 0
    assert json.loads((out / "results.json").read_text())
    assert run(given, out) == 2  # results of another kind of run
    assert run(given, tmp_path / "both", "--delay", "2", "--offline") == 2
    assert "choose one" in capsys.readouterr().err
