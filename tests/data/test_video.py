"""Recordings and images read as streams of frames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from data.video_files import HEIGHT, WIDTH, number_in, picture, write_video
from ookd.data.video import open_source
from ookd.errors import UserError


def numbers(source: object, **span: object) -> list[int]:
    with open_source(source, **span) as frames:
        return [number_in(image) for image in frames]


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mp4", "libx264", "yuv420p10le"),
        ("a.mp4", "libx265", "yuv420p10le"),
        ("a.mkv", "ffv1", "gray"),
        ("a.mkv", "ffv1", "gray16le"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.webm", "libvpx", "yuv420p"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.mov", "png", "rgba"),
        ("a.mov", "qtrle", "argb"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.gif", "gif", "pal8"),
    ],
)
def test_formats(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    path = tmp_path / name
    if pixels == "pal8":
        pictures = [Image.fromarray(picture(i)) for i in range(1, 25)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
        expected = list(range(1, 25))
    else:
        expected = list(range(24))
        write_video(path, 24, codec, pixels)
    with open_source(path) as source:
        assert (source.name, source.height, source.width) == (name, HEIGHT, WIDTH)
        assert source.fps == pytest.approx(25)
        images = list(source)
    assert {(image.shape, image.dtype.name) for image in images} == {((HEIGHT, WIDTH, 3), "uint8")}
    assert [number_in(image) for image in images] == expected


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_shown_upright(tmp_path: Path, degrees: int, hflip: bool) -> None:
    path = write_video(tmp_path / "turned.mp4", 3, turn={"degrees": degrees, "hflip": hflip})
    stored = write_video(tmp_path / "plain.mp4", 3)
    with open_source(path) as source, open_source(stored) as plain:
        shape = (source.height, source.width)
        image, upright = list(source)[2], list(plain)[2]
    expected = np.rot90(upright, degrees // 90)
    expected = np.fliplr(expected) if hflip else expected
    assert image.shape[:2] == shape == expected.shape[:2]
    np.testing.assert_array_equal(image, expected)


def test_colours_follow_the_matrix_the_file_names(tmp_path: Path) -> None:
    """BT.709 numbers of pure red are (63, 102, 240); read as BT.601 they would be (255, 25, 14)."""
    path = tmp_path / "red.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height = stream.width = 32
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = 1
        stream.codec_context.color_range = 1
        planes = np.stack([np.full((32, 32), value, np.uint8) for value in (63, 102, 240)])
        frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
        frame.colorspace = 1
        frame.color_range = 1
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with open_source(path) as source:
        np.testing.assert_allclose(next(iter(source))[5, 5], [255, 0, 0], atol=3)


def test_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.2, 0.25, 1.0, 1.01, 1.5]
    path = write_video(tmp_path / "a.mkv", 7, times=[2 + time for time in times])
    with open_source(path) as source:
        frames = list(source.frames())
    assert [frame.seconds for frame in frames] == pytest.approx(times)
    assert [frame.index for frame in frames] == list(range(7))
    with open_source(path, start="0.21s", end="1.01s") as source:
        assert [frame.index for frame in source.frames()] == [3, 4]


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "images"])
@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({}, range(60)),
        ({"start": 17}, range(17, 60)),
        ({"start": 17, "end": 31, "every": 5}, range(17, 31, 5)),
        ({"every": 7}, range(0, 60, 7)),
        ({"end": 0}, []),
        ({"start": 60}, []),
        ({"start": 30, "end": 20}, []),
        ({"end": 1000}, range(60)),
    ],
)
def test_span_in_frames(tmp_path: Path, name: str, span: dict[str, int], expected: range) -> None:
    path = tmp_path / name
    if name == "images":
        path.mkdir()
        for i in range(60):
            Image.fromarray(picture(i)).save(path / f"frame{i}.png")
    else:
        write_video(path, 60, options={"bf": "3"})
    with open_source(path, **span) as source:
        frames = list(source.frames())
        if name != "a.ts":  # which has no table of contents
            assert source.length == len(expected)
    assert [number_in(frame.image) for frame in frames] == list(expected)
    assert [frame.index for frame in frames] == list(expected)
    rate = 10 if name == "images" else 25
    assert [frame.seconds for frame in frames] == pytest.approx([i / rate for i in expected], abs=1e-3)
    assert source.fps == pytest.approx(rate / span.get("every", 1))


@pytest.mark.parametrize(
    ("start", "first"), [("1s", 25), ("0:01", 25), ("0:00:01.2", 30), ("1.201s", 31), ("007", 7), ("0s", 0)]
)
def test_start_as_written_on_a_command_line(tmp_path: Path, start: str, first: int) -> None:
    with open_source(write_video(tmp_path / "a.mp4", 40), start=start, every=2) as source:
        assert [number_in(image) for image in source] == list(range(first, 40, 2))
        assert source.length == len(range(first, 40, 2))


@pytest.mark.parametrize("start", ["soon", "-3", "1:2:3:4", "1.5", "10 s"])
def test_a_moment_that_is_none(tmp_path: Path, start: str) -> None:
    with pytest.raises(UserError, match=r"write a frame \(120\) or a time"):
        open_source(write_video(tmp_path / "a.mp4", 3), start=start)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize("keep", [0.6, 0.7, 0.8])
def test_a_cut_file_gives_what_it_still_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, keep: float
) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    container = {"movflags": "faststart"} if name.endswith("mp4") else {}
    path = write_video(tmp_path / name, 100, codec, container=container)
    with open_source(path) as source:
        whole = list(source)
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * keep)])
    with open_source(path) as source:
        images = list(source)
    assert 10 < len(images) < 100
    for image, expected in zip(images, whole, strict=False):
        np.testing.assert_array_equal(image, expected)
    (message,) = caplog.messages
    assert name in message
    assert f"at frame {len(images)}" in message


def test_damage_in_the_middle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "a.mp4", 100, container={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = b"\xaa" * 2000
    path.write_bytes(content)
    found = numbers(path)
    assert 10 < len(found) < 90
    assert found[:-1] == list(range(len(found) - 1))  # the decoder may conceal a hole in the last one
    (message,) = caplog.messages
    assert f"damaged at frame {len(found)}" in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"hello\n" * 100, "is not a video"),
        ("zero.mp4", b"", r"is empty \(0 bytes\)"),
        ("zero.mkv", bytes(5000), "is not a video"),
    ],
)
def test_not_a_video(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: {message}"):
        open_source(path)


def test_a_header_with_nothing_behind(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30, container={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 20])
    with pytest.raises(UserError, match="no frame can be decoded"):
        open_source(path)


def test_a_title_that_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 3)
    with av.open(str(path)) as reading, av.open(str(tmp_path / "b.mp4"), "w") as writing:
        writing.metadata["title"] = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for packet in reading.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writing.mux(packet)
    content = (tmp_path / "b.mp4").read_bytes()
    assert b"caf\xc3\xa9" in content
    (tmp_path / "b.mp4").write_bytes(content.replace(b"caf\xc3\xa9", b"caf\xe9e"))
    assert numbers(tmp_path / "b.mp4") == [0, 1, 2]

    plain = av.open

    def newer(file: str, mode: str = "r", options: object = None, timeout: object = None) -> object:
        return plain(file, mode, options=options, timeout=timeout)

    monkeypatch.setattr(av, "open", newer)  # PyAV 19 does not take `metadata_errors`
    assert numbers(path) == [0, 1, 2]


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
    with pytest.raises(UserError, match=r"sound\.wav: has no video stream"):
        open_source(path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        open_source(tmp_path / "none.mp4")
    with pytest.raises(UserError, match="no images in this folder"):
        open_source(tmp_path)
    with pytest.raises(UserError, match="matches no image"):
        open_source(str(tmp_path / "*.jpg"))
    with pytest.raises(UserError, match="camera 63: cannot be opened"):
        open_source(63)
    with pytest.raises(UserError, match="refused"):
        open_source("http://127.0.0.1:9/stream")


def test_every_needs_a_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be 1 or more"):
        open_source(write_video(tmp_path / "a.mp4", 3), every=0)


def test_an_open_source_stays_as_it_is(tmp_path: Path) -> None:
    with open_source(write_video(tmp_path / "a.mp4", 30), start=5) as source:
        assert open_source(source) is source
        assert [number_in(image) for image in source] == list(range(5, 30))
        assert [number_in(image) for image in source] == list(range(5, 30))  # a file can be read again


# --- images ------------------------------------------------------------------------------------------------


def test_images_in_natural_order(tmp_path: Path) -> None:
    order = ["img2.png", "img9.png", "img10.png", "img100.png"]
    for i, name in enumerate(order):
        Image.fromarray(picture(i)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    assert numbers(tmp_path) == [0, 1, 2, 3]
    assert numbers(str(tmp_path / "img?.png")) == [0, 1]
    assert numbers(tmp_path / "img10.png") == [2]


def test_images_of_every_kind_become_rgb(tmp_path: Path) -> None:
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[:10, :10] = 250  # top left
    turned = Image.fromarray(np.rot90(tall))  # as a camera held sideways stores it: 90 degrees to the left
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees to the right"
    turned.save(tmp_path / "0.png", exif=exif)
    Image.fromarray(tall[..., 0].astype(np.uint16) * 257).save(tmp_path / "1.png")
    Image.fromarray(tall).quantize(4).save(tmp_path / "2.png")
    Image.fromarray(np.dstack([tall, tall[..., :1]])).save(tmp_path / "3.png")
    Image.fromarray(tall[..., 0]).save(tmp_path / "4.bmp")
    Image.fromarray(tall).convert("CMYK").save(tmp_path / "5.tif")
    with open_source(tmp_path) as source:
        images = list(source)
    assert len(images) == 6
    for image in images:
        np.testing.assert_allclose(image.astype(int), tall, atol=2)


def test_unreadable_images_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(6):
        Image.fromarray(picture(i)).save(tmp_path / f"{i}.png")
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    (tmp_path / "4.png").write_text("no image")
    with open_source(tmp_path) as source:
        frames = list(source.frames())
    assert [frame.index for frame in frames] == [number_in(frame.image) for frame in frames] == [1, 3, 5]
    assert len(caplog.messages) == 2
    assert "0.png: not a readable image" in caplog.messages[0]
    assert "3 images were left out" in caplog.messages[1]
    for i in (1, 3, 5):
        (tmp_path / f"{i}.png").write_bytes(b"")
    with pytest.raises(UserError, match="none of the 6 images can be read"):
        open_source(tmp_path)


def test_a_change_of_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that halves its resolution and then turns upright: all frames get the size of the first."""
    parts = [
        write_video(tmp_path / "0.ts", 10),
        write_video(tmp_path / "1.ts", 10, first=10, size=(HEIGHT // 2, WIDTH // 2)),
        write_video(tmp_path / "2.ts", 10, first=20, size=(WIDTH, WIDTH)),
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_source(path) as source:
        frames = list(source.frames())
    assert [frame.seconds for frame in frames] == pytest.approx([i / 25 for i in range(30)], abs=1e-3)
    images = [frame.image for frame in frames]
    assert {image.shape for image in images} == {(HEIGHT, WIDTH, 3)}
    assert [number_in(image) for image in images[:20]] == list(range(20))
    square = images[25]  # fits with a quarter of the width; black at both sides
    assert not square[:, : WIDTH * 3 // 8 - 1].any()
    assert number_in(square[:, (WIDTH - HEIGHT) // 2 : (WIDTH + HEIGHT) // 2]) == 25
    (message,) = caplog.messages
    assert f"{WIDTH // 2}x{HEIGHT // 2} instead of {WIDTH}x{HEIGHT} from frame 10 on" in message


# --- standard input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jpg", "png", "mkv", "ts"])
def test_standard_input(tmp_path: Path, kind: str) -> None:
    if kind in ("jpg", "png"):
        content = b""
        for i in range(20):
            Image.fromarray(picture(i)).save(tmp_path / f"one.{kind}")
            content += (tmp_path / f"one.{kind}").read_bytes()
    else:
        content = write_video(tmp_path / f"a.{kind}", 20).read_bytes()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from data.video_files import number_in; from ookd.data.video import open_source\n"
        "with open_source('-') as source: print(*[number_in(image) for image in source])"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1])]
    run = subprocess.run(command, input=content, capture_output=True, check=True)
    assert [int(word) for word in run.stdout.split()] == list(range(20))
    assert run.stderr == b""


def test_standard_input_without_video() -> None:
    code = "from ookd.data.video import open_source; open_source('-')"
    run = subprocess.run([sys.executable, "-c", code], input=b"hello", capture_output=True, check=False)
    assert b"UserError: standard input: is not a video" in run.stderr


@pytest.mark.parametrize("seed", range(6))
def test_damage_in_the_middle_is_told_and_no_wrong_frame_is_read(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "a.mp4", 40)
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    at = int(rng.integers(len(content) // 4, len(content) // 2))
    content[at : at + 200] = rng.bytes(200)
    path.write_bytes(content)
    with open_source(path) as source:
        numbers = [number_in(image) for image in source]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) < 40
    assert any("damaged at frame" in message for message in caplog.messages)
