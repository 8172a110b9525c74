"""Written videos: what is in them, and what remains when writing is cut short."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from data.video_files import HEIGHT, number_in, picture
from ookd.data.video import VideoWriter, open_source
from ookd.errors import UserError


def numbers(path: Path) -> list[int]:
    with open_source(path) as source:
        return [number_in(image) for image in source]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, fps=30000 / 1001) as writer:
        for i in range(60):
            writer.write(picture(i))
        assert not path.exists()
    assert os.listdir(tmp_path) == ["a.mp4"]
    with open_source(path) as source:
        frames = list(source.frames())
        assert source.fps == pytest.approx(30000 / 1001)
        assert source.length == 60
    assert [number_in(frame.image) for frame in frames] == list(range(60))
    assert [frame.seconds for frame in frames] == pytest.approx(
        [i * 1001 / 30000 for i in range(60)], abs=1e-4
    )


def test_every_player_can_show_it(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, fps=25) as writer:
        for i in range(5):
            writer.write(picture(i))
    with av.open(str(path)) as container:
        video = container.streams.video[0].codec_context
        assert (video.name, video.pix_fmt, container.format.name.split(",")[1]) == ("h264", "yuv420p", "mp4")
    assert b"moof" not in path.read_bytes()  # a plain file, not fragments


def test_odd_sides_are_padded_by_their_edge(tmp_path: Path) -> None:
    image = np.zeros((33, 47, 3), np.uint8)
    image[-1], image[:, -1] = 200, 200
    with VideoWriter(tmp_path / "a.mp4", fps=25) as writer:
        writer.write(image)
    with open_source(tmp_path / "a.mp4") as source:
        (shown,) = list(source)
    assert shown.shape == (34, 48, 3)
    np.testing.assert_allclose(shown[33].astype(int), 200, atol=12)
    np.testing.assert_allclose(shown[:, 47].astype(int), 200, atol=12)


def test_colours_survive(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255), (10, 120, 200)]
    image = np.repeat(np.array(colours, np.uint8), 32, axis=0)[None].repeat(64, axis=0)
    with VideoWriter(tmp_path / "a.mp4", fps=25) as writer:
        writer.write(image)
    with open_source(tmp_path / "a.mp4") as source:
        (shown,) = list(source)
    np.testing.assert_allclose(shown[32, 16::32].astype(int), colours, atol=6)


def test_times_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.11, 0.5, 2.0]
    with VideoWriter(tmp_path / "a.mp4", fps=10) as writer:
        for i, seconds in enumerate(times):
            writer.write(picture(i), seconds)
    with open_source(tmp_path / "a.mp4") as source:
        assert [frame.seconds for frame in source.frames()] == pytest.approx(times, abs=1e-4)


def test_an_interrupt_leaves_what_was_written(tmp_path: Path) -> None:
    def interrupted() -> None:
        with VideoWriter(tmp_path / "a.mp4", fps=25) as writer:
            for i in range(7):
                writer.write(picture(i))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert numbers(tmp_path / "a.mp4") == list(range(7))


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps=25):
        pass
    assert os.listdir(tmp_path) == []


def test_one_video_has_one_size(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", fps=25) as writer:
        writer.write(picture(0))
        with pytest.raises(ValueError, match=r"a\.mp4: a frame of \(16, 64\) in a video of \(32, 128\)"):
            writer.write(picture(1, 16, 64))


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"none/a\.mp4: cannot be written: No such file or directory"),
        VideoWriter(tmp_path / "none" / "a.mp4", fps=25) as writer,
    ):
        writer.write(picture(0))


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noise(number: int) -> np.ndarray:
    image = np.random.default_rng(number).integers(0, 255, (128, 128, 3), np.uint8)
    image[:HEIGHT] = picture(number)
    return image


def test_a_full_disk(small_disk: Path) -> None:
    def endless() -> None:
        with VideoWriter(small_disk / "a.mp4", fps=5) as writer:
            for i in itertools.count():
                writer.write(noise(i % 200))

    message = r"a\.mp4: cannot be written: No space left on device; .*a\.mp4\.part"
    with pytest.raises(UserError, match=message):
        endless()
    assert os.listdir(small_disk) == ["a.mp4.part"]
    with open_source(small_disk / "a.mp4.part") as source:  # fragments that were complete can be seen
        assert [number_in(image[:HEIGHT]) for image in source][:10] == list(range(10))


def test_a_disk_that_is_full_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(UserError, match=r"a\.mp4: cannot be written: No space left"),
        VideoWriter(tmp_path / "a.mp4", fps=25) as writer,
    ):
        writer.write(picture(0))
    assert os.listdir(tmp_path) == ["a.mp4.part"]


def test_a_killed_process_leaves_only_the_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.mp4"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from data.test_video_writer import noise; from ookd.data.video import VideoWriter\n"
        "with VideoWriter(sys.argv[1], fps=5) as writer:\n"
        "    for i in range(100000): writer.write(noise(i % 200)); i == 100 and print('go', flush=True)"
    )
    command = [sys.executable, "-c", code, str(path), str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGKILL)
    assert os.listdir(tmp_path) == ["a.mp4.part"]
    with open_source(tmp_path / "a.mp4.part") as source:
        saved = [number_in(image[:HEIGHT]) for image in source]
    assert saved[:40] == list(range(40))
    caplog.clear()
    with VideoWriter(path, fps=25) as writer:
        writer.write(picture(9))
    assert caplog.messages == [f"{tmp_path / 'a.mp4.part'}: left by a killed run; replaced"]
    assert numbers(path) == [9]


def test_frames_may_be_many_hours_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    hours = [0.0, 7.0, 7.001, 30.0, 30.001]
    with VideoWriter(path, 25) as writer:
        for number, hour in enumerate(hours):
            writer.write(picture(number), hour * 3600)
    with open_source(path) as source:
        frames = list(source.frames())
    assert [number_in(frame.image) for frame in frames] == list(range(5))
    gaps = np.diff([frame.seconds / 3600 for frame in frames])
    assert (gaps > 0).all()
    assert gaps.max() <= 1.01
