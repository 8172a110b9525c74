"""The review page's server under requests that no page makes."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from review.labelled_set import labelled_set
from review.test_server import ask, serving


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_set(tmp_path_factory.mktemp("review"))


@pytest.fixture(scope="module")
def port(labels: Path) -> Iterator[int]:
    with serving(labels) as running:
        yield running


def raw(port: int, request: str, body: bytes = b"") -> bytes:
    """What the server says to it until it hangs up, or is silent for a moment."""
    head = f"{request} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Ookd-Review: 1\r\nConnection: close\r\n"
    with closing(socket.create_connection(("127.0.0.1", port))) as wire:
        wire.settimeout(5)
        wire.sendall(head.encode("latin-1", "replace") + body)
        said = b""
        while part := wire.recv(1 << 16):
            said += part
        return said


LENGTHS = {
    "thousands of digits": "9" * 5000,
    "other digits": "³",
    "below zero": "-1",
    "a text": "many",
    "hex": "0x10",
}


@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_that_are_none(name: str, port: int) -> None:
    said = raw(port, "POST /api/edits", f"Content-Length: {LENGTHS[name]}\r\n\r\n".encode("latin-1") + b"{}")
    assert b" 413 " in said.split(b"\r\n")[0]


EDITS = {
    "deep": "[" * 60_000,
    "a number of thousands of digits": '{"op": "drop", "video": ' + "9" * 5000 + ', "track": 1}',
    "a number that is none": '{"op": "drop", "video": 1, "track": NaN}',
    "a video of true": '{"op": "drop", "video": true, "track": 1}',
    "half a character": '{"op": "rename", "video": 1, "track": 1, "name": "\\ud800"}',
    "a class that is none": '{"op": "rename", "video": 1, "track": 1, "name": "<b>\\u001b[31m"}',
    "an edit of edits": '[{"op": "drop", "video": 1, "track": 1}]',
    "one key twice": '{"op": "drop", "op": "burn", "video": 1, "track": 1}',
    "bytes that are no text": b"\xff\xfe\x00",
    "a track joined with itself": '{"op": "join", "video": 1, "track": 1, "other": 1}',
    "a cut before the first frame": '{"op": "cut", "video": 1, "track": 1, "frame": -1}',
    "a cut with an id of one's own": '{"op": "cut", "video": 1, "track": 1, "frame": 99999999999, "new": -5}',
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_that_are_none_are_not_logged(name: str, port: int, labels: Path) -> None:
    text = EDITS[name]
    status, body, _ = ask(port, "/api/edits", text if isinstance(text, bytes) else text.encode())
    assert status == 400
    assert json.loads(body)["error"]
    assert not (labels / "instances.edits.jsonl").exists()
    assert ask(port, "/api/labels")[0] == 200


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /api/videos/1/images/²",
        "GET /page.js%00",
        "GET //etc/passwd",
        "GET http://evil/",
        "GET /api/videos/" + "9" * 15,
    ],
)
def test_paths_that_lead_nowhere(request_line: str, port: int) -> None:
    assert b" 404 " in raw(port, request_line, b"\r\n").split(b"\r\n")[0]


def test_readers_who_leave_are_no_news(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A browser that is closed while pictures load: the terminal stays as it is."""
    for _ in range(5):
        wire = socket.create_connection(("127.0.0.1", port))
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.sendall(f"GET /api/videos/1/images/3 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode() * 20)
        wire.close()  # with a reset
    for _ in range(3):
        assert ask(port, "/api/videos/1/masks/3")[0] == 200
    assert capfd.readouterr().err == ""


def test_idle_connections_hold_nobody_up(port: int) -> None:
    wires = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    for wire in wires:
        wire.sendall(b"POST /api/edits HTTP/1.1\r\n")
    assert ask(port, "/api/labels")[0] == 200
    for wire in wires:
        wire.close()
