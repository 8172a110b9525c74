"""The review page's server: what it shows, what it does, and whom it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from ookd.data import rle
from ookd.data.formats import load
from ookd.data.frames import decode_image
from ookd.errors import UserError
from ookd.review.labels import ReviewedLabels
from ookd.review.server import make_server
from review.labelled_set import labelled_set


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_set(tmp_path_factory.mktemp("review"))


@pytest.fixture
def labels(untouched: Path) -> Iterator[Path]:
    yield untouched
    (untouched / "instances.edits.jsonl").unlink(missing_ok=True)


@contextmanager
def serving(labels: Path) -> Iterator[int]:
    with make_server(ReviewedLabels(labels), 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def ask(
    port: int, path: str, edit: Any = None, host: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    known = {"Host": host or f"127.0.0.1:{port}", **({"X-Ookd-Review": "1"} if headers is None else headers)}
    body = edit if isinstance(edit, bytes) else None if edit is None else json.dumps(edit).encode()
    connection.request("GET" if edit is None else "POST", path, body, known)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, dict(answer.getheaders())


def test_videos_tracks_frames_and_masks(labels: Path) -> None:
    dataset = load(labels)
    with serving(labels) as port:
        overview = json.loads(ask(port, "/api/labels")[1])
        assert overview["classes"] == [category.name for category in dataset.categories]
        assert [(v["tracks"], v["unsure"], v["done"]) for v in overview["videos"]] == [(4, 1, False)] * 2
        first = overview["videos"][0]["id"]
        video = json.loads(ask(port, f"/api/videos/{first}")[1])
        scores = [track["score"] for track in video["tracks"]]
        assert scores == sorted(scores) == [0.44, 0.61, 0.78, 0.95]
        assert [track["doubtful"] for track in video["tracks"]] == [True, False, False, False]
        status, jpeg, headers = ask(port, f"/api/videos/{first}/images/5")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        assert decode_image(jpeg, Path("frame")).shape == (120, 200, 3)
        found = json.loads(ask(port, f"/api/videos/{first}/masks/5")[1])
        for track in dataset.videos[0].tracks:
            mask = track.segmentations[5]
            assert (str(track.id) in found["masks"]) == (mask is not None)
            if mask is not None:
                drawn = rle.decode({"size": [120, 200], "counts": found["masks"][str(track.id)]})
                assert np.array_equal(drawn, rle.decode(rle.from_any(mask, 120, 200)))
        for missing in (
            "/api/videos/99",
            f"/api/videos/{first}/images/12",
            "/api/x",
            "/../etc/passwd",
            "/page.py",
        ):
            status, body, _ = ask(port, missing)
            assert status == 404
            assert json.loads(body)["error"]


def test_edits_are_logged_and_change_what_is_read(labels: Path) -> None:
    annotations = (labels / "instances.json").read_bytes()
    first = load(labels).videos[0]
    a, b, c, d = (track.id for track in first.tracks)
    with serving(labels) as port:

        def edit(**fields: Any) -> tuple[int, Any]:
            status, body, _ = ask(port, "/api/edits", {"video": first.id, **fields})
            return status, json.loads(body)

        assert edit(op="drop", track=a)[0] == 200
        status, video = edit(op="cut", track=b, frame=6)
        new = max(track["id"] for track in video["tracks"])
        assert status == 200
        assert new > d
        assert edit(op="drop", track=c)[0] == edit(op="undo")[0] == 200
        assert edit(op="drop", track=a) == (400, {"error": f"there is no track {a}"})
        assert edit(op="burn")[0] == 400
        assert ask(port, "/api/edits", b"{")[0] == 400
        assert ask(port, "/api/edits", b"[1]")[0] == 400
    assert {track.id for track in load(labels).videos[0].tracks} == {b, c, d, new}
    assert len((labels / "instances.edits.jsonl").read_text().splitlines()) == 4
    with serving(labels) as port:  # goes on where it ended
        assert len(json.loads(ask(port, f"/api/videos/{first.id}")[1])["edits"]) == 2
    assert (labels / "instances.json").read_bytes() == annotations


def test_only_the_page_itself_is_answered(labels: Path) -> None:
    drop = {"op": "drop", "video": 1, "track": 1}
    with serving(labels) as port:
        assert ask(port, "/api/labels", host="evil.example")[0] == 403
        assert ask(port, "/api/edits", drop, headers={})[0] == 403  # what a form of another site can send
        assert ask(port, "/api/edits", b"x" * 70000)[0] == 413
        status, _, headers = ask(port, "/")
        assert status == 200
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers
        with pytest.raises(UserError, match=f"port {port} cannot be used"):
            make_server(ReviewedLabels(labels), port)
    assert not (labels / "instances.edits.jsonl").exists()


def test_a_log_of_other_labels_is_one_line(labels: Path) -> None:
    (labels / "instances.edits.jsonl").write_text('{"op": "drop", "video": 1, "track": 999}\n')
    with pytest.raises(UserError, match="there is no track 999"):
        ReviewedLabels(labels)
