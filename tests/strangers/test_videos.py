"""Videos that no camera makes."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from data.video_files import picture, write_video
from strangers.trying import tried


def sound(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))


def no_frames(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 32, "yuv420p"
        output.start_encoding()


def png(width: int, height: int) -> bytes:
    """An image of one colour, of any size, in few bytes."""

    def part(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    packer = zlib.compressobj(9)
    row = bytes(width // 8 + 2)
    rows = b"".join([packer.compress(row * 64) for _ in range(-(-height // 64))]) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")


def packets(
    path: Path, codec: str, contents: list[bytes], size: tuple[int, int], kind: str | None = None
) -> None:
    """A container around images that are coded already."""
    with av.open(str(path), "w", format=kind) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb24" if codec == "png" else "yuvj420p"
        for number, content in enumerate(contents):
            packet = av.Packet(content)
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base, packet.is_keyframe = Fraction(1, 25), True
            output.mux(packet)


def large_png(path: Path) -> None:
    packets(path, "png", [png(30_000, 30_000)], (128, 32))


def large_gif(path: Path) -> None:
    content = bytearray(write_video(path.with_name("small.gif"), 2, "gif", "rgb8").read_bytes())
    path.with_name("small.gif").unlink()
    content[6:10] = struct.pack("<HH", 65_000, 65_000)
    path.write_bytes(content)


def other_sizes(path: Path) -> None:
    """Each frame twice as large as the last."""
    contents = []
    for number, side in enumerate((16, 32, 64, 1024, 8)):
        data = io.BytesIO()
        from PIL import Image

        Image.fromarray(picture(number, side, side)).save(data, "JPEG")
        contents.append(data.getvalue())
    packets(path, "mjpeg", contents, (16, 16))


def of_rate(rate: Fraction) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with av.open(str(path), "w") as output:
            stream = output.add_stream("mpeg4" if rate < 60_000 else "ffv1", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 128, 32, "yuv420p"
            for number in range(5):
                frame = av.VideoFrame.from_ndarray(picture(number)).reformat(format="yuv420p")
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))

    return make


def at(*times: float) -> Callable[[Path], None]:
    """Frames at these times, in seconds."""

    def make(path: Path) -> None:
        with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as output:
            stream = output.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = 128, 32, "yuvj420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for number, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(picture(number)).reformat(format="yuvj420p")
                frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))

    return make


def flat(path: Path) -> None:
    """One pixel high: chroma has none."""
    write_video(path, 3, "ffv1", "yuv420p", size=(1, 128))


def playlist(path: Path) -> None:
    """A list that names a file elsewhere."""
    video = write_video(path.with_name("secret.ts"), 5)
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{video}\n#EXT-X-ENDLIST\n")


def script(path: Path) -> None:
    write_video(path.with_name("other.mp4"), 5)
    path.write_text("ffconcat version 1.0\nfile '../work/other.mp4'\n")


def itself(path: Path) -> None:
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{path.name}\n#EXT-X-ENDLIST\n")


def title(path: Path) -> None:
    """A title and a name of its only stream that steer terminals."""
    with av.open(str(path), "w") as output:
        output.metadata["title"] = "\x1b]0;mine\x07" + "x" * 100_000
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 32, "yuv420p"
        for number in range(3):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number)).reformat(format="yuv420p")))
        output.mux(stream.encode(None))


def turned(path: Path) -> None:
    """Three frames whose turn is that of a wheel."""
    write_video(path, 3, turn={"degrees": 33.3})


# name of the file, what is in it, and what is said of it; None: it is read
VIDEOS: dict[str, tuple[str, Callable[[Path], object], str | None]] = {
    "sound alone": ("a.wav", sound, "has no video stream"),
    "no frame at all": ("a.avi", no_frames, "no frame can be decoded"),
    "a frame of 900 million pixels": ("a.avi", large_png, "no frame can be decoded"),
    "a canvas of 4225 million pixels": ("a.gif", large_gif, "no frame can be decoded"),
    "each frame of another size": ("a.mkv", other_sizes, None),
    "a hundred thousand frames a second": ("a.mkv", of_rate(Fraction(100_000)), None),
    "a frame in three hours": ("a.mkv", of_rate(Fraction(1, 10_000)), None),
    "times before the beginning": ("a.mkv", at(-3, -2, -1, 0), None),
    "a day between two frames": ("a.mkv", at(0, 1, 86_400), None),
    "one pixel high": ("a.mkv", flat, None),
    "a crooked turn": ("a.mp4", turned, None),
    "a title that steers terminals": ("a.mkv", title, None),
    "a playlist that names another file": ("a.mp4", playlist, "is not a video"),
    "a playlist of itself": ("a.m3u8", itself, "is not a video"),
    "a script that climbs": ("a.mp4", script, "not permitted"),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_odd_videos(name: str, model: Path, tmp_path: Path) -> None:
    file, make, says = VIDEOS[name]

    def command(folder: Path) -> list[object]:
        make(folder / file)
        more = "--out out --save csv,mp4,json,png --device cpu --end 6"
        return ["track", file, "--model", model, *more.split()]

    tried(command, tmp_path, says)
    if says is None:
        (video,) = (tmp_path / "work" / "out").glob("*.mp4")
        with av.open(str(video)) as written:
            assert sum(1 for _ in written.decode(video=0)) > 0
