"""Streams that do not end, break and come back."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from data.video_files import number_in, write_video
from ookd.data.video import live, open_source
from ookd.errors import UserError

Answer = Callable[[BaseHTTPRequestHandler, int], None]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """Calls `answer(request, which)` for the first, second ... request."""
    asked = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, next(asked))

        def log_message(self, *_: object) -> None: ...

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/street.ts"
    finally:
        running.shutdown()
        running.server_close()


def stream(request: BaseHTTPRequestHandler, content: bytes, seconds: float = 0.0) -> None:
    """Send without saying how long it is, spread over a time."""
    request.send_response(200)
    request.end_headers()
    pieces = 20
    for i in range(pieces):
        request.wfile.write(content[i * len(content) // pieces : (i + 1) * len(content) // pieces])
        request.wfile.flush()
        time.sleep(seconds / pieces)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(live, "RECONNECTS", 2)


def test_a_recording_behind_a_url(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", 40, container={"movflags": "faststart"}).read_bytes()

    def answer(request: BaseHTTPRequestHandler, _: int) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    with server(answer) as url, open_source(url, end=30) as source:
        assert (source.live, source.length, source.name) == (False, 30, "street.ts")
        assert [number_in(image) for image in source] == list(range(30))


def test_a_download_that_breaks_off_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = write_video(tmp_path / "a.mp4", 200, container={"movflags": "faststart"}).read_bytes()
    ranges = []

    def answer(request: BaseHTTPRequestHandler, which: int) -> None:
        ranges.append(request.headers["Range"])
        begin = int(ranges[-1].removeprefix("bytes=").rstrip("-"))
        body = content[begin:]
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) * 2 // 3] if which < 4 else body)
        request.close_connection = True

    with server(answer) as url, open_source(url) as source:
        assert [number_in(image) for image in source] == list(range(200))
    assert ranges[:2] == ["bytes=0-", "bytes=0-"]  # looked at, then read
    assert [text == "bytes=0-" for text in ranges[2:]] == [False] * 3
    assert caplog.messages == []


def rtsp_server(content: bytes, seconds: float = 0.0) -> tuple[int, list[str]]:
    """Answers players one after the other with MPEG-TS in RTP through the same connection, then hangs up.

    It takes its time, or so many seconds if that is longer.
    """
    pause = max(0.005, seconds * 7 * 188 / len(content))
    listening = socket.create_server(("127.0.0.1", 0))
    asked: list[str] = []
    description = "v=0\r\ns=test\r\nm=video 0 RTP/AVP 33\r\na=control:track1\r\n"
    more = {
        "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n",
        "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(description)}\r\n",
        "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
        "PLAY": "Session: 1\r\n",
    }

    def serve() -> None:
        while True:
            connection, _ = listening.accept()
            with contextlib.suppress(OSError), connection, connection.makefile("rwb") as talk:
                method = ""
                while method != "PLAY":
                    lines = []
                    while line := talk.readline().decode().strip():
                        lines.append(line)
                    if not lines:
                        break
                    method = lines[0].split()[0]
                    asked.append(method)
                    number = next(line for line in lines if line.startswith("CSeq"))
                    answer = f"RTSP/1.0 200 OK\r\n{number}\r\n{more.get(method, '')}\r\n"
                    talk.write((answer + description * (method == "DESCRIBE")).encode())
                    talk.flush()
                for i, begin in enumerate(range(0, len(content) * (method == "PLAY"), 7 * 188)):
                    packet = (
                        struct.pack(">BBHII", 0x80, 33, i, i * 3600, 7) + content[begin : begin + 7 * 188]
                    )
                    talk.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                    talk.flush()
                    time.sleep(pause)

    threading.Thread(target=serve, daemon=True).start()
    return listening.getsockname()[1], asked


def test_rtsp(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port, asked = rtsp_server(write_video(tmp_path / "a.ts", 100).read_bytes())
    with open_source(f"rtsp://user:word@127.0.0.1:{port}/cam") as source:
        assert (source.live, source.length, source.name) == (True, None, "cam")
        seen = []
        with closing(source.frames()) as frames:
            for frame in frames:
                seen.append((frame.index, number_in(frame.image)))
                if frame.index > 120:  # it hung up before, and was asked to play again
                    break
    assert asked.count("PLAY") == 2
    (message,) = caplog.messages
    count = int(re.search(r"broke off after (\d+) frames", message)[1])
    assert 95 <= count <= 100
    assert all(number == index % count for index, number in seen)


def test_a_stream_that_breaks_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = write_video(tmp_path / "1.ts", 40).read_bytes()
    second = write_video(tmp_path / "2.ts", 40, first=100).read_bytes()

    def answer(request: BaseHTTPRequestHandler, which: int) -> None:
        if which == 0:
            stream(request, first, seconds=0.5)
        elif which == 2:
            stream(request, second, seconds=0.5)
        else:
            request.send_error(503)

    with server(answer) as url, open_source(url) as source:
        assert (source.live, source.length) == (True, None)
        frames = list(source.frames())
    seen = [number_in(frame.image) for frame in frames]
    before, after = [n for n in seen if n < 100], [n for n in seen if n >= 100]
    assert seen == before + after  # one part after the other
    assert before == sorted(before)
    assert after == sorted(after)
    assert len(before) > 3
    assert len(after) > 3
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert indices[-1] == 79  # frames that came too fast to be taken are counted
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(frames))
    assert ["broke off after 40 frames" in m for m in caplog.messages] == [True, False]
    assert "gave up after 80 frames" in caplog.messages[1]


def test_slow_work_gets_the_newest_frame(tmp_path: Path) -> None:
    content = write_video(tmp_path / "1.ts", 100).read_bytes()
    with server(lambda request, _: stream(request, content, seconds=1.0)) as url, open_source(url) as source:
        taken = []
        with closing(source.frames()) as frames:
            for frame in frames:
                taken.append(frame.index)
                time.sleep(0.2)
                if len(taken) == 4:
                    break
    gaps = [b - a for a, b in itertools.pairwise(taken)]
    assert max(gaps) > 3  # frames that came in meanwhile were skipped, not queued


class FakeCamera:
    """Stands for OpenCV's camera: pictures in BGR, and then none."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.left = 5
        self.released = False

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        blue = np.zeros((6, 8, 3), np.uint8)
        blue[..., 0] = 250
        return (True, blue) if self.left >= 0 else (False, None)

    def get(self, _: int) -> float:
        return 15.0

    def release(self) -> None:
        self.released = True


