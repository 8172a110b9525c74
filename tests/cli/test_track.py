"""`ookd track` from end to end, with a model that finds squares of known colours."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from cli.data_and_model import write_clip_model
from ookd import api
from ookd.cli import main, progress
from ookd.cli.window import Window
from ookd.config.tracker import TrackerConfig
from ookd.data.video import VideoWriter, open_source
from ookd.deploy import loading
from ookd.locking import locked
from ookd.models import zoo
from tracking.colour_model import NAMES, ColourModel, scene

FRAMES = 40


def colour_tracker(*_: object) -> api.Tracker:
    return api.Tracker(ColourModel(), NAMES, TrackerConfig(), torch.device("cpu"))


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "load", colour_tracker)
    monkeypatch.setattr(progress, "LINE_SECONDS", float("inf"))  # however slow the machine


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "squares.mp4"
    with VideoWriter(path, fps=20) as writer:
        for frame in range(FRAMES):
            writer.write(scene(frame))
    return path


def frames_in(out: Path) -> list[dict]:
    return json.loads((out / "frames.json").read_text())["frames"]


def test_results_have_a_folder_of_their_own_if_none_is_named(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("squares", "squares-2", "squares-3"):
        assert main(["track", str(video), "--save", "json"]) == 0
        assert (tmp_path / "tracked" / folder / "frames.json").is_file()


def test_a_delay_changes_no_picture_and_no_number_of_frames(video: Path, tmp_path: Path) -> None:
    for delay in ("0", "7", "1000"):
        command = ["track", str(video), "--out", str(tmp_path / delay), "--save", "json", "--delay", delay]
        assert main(command) == 0
    at_once, later, last = (frames_in(tmp_path / delay) for delay in ("0", "7", "1000"))
    assert at_once == later == last  # nothing is unclear in these scenes


def test_all_outputs_at_once(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["track", str(video), "--out", str(out), "--save", "mp4,json,rle,png,csv,mot"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith(f"squares.mp4: {FRAMES} frames (")
    assert "apple" in shown.out
    names = ["annotated.mp4", "boxes.csv", "frames.json", "masks", "mot.txt", "tracks.json"]
    assert sorted(os.listdir(out)) == names
    frames = frames_in(out)
    assert [frame["frame"] for frame in frames] == list(range(FRAMES))
    with open_source(out / "annotated.mp4") as source:
        assert sum(1 for _ in source) == FRAMES
    # all outputs tell the same story
    seen = {(frame["frame"], thing["id"]) for frame in frames for thing in frame["objects"]}
    assert len(seen) > FRAMES
    tracks = json.loads((out / "tracks.json").read_text())
    assert seen == {
        (index, track["track_id"])
        for track in tracks
        for index, mask in enumerate(track["segmentations"])
        if mask is not None
    }
    boxes = [line.split(",") for line in (out / "boxes.csv").read_text().splitlines()[1:]]
    assert seen == {(int(line[0]), int(line[2])) for line in boxes}
    mot = [line.split(",") for line in (out / "mot.txt").read_text().splitlines()]
    assert seen == {(int(line[0]) - 1, int(line[1]) - 1) for line in mot}
    for frame in (0, 17, 39):
        picture = cv2.imread(str(out / "masks" / f"{frame:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(picture)) - {0} == {id + 1 for index, id in seen if index == frame}


def test_part_of_a_video(video: Path, tmp_path: Path) -> None:
    span = ["--start", "1s", "--end", "35", "--every", "5"]
    assert main(["track", str(video), "--out", str(tmp_path), "--save", "json,mp4", *span]) == 0
    assert [frame["frame"] for frame in frames_in(tmp_path)] == [20, 25, 30]
    with open_source(tmp_path / "annotated.mp4") as source:
        assert [frame.seconds for frame in source.frames()] == pytest.approx([0, 0.25, 0.5], abs=1e-3)


def test_classes_and_score(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--out", str(tmp_path / "a"), "--save", "json"]
    assert main(["track", str(video), *options, "--classes", "leaf, plum"]) == 0
    names = {thing["class"] for frame in frames_in(tmp_path / "a") for thing in frame["objects"]}
    assert names == {"leaf", "plum"}
    assert main(["track", str(video), "--out", str(tmp_path / "b"), "--save", "json", "--score", "1"]) == 0
    assert not any(frame["objects"] for frame in frames_in(tmp_path / "b"))
    assert "no objects" in capsys.readouterr().out
    assert main(["track", str(video), "--out", str(tmp_path / "c"), "--classes", "pear"]) == 2
    assert "no class pear" in capsys.readouterr().err


def test_a_model_of_drawn_worlds_says_so(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ["track", str(video), "--save", "json", "--out"]
    assert main([*plain, str(tmp_path / "a")]) == 0
    capsys.readouterr()
    drawn = replace(colour_tracker(), trained_on=zoo.DRAWN)
    monkeypatch.setattr(api, "load", lambda *_: drawn)
    monkeypatch.setattr("ookd.cli.track.DRAWN_SCORE", 1.0)
    assert main([*plain, str(tmp_path / "b")]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert all(
        words in shown.err for words in ("drawn worlds", "ookd train nano --data", "--model videomt-s")
    )
    assert re.search(r"no objects \(and \d+ below 1.0\)", shown.out)
    assert frames_in(tmp_path / "b") == frames_in(tmp_path / "a")
    assert main([*plain, str(tmp_path / "c"), "--score", "0"]) == 0
    assert "below" not in capsys.readouterr().out


def test_summary_as_json(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", str(video), "--out", str(tmp_path), "--save", "csv", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["frames"] == FRAMES
    assert summary["files"] == [str(tmp_path / "boxes.csv")]
    assert summary["warnings"] == []
    assert summary["interrupted"] is False
    ids = {tuple(line.split(",")[2:4]) for line in (tmp_path / "boxes.csv").read_text().splitlines()[1:]}
    assert sum(summary["objects"].values()) == len({id for id, _ in ids})


def test_a_folder_that_holds_something(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    command = ["track", str(video), "--out", str(tmp_path), "--save", "csv"]
    assert main(command) == 2
    assert (
        capsys.readouterr().err
        == f"error: {tmp_path}: is not empty; name another folder or add --overwrite\n"
    )
    assert os.listdir(tmp_path) == ["notes.txt"]
    assert main([*command, "--overwrite"]) == 0
    assert sorted(os.listdir(tmp_path)) == ["boxes.csv", "notes.txt"]
    assert main(["track", str(video), "--out", str(tmp_path / "notes.txt")]) == 2
    assert "notes.txt: cannot be the output folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.mp4"], "none.mp4: no such file"),
        (["text.mp4"], "text.mp4: is not a video"),
        (["zero.mp4"], "zero.mp4: is empty (0 bytes)"),
        (["63"], "camera 63: cannot be opened"),
        (["http://127.0.0.1:9/a"], "refused"),
        (["squares.mp4", "--save", "mp4,gif"], "'gif' cannot be written; choose from mp4, json"),
        (["squares.mp4", "--save", ""], "nothing cannot be written"),
        (["squares.mp4", "--start", "soon"], "'soon' is not a place in a video"),
        (["99999"], "99999: no such file"),
        (["squares.mp4", "--show"], "--show: there is no display"),
        (["squares.mp4", "--start", "99"], "no frames between start and end"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "zero.mp4").write_bytes(b"")
    (tmp_path / "squares.mp4").symlink_to(video)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert main(["track", *arguments, "--out", "out"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert not (tmp_path / "out").exists() or os.listdir(tmp_path / "out") == []


@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="needs a display")
def test_a_window_that_is_closed_ends_with_whole_files(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, ...]] = []

    def look(window: Window, picture: np.ndarray) -> None:
        show(window, picture)
        shown.append(picture.shape)
        if len(shown) == 5:
            window._root.focus_force()
            window._root.update()
            window._root.event_generate("<Escape>", when="now")

    show = Window.show
    monkeypatch.setattr(Window, "show", look)
    assert main(["track", str(video), "--out", str(tmp_path), "--show"]) == 0
    assert shown == [(96, 128, 3)] * 5
    assert len(frames_in(tmp_path)) == 5


def test_a_model_of_clips_is_sent_to_predict(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "load", loading.load)
    model = write_clip_model(tmp_path / "model")
    assert main(["track", str(video), "--model", str(model), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "sees whole clips" in error
    assert "ookd predict DATA" in error
    assert not (tmp_path / "out").exists()


def test_a_damaged_video_is_tracked_up_to_the_damage(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = video.with_suffix(".mkv")
    remux(video, whole)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    assert main(["track", str(cut), "--out", str(tmp_path / "out"), "--json"]) == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert 5 < summary["frames"] < FRAMES
    assert len(frames_in(tmp_path / "out")) == summary["frames"]
    (warning,) = summary["warnings"]
    assert f"cut.mkv: cut off at frame {summary['frames']}" in warning
    assert shown.err == f"warning: {warning}\n"


def remux(source: Path, target: Path) -> None:
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for packet in reading.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writing.mux(packet)


def test_a_full_disk(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        assert main(["track", str(video), "--out", str(disk / "out"), "--save", "json,png,mp4"]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.count("\n") == 1
        assert "cannot be written: No space left on device" in shown.err
        assert not (disk / "out" / "annotated.mp4").exists()
        if (disk / "out" / "frames.json").exists():
            assert frames_in(disk / "out")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


# --- stopped from outside ----------------------------------------------------------------------------------

RUN = """
import sys; sys.path.insert(0, sys.argv[1])
from cli.test_track import colour_tracker
from ookd.cli import main
from ookd import api
from ookd.deploy import loading
from ookd.locking import locked
api.load = colour_tracker
sys.exit(main(sys.argv[2:]))
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", RUN, tests, "track", *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "long.mp4"
    with VideoWriter(path, fps=20) as writer:
        for frame in range(3000):
            writer.write(scene(frame))
    return path


