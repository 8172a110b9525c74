"""Kinds of clients that no server asks for. Each says what must become of it."""

from __future__ import annotations

import io
import json
import socket
import struct
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ookd.data.video import VideoWriter
from ookd.serve.rules import FRAME_BYTES, ServeRules
from serve.serving import jpeg, write_video

RULES = ServeRules(streams=4, upload_bytes=300_000, seconds=3, pixels=320 * 240, resume_seconds=0.2)
Case = Callable[[int, Path], None]
CASES: dict[str, Case] = {}


def kind(case: Case) -> Case:
    CASES[case.__name__] = case
    return case


# --- uploads -----------------------------------------------------------------------------------------------


def post(port: int, content: object, **asked: str) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}/videos", content=content, params=asked, timeout=30)  # type: ignore[arg-type]


@kind
def too_large_by_its_own_word(port: int, folder: Path) -> None:
    said = raw(port, b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")
    assert b" 413 " in said.split(b"\r\n")[0]


@kind
def too_large_without_a_word(port: int, folder: Path) -> None:
    """In chunks, for ever; the server hangs up when it has had enough."""
    part = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    with suppress(OSError):
        said = raw(
            port,
            b"POST /videos HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + part * 20,
        )
        assert b" 413 " in said.split(b"\r\n")[0]


@kind
def text_as_a_video(port: int, folder: Path) -> None:
    assert post(port, b"hello " * 1000, name="film.mp4").status_code == 415


@kind
def a_picture_as_a_video(port: int, folder: Path) -> None:
    assert post(port, jpeg(0), name="film.mp4").status_code == 415


@kind
def a_zip_bomb(port: int, folder: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("film.mp4", bytes(50_000_000))
    assert post(port, data.getvalue(), name="film.mp4").status_code == 415


@kind
def the_beginning_of_a_video(port: int, folder: Path) -> None:
    assert post(port, (folder / "good.mp4").read_bytes()[:200]).status_code == 415


@kind
def half_a_video(port: int, folder: Path) -> None:
    data = (folder / "good.mp4").read_bytes()
    answer = post(port, data[: len(data) // 2])
    assert answer.status_code in (201, 415)


@kind
def a_video_with_garbage_inside(port: int, folder: Path) -> None:
    data = bytearray((folder / "good.mp4").read_bytes())
    data[len(data) // 3 : len(data) // 2] = np.random.default_rng(0).bytes(len(data) // 2 - len(data) // 3)
    answer = post(port, bytes(data))
    assert answer.status_code in (201, 415)


@kind
def frames_too_large(port: int, folder: Path) -> None:
    assert post(port, (folder / "large.mp4").read_bytes()).status_code == 413


@kind
def a_video_too_long(port: int, folder: Path) -> None:
    assert post(port, (folder / "long.mp4").read_bytes()).status_code == 413


@kind
def a_playlist_that_names_a_file_of_the_server(port: int, folder: Path) -> None:
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{folder / 'good.mp4'}\n#EXT-X-ENDLIST\n"
    assert post(port, text.encode(), name="film.m3u8").status_code == 415


@kind
def a_script_that_names_a_file_of_the_server(port: int, folder: Path) -> None:
    text = f"ffconcat version 1.0\nfile '{folder / 'good.mp4'}'\n"
    assert post(port, text.encode(), name="film.ffconcat").status_code == 415


@kind
def nothing_as_a_video(port: int, folder: Path) -> None:
    assert post(port, b"").status_code == 400


@kind
def a_name_that_climbs(port: int, folder: Path) -> None:
    for name in ("../../../etc/passwd", "..\\..\\x", "\x00\r\nSet-Cookie: a=b", "/dev/full", "." * 50):
        about = post(port, (folder / "good.mp4").read_bytes(), name=name).json()
        assert not set("/\\\r\n\0") & set(about["name"])
        assert not about["name"].startswith(".")


@kind
def an_upload_that_breaks_off(port: int, folder: Path) -> None:
    with closing(socket.create_connection(("127.0.0.1", port))) as wire:
        wire.sendall(
            b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + bytes(5000)
        )


@kind
def an_upload_that_stops(port: int, folder: Path) -> None:
    said = raw(
        port, b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + bytes(5000)
    )
    assert b" 408 " in said.split(b"\r\n")[0]


# --- addresses and connections -----------------------------------------------------------------------------


@kind
def paths_that_climb(port: int, folder: Path) -> None:
    for path in (
        "/page/../rules.py",
        "/page/..%2frules.py",
        "/videos/..%2f..%2fetc/frames",
        "/page//etc/passwd",
    ):
        said = raw(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert b" 404 " in said.split(b"\r\n")[0]


@kind
def numbers_that_are_none(port: int, folder: Path) -> None:
    for path in (
        "frames?start=-1",
        "frames?count=999999999",
        "frames/9e9/picture",
        "download/exe",
        "tracks/x/thumbnail",
    ):
        assert httpx.get(f"http://127.0.0.1:{port}/videos/none/{path}").status_code in (404, 422)
    assert httpx.get(f"http://127.0.0.1:{port}/videos/none/frames/{9**40}/picture").status_code == 404


@kind
def a_hundred_idle_sockets(port: int, folder: Path) -> None:
    wires = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    for wire in wires:
        wire.settimeout(10)
        assert not wire.recv(1)  # hung up
        wire.close()


@kind
def half_a_request(port: int, folder: Path) -> None:
    assert raw(port, b"GET / HTTP/1.1\r\nHost: local") == b""


@kind
def half_of_a_second_request(port: int, folder: Path) -> None:
    said = raw(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHo")
    assert b" 200 " in said.split(b"\r\n")[0]


@kind
def no_http_at_all(port: int, folder: Path) -> None:
    assert b" 400 " in raw(port, bytes(range(256)) * 4 + b"\r\n\r\n").split(b"\r\n")[0]


@kind
def a_head_without_end(port: int, folder: Path) -> None:
    with suppress(OSError):
        said = raw(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000)
        assert b" 400 " in said.split(b"\r\n")[0]


@kind
def a_client_that_never_reads(port: int, folder: Path) -> None:
    """It asks until no more fits into its connection, which the server then drops."""
    wire = socket.create_connection(("127.0.0.1", port))
    wire.settimeout(10)
    with suppress(OSError):
        for _ in range(2000):
            wire.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    wire.close()


@kind
def many_downloads_at_once(port: int, folder: Path) -> None:
    """Each costs seconds of work; the server makes them one after the other, and answers others meanwhile."""
    home = f"http://127.0.0.1:{port}/videos"
    id = post(port, (folder / "good.mp4").read_bytes()).json()["id"]
    with ThreadPoolExecutor(50) as clients:
        asked = [clients.submit(httpx.get, f"{home}/{id}/download/mp4", timeout=120) for _ in range(50)]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
        assert {one.result().status_code for one in asked} <= {200, 404, 409}


@kind
def another_site(port: int, folder: Path) -> None:
    home = f"http://127.0.0.1:{port}"
    assert httpx.delete(f"{home}/videos/x", headers={"Origin": "https://evil.example"}).status_code == 403
    assert httpx.get(f"{home}/models", headers={"Host": "evil.example"}).status_code == 421


# --- streams -----------------------------------------------------------------------------------------------


def opened(port: int, first: str | bytes = "{}") -> ClientConnection:
    stream = connect(f"ws://127.0.0.1:{port}/stream", close_timeout=2)
    stream.send(first)
    return stream


def dismissed(stream: ClientConnection, *codes: int) -> None:
    """The server closes the stream for one of these reasons."""
    with stream, pytest.raises(ConnectionClosed) as closed:
        read_on(stream)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code in codes


def read_on(stream: ClientConnection) -> None:
    while True:
        stream.recv(timeout=15)


@kind
def beginnings_that_are_none(port: int, folder: Path) -> None:
    for first in (
        b"\xff\xd8",
        "",
        "[]",
        "{",
        '{"resume": {"$ne": 1}}',
        '{"score": 7}',
        '{"extra": 1}',
        "[" * 50_000,
    ):
        dismissed(opened(port, first), 1008)


@kind
def a_model_or_class_that_is_none(port: int, folder: Path) -> None:
    for start in ({"model": "../../etc"}, {"classes": ["<script>"]}):
        dismissed(opened(port, json.dumps(start)), 1008)


@kind
def a_stream_that_says_nothing(port: int, folder: Path) -> None:
    dismissed(connect(f"ws://127.0.0.1:{port}/stream"), 1008)


@kind
def a_stream_without_frames(port: int, folder: Path) -> None:
    dismissed(opened(port), 1008)


@kind
def garbage_frames(port: int, folder: Path) -> None:
    stream = opened(port)
    stream.recv()
    for _ in range(20):
        stream.send(b"\xff\xd8\xff" + bytes(100))
    dismissed(stream, 1008)


@kind
def a_cut_frame_among_good_ones(port: int, folder: Path) -> None:
    with opened(port) as stream:
        stream.recv()
        for data, good in ((jpeg(0), True), (jpeg(1)[:-500], False), ("text", False), (jpeg(1), True)):
            stream.send(data)
            assert ("objects" in json.loads(stream.recv())) == good


@kind
def a_frame_of_another_size(port: int, folder: Path) -> None:
    with opened(port) as stream:
        stream.recv()
        for size, good in (((96, 128), True), ((48, 64), False), ((96, 128), True)):
            stream.send(jpeg(0, size))
            assert ("objects" in json.loads(stream.recv())) == good


@kind
def a_frame_with_too_many_pixels(port: int, folder: Path) -> None:
    data = io.BytesIO()
    Pillow.new("RGB", (3000, 3000)).save(data, "JPEG")
    with opened(port) as stream:
        stream.recv()
        stream.send(data.getvalue())
        assert "too large" in json.loads(stream.recv())["error"]


@kind
def a_frame_with_too_many_bytes(port: int, folder: Path) -> None:
    stream = opened(port)
    stream.recv()
    with suppress(ConnectionClosed):
        stream.send(bytes(FRAME_BYTES + 10))
    dismissed(stream, 1009)


@kind
def a_stream_that_vanishes(port: int, folder: Path) -> None:
    stream = opened(port)
    stream.recv()
    stream.send(jpeg(0))
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()  # with a reset, and no farewell


@kind
def a_stream_that_never_reads(port: int, folder: Path) -> None:
    """It sends on and on. The server takes a frame, answers, and takes the next: nothing piles up in it."""
    with closing(socket.create_connection(("127.0.0.1", port))) as wire:
        wire.sendall(
            b"GET /stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        wire.settimeout(1)
        frame = jpeg(0)
        head = b"\x82\xfe" + struct.pack(">H", len(frame)) + bytes(4)  # masked with zeros
        with suppress(OSError):
            wire.sendall(b"\x81\x82" + bytes(4) + b"{}")
            end = time.monotonic() + 2
            while time.monotonic() < end:
                wire.sendall(head + frame)


def raw(port: int, data: bytes) -> bytes:
    """What the server says to these bytes until it hangs up."""
    with closing(socket.create_connection(("127.0.0.1", port))) as wire:
        wire.settimeout(15)
        with suppress(ConnectionError):
            wire.sendall(data)
        said = b""
        with suppress(ConnectionError):
            while part := wire.recv(1 << 16):
                said += part
        return said


def prepare(folder: Path) -> None:
    """The videos that some cases send."""
    write_video(folder / "good.mp4", 20)
    write_video(folder / "long.mp4", 120)
    with VideoWriter(folder / "large.mp4", 20) as writer:
        writer.write(np.zeros((480, 640, 3), np.uint8))
