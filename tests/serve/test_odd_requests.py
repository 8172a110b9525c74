"""Requests and streams that no page sends: each gets its answer, and the server goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from serve.abuse import RULES, dismissed, opened, post, raw
from serve.rounds import impatient
from serve.serving import jpeg, served, wait_for, write_video


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with impatient(), served(rules=RULES) as running:
        yield running.port


@pytest.fixture(scope="module")
def video(port: int, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a video that was sent."""
    film = write_video(tmp_path_factory.mktemp("video") / "a.mp4", 5)
    address = f"http://127.0.0.1:{port}/videos/{post(port, film.read_bytes()).json()['id']}"
    wait_for(lambda: httpx.get(address).json()["state"] not in ("waiting", "running"))
    return address


ASKED = {
    "a score that is no number": "frames/0/picture/../../../download/csv?score=nan",
    "a start without end": "frames?start=1e400",
    "a start in other digits": "frames?start=٣&count=³",
    "a frame of half a character": "frames/%ED%A0%80/picture",
    "a class of 20,000 letters": "download/csv?classes=" + "甲" * 7_000,
    "a kind with a null": "download/csv%00",
    "a track of true": "tracks/true/thumbnail",
}


@pytest.mark.parametrize("name", ASKED)
def test_odd_questions_are_refused(name: str, video: str, port: int) -> None:
    answer = httpx.get(f"{video}/{ASKED[name]}")
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 100_000
    assert httpx.get(video).status_code == 200


HEADERS = {
    "a length of thousands of digits": b"Content-Length: " + b"9" * 5000,
    "a length below zero": b"Content-Length: -5",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6",
    "a length and pieces": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "pieces of an odd size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "an encoding that nobody has": b"Transfer-Encoding: klingon",
}


@pytest.mark.parametrize("name", HEADERS)
def test_odd_lengths_are_refused(name: str, port: int) -> None:
    said = raw(port, b"POST /videos HTTP/1.1\r\nHost: localhost\r\n" + HEADERS[name] + b"\r\n\r\nhello")
    first = said.split(b"\r\n")[0]
    assert first[:9] == b"HTTP/1.1 "
    assert first[9:10] == b"4" or b" 501 " in first
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


RANGES = [
    "bytes=99999999999999999999-",
    "bytes=-1",
    "bytes=5-1",
    "bytes=" + "0-0," * 2000 + "1-1",
    "frames=1-2",
    "bytes=²-³",
]


@pytest.mark.parametrize("asked", RANGES)
def test_odd_ranges_of_a_download(asked: str, video: str) -> None:
    answer = httpx.get(f"{video}/download/csv", headers={"Range": asked.encode()})
    assert answer.status_code in (200, 206, 400, 416)
    assert len(answer.content) < 1_000_000


STARTS = {
    "a class in another alphabet": {"classes": ["甲" * 200]},
    "a model in another alphabet": {"model": "甲" * 200},
    "a class that steers terminals": {"classes": ["\x1b]0;mine\x07" * 50]},
    "a model that is half a character": '{"model": "\\ud800"}',
    "a score of text": {"score": "1e400"},
    "an id of a megabyte": {"resume": "x" * 2_000_000, "model": "none"},
}


@pytest.mark.parametrize("name", STARTS)
def test_odd_beginnings_are_told_why(name: str, port: int) -> None:
    start = STARTS[name]
    stream = opened(port, start if isinstance(start, str) else json.dumps(start, ensure_ascii=False))
    with stream, pytest.raises(ConnectionClosed) as closed:
        stream.recv(timeout=15)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert closed.value.rcvd.reason


def test_a_packed_message_that_bursts(port: int) -> None:
    """A megabyte of zeros is a kilobyte on the way, fifty are fifty."""
    with connect(f"ws://127.0.0.1:{port}/stream", compression="deflate", close_timeout=2) as stream:
        stream.send("{}")
        stream.recv()
        with suppress(ConnectionClosed, OSError):  # it hangs up before all is sent
            stream.send(bytes(50 << 20))
            dismissed(stream, 1009)
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_words_among_pictures(port: int, tmp_path: Path) -> None:
    """Pings, empty messages and texts between pictures: each message has one answer."""
    with opened(port) as stream:
        stream.recv()
        stream.ping(b"x" * 125)
        for message in (b"", "", "END", jpeg(0)):
            stream.send(message)
            assert json.loads(stream.recv(timeout=15)).keys() & {"error", "objects"}