def wait_until_written(file: Path, size: int, running: subprocess.Popen[str]) -> None:
    while not (file.exists() and file.stat().st_size > size):
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_whole_outputs(long_video: Path, tmp_path: Path, stop: signal.Signals) -> None:
    out = tmp_path / "out"
    options = ["--save", "mp4,json,rle,csv,mot,png", "--json", "--hide-progress"]
    with start(str(long_video), "--out", str(out), *options) as running:
        wait_until_written(out / "frames.json.part", 8_000, running)
        running.send_signal(stop)
        summary, errors = running.communicate(timeout=300)
    assert running.returncode == 130
    assert errors == ""
    frames = frames_in(out)
    assert 15 < len(frames) < 3000
    assert json.loads(summary)["frames"] <= len(frames) <= json.loads(summary)["frames"] + 1
    assert json.loads(summary)["interrupted"] is True
    assert not list(out.glob("*.part"))
    assert [frame["frame"] for frame in frames] == list(range(len(frames)))
    with open_source(out / "annotated.mp4") as source:
        assert sum(1 for _ in source) == len(frames)
    assert {len(t["segmentations"]) for t in json.loads((out / "tracks.json").read_text())} == {len(frames)}
    assert len(list((out / "masks").iterdir())) == len(frames)


def test_kill_leaves_only_parts_and_the_next_run_says_so(
    long_video: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with start(str(long_video), "--out", str(out), "--save", "mp4,json") as running:
        wait_until_written(out / "annotated.mp4.part", 8_000, running)
        running.kill()
    assert sorted(os.listdir(out)) == ["annotated.mp4.part", "frames.json.part"]
    for line in (out / "frames.json.part").read_text().splitlines()[1:-1]:
        assert "objects" in json.loads(line.removesuffix(","))
    with open_source(out / "annotated.mp4.part") as source:
        assert sum(1 for _ in source) >= 20
    capsys.readouterr()
    (out / "thesis.part").write_text("of another program")
    command = ["track", str(video), "--out", str(out), "--save", "mp4,json"]
    assert main(command) == 2
    assert "holds the leftovers of a killed run (annotated.mp4.part)" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert [line.endswith("left by a killed run; removed") for line in warnings] == [True, True]
    assert sorted(os.listdir(out)) == ["annotated.mp4", "frames.json", "thesis.part"]


@pytest.mark.parametrize("begun", ["in front", "in the background of a script"])
def test_a_silent_pipe_can_be_left(begun: str, tmp_path: Path) -> None:
    def ignore() -> None:
        if begun != "in front":
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # as shells do for their background jobs

    words = [sys.executable, "-m", "ookd", "track", "-", "--out", str(tmp_path / "out")]
    running = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=ignore)
    try:
        time.sleep(6)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 130
        assert running.stderr is not None
        assert b"Traceback" not in running.stderr.read()
    finally:
        running.kill()


def test_two_runs_do_not_share_a_folder(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with locked(out):
        monkeypatch.setattr("ookd.locking._held", set())  # as another process sees it
        assert main(["track", str(video), "--out", str(out)]) == 2
    assert "another process writes there" in capsys.readouterr().err
    assert list(out.iterdir()) == []
