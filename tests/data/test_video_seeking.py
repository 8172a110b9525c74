"""Any frame by its number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.video_files import number_in, write_video
from ookd.data.video import open_source, read_frames
from ookd.data.video.seeking import frame_index
from ookd.errors import UserError

IRREGULAR = np.cumsum([0.02 + 0.02 * (i % 3) + 1.7 * (i % 20 == 0) for i in range(60)]).tolist()

KINDS = {
    "b-frames": ("a.mp4", "libx264", {"bf": "4", "b_strategy": "0"}, None),
    "open groups": ("a.mkv", "libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=10:scenecut=0"}, None),
    "variable rate": ("a.mp4", "libx264", {"bf": "3"}, IRREGULAR),
    "hidden frames": ("a.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10"}, None),
    "vp9": ("a.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "10"}, None),
    "hevc": ("a.mp4", "libx265", {"x265-params": "log-level=none:keyint=10:open-gop=1"}, None),
    "no time stamps": ("a.avi", "mpeg4", {"bf": "2"}, None),
    "no index": ("a.ts", "libx264", {"bf": "3"}, None),
    "raw": ("a.h264", "libx264", {"bf": "3"}, None),
    "one group": ("a.mp4", "libx264", {"g": "1000"}, None),
}


@pytest.fixture(params=KINDS)
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, codec, options, times = KINDS[request.param]
    return write_video(tmp_path / name, 60, codec, options=options, times=times)


def test_the_same_frame_as_by_counting(recording: Path) -> None:
    with open_source(recording) as source:
        counted = list(source)
    assert [number_in(image) for image in counted] == list(range(60))
    for wanted in ([0], [59], [31], [19, 20, 21], [40, 3, 3, 22], list(range(60)), list(range(59, -1, -7))):
        images = read_frames(recording, wanted)
        assert [number_in(image) for image in images] == wanted
        for image, number in zip(images, wanted, strict=True):
            np.testing.assert_array_equal(image, counted[number])


def test_reading_from_a_frame_on(recording: Path) -> None:
    for start in (0, 1, 19, 20, 45):
        with open_source(recording, start=start) as source:
            frames = list(source.frames())
        assert [number_in(frame.image) for frame in frames] == list(range(start, 60))
        assert [frame.index for frame in frames] == list(range(start, 60))


@pytest.mark.parametrize("kind", ["b-frames", "variable rate", "open groups", "hevc", "no index"])
def test_usual_files_are_not_read_from_the_beginning(tmp_path: Path, kind: str) -> None:
    name, codec, options, times = KINDS[kind]
    index = frame_index(write_video(tmp_path / name, 60, codec, options=options, times=times))
    assert index is not None
    assert len(index.stamps) == 60
    assert len(index.keys) >= 6


def test_numbers_that_do_not_exist(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30)
    with pytest.raises(UserError, match=r"a\.mp4: frame 30 was requested, but there are only 30 frames"):
        read_frames(path, [3, 30])
    with pytest.raises(UserError, match="frame -1 was requested"):
        read_frames(path, [-1])
    with pytest.raises(UserError, match="no such file"):
        read_frames(tmp_path / "none.mp4", [0])
    assert read_frames(path, []) == []


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30)
    assert number_in(read_frames(path, [2])[0]) == 2
    write_video(path, 50, first=100)
    assert number_in(read_frames(path, [2])[0]) == 102
    assert number_in(read_frames(path, [45])[0]) == 145


def test_frames_before_damage_are_still_exact(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 100, container={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 7 // 10])
    assert [number_in(image) for image in read_frames(path, [5, 0, 17])] == [5, 0, 17]
    with pytest.raises(UserError, match=r"a\.mp4: frame 99 was requested"):
        read_frames(path, [99])