def test_a_camera(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    cameras: list[FakeCamera] = []
    monkeypatch.setattr(
        live.cv2, "VideoCapture", lambda number: cameras.append(FakeCamera(number)) or cameras[0]
    )
    with open_source("2") as source:
        assert (source.name, source.fps, source.width, source.height) == ("camera2", 15, 8, 6)
        images = list(source)
    assert cameras[0].number == 2
    assert cameras[0].released
    assert 1 <= len(images) <= 4
    assert all((image == (0, 0, 250)).all() for image in images)
    assert caplog.messages == ["camera2: no more images after frame 3"]


def test_a_server_that_gives_no_video() -> None:
    with server(lambda request, _: request.send_error(404)) as url, pytest.raises(UserError, match="404"):
        open_source(url)
    with (
        server(lambda request, _: stream(request, b"no video" * 100)) as url,
        pytest.raises(UserError, match=r"street\.ts: "),
    ):
        open_source(url)


def test_messages_keep_passwords_to_themselves() -> None:
    with pytest.raises(UserError, match=r"^http://127\.0\.0\.1:9/street\.ts: ") as caught:
        open_source("http://me:secret@127.0.0.1:9/street.ts")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("how", ["nothing said", "in chunks", "in chunks without an end"])
@pytest.mark.parametrize(
    ("suffix", "codec"), [("ts", "libx264"), ("h264", "libx264"), ("mkv", "libx264"), ("ts", "mpeg2video")]
)
def test_a_recording_without_a_stated_length_ends(how: str, suffix: str, codec: str, tmp_path: Path) -> None:
    live_muxed = {"live": "1"} if suffix == "mkv" else {}
    path = write_video(tmp_path / f"a.{suffix}", 40, codec, container=live_muxed)
    content = path.read_bytes()

    def answer(request: BaseHTTPRequestHandler, _: int) -> None:
        if how == "nothing said":
            stream(request, content)
            return
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        request.wfile.write(b"0\r\n\r\n" if how == "in chunks" else b"")
        request.close_connection = True

    with server(answer) as url, open_source(url) as source, closing(source.read()) as read:
        indices = [index for index, _, _ in itertools.islice(read, 200)]
    assert indices == list(range(len(indices)))
    assert 30 <= len(indices) <= 40  # a stream that breaks off loses what its decoder waits with


def test_a_server_that_does_not_answer_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ookd.data.video.opening.NETWORK_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(UserError, match="no answer in time"):
            open_source(f"http://127.0.0.1:{port}/a.ts")
