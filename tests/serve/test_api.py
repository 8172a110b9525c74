"""The HTTP API and the stream: what a program gets is what `ookd.track` says."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import ookd
from ookd.api import track
from ookd.data import rle
from ookd.data.video import open_source
from ookd.serve.rules import ServeRules
from ookd.tracking.sinks import SINKS, Sinks
from serve.serving import (
    FRAMES,
    STREAM,
    client,
    colour_tracker,
    finished,
    jpeg,
    pixels,
    wait_for,
    write_video,
)
from tracking.colour_model import NAMES

TYPES = {".json": "application/json", ".csv": "text/csv", ".txt": "text/plain"}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "squares.mp4")


def upload(http: TestClient, path: Path, **asked: str | float) -> dict:
    answer = http.post("/videos", content=path.read_bytes(), params={"name": path.name, **asked})
    assert answer.status_code == 201, answer.text
    return finished(http, answer.json()["id"])


def test_a_recording_is_tracked_as_by_track(video: Path) -> None:
    expected = list(track(video, colour_tracker()))
    with client() as http:
        about = upload(http, video)
        assert (about["state"], about["frames"], about["reason"]) == ("done", FRAMES, "")
        got = http.get(f"/videos/{about['id']}/frames").json()["frames"]
        tracks = http.get(f"/videos/{about['id']}/tracks").json()
    assert len(got) == len(expected)
    for frame, result in zip(got, expected, strict=True):
        assert frame["seconds"] == result.seconds
        assert [one["id"] for one in frame["objects"]] == result.ids.tolist()
        assert [one["class"] for one in frame["objects"]] == [NAMES[label] for label in result.labels]
        for one, mask in zip(frame["objects"], result.masks, strict=True):
            assert np.array_equal(rle.decode(one["rle"]), mask)
    seen = {
        id: [result.index for result in expected if id in result.ids] for id in (one["id"] for one in tracks)
    }
    for one in tracks:
        frames = seen[one["id"]]
        assert (one["first_frame"], one["last_frame"], one["frames"]) == (frames[0], frames[-1], len(frames))


def test_frames_are_given_in_parts_with_their_pictures(video: Path) -> None:
    with client() as http:
        id = upload(http, video)["id"]
        part = http.get(f"/videos/{id}/frames", params={"start": 30, "count": 4}).json()["frames"]
        assert [frame["frame"] for frame in part] == [30, 31, 32, 33]
        picture = pixels(http.get(f"/videos/{id}/frames/30/picture").content)
        with open_source(video, start=30, end=31) as source:
            (image,) = source
        assert np.abs(picture.astype(int) - image).mean() < 3  # JPEG
        sight = pixels(http.get(f"/videos/{id}/tracks/0/thumbnail").content)
        assert sight.shape == (96, 96, 3)
        assert http.get(f"/videos/{id}/frames/{FRAMES}/picture").status_code == 404
        assert http.get(f"/videos/{id}/tracks/99/thumbnail").status_code == 404
        unknown = http.get(f"/videos/{id}/download/avi")
        assert (unknown.status_code, "choose from mp4" in unknown.text) == (422, True)


@pytest.mark.parametrize("kind", ["json", "csv", "rle", "mot"])
def test_downloads_are_the_files_of_track(kind: str, video: Path, tmp_path: Path) -> None:
    with open_source(video) as source, Sinks(tmp_path, [kind], source) as sinks:
        for result in track(source, colour_tracker()):
            sinks.write(result)
    (file,) = tmp_path.iterdir()
    with client() as http:
        id = upload(http, video)["id"]
        answer = http.get(f"/videos/{id}/download/{kind}")
        assert f'filename="squares-{file.name}"' in answer.headers["content-disposition"]
        assert answer.content == file.read_bytes()
        assert answer.headers["content-type"].partition(";")[0] == TYPES[file.suffix]


def test_every_kind_of_result_is_a_download() -> None:
    with client() as http:
        paths = http.get("/openapi.json").json()["paths"]
        (kind,) = [
            one["schema"]
            for one in paths["/videos/{id}/download/{kind}"]["get"]["parameters"]
            if one["name"] == "kind"
        ]
        assert kind["enum"] == list(SINKS)
        page = http.get("/").text
        assert all(f'data-kind="{name}"' in page for name in SINKS)


def test_masks_come_as_a_zip_and_the_video_is_playable(video: Path, tmp_path: Path) -> None:
    with client() as http:
        id = upload(http, video)["id"]
        masks = zipfile.ZipFile(io.BytesIO(http.get(f"/videos/{id}/download/png").content))
        assert len(masks.namelist()) == FRAMES
        drawn = tmp_path / "drawn.mp4"
        drawn.write_bytes(http.get(f"/videos/{id}/download/mp4").content)
    with open_source(drawn) as source:
        assert (source.width, source.height, len(list(source))) == (128, 96, FRAMES)


def test_downloads_hold_what_is_asked_for(video: Path) -> None:
    with client() as http:
        id = upload(http, video)["id"]
        lines = http.get(f"/videos/{id}/download/csv", params={"classes": "leaf"}).text.splitlines()
        assert {line.split(",")[3] for line in lines[1:]} == {"leaf"}
        assert http.get(f"/videos/{id}/download/csv", params={"score": 1}).text.count("\n") == 1


def test_an_upload_may_ask_for_classes(video: Path) -> None:
    with client() as http:
        id = upload(http, video, classes="plum,leaf")["id"]
        assert {one["class"] for one in http.get(f"/videos/{id}/tracks").json()} == {"plum", "leaf"}
        bad = http.post("/videos", content=b"x", params={"classes": "plumm"})
        assert bad.status_code == 400
        assert "did you mean plum" in bad.json()["detail"]


def test_a_removed_video_is_gone_from_the_disk(video: Path) -> None:
    with client() as http:
        folder = http.app.app.state.shelf.folder
        id = upload(http, video)["id"]
        assert list(folder.iterdir())
        assert http.delete(f"/videos/{id}").status_code == 204
        assert not list(folder.iterdir())
        assert http.get(f"/videos/{id}").status_code == 404
    assert not folder.exists()


def test_the_oldest_video_makes_room(video: Path) -> None:
    with client(rules=ServeRules(videos=2)) as http:
        ids = [upload(http, video)["id"] for _ in range(3)]
        assert [http.get(f"/videos/{id}").status_code for id in ids] == [404, 200, 200]


def test_a_stream_answers_as_a_session() -> None:
    session = colour_tracker().session()
    with client() as http, http.websocket_connect(STREAM) as stream:
        stream.send_json({"model": "colours"})
        start = stream.receive_json()
        assert (start["resumed"], start["model"], start["classes"]) == (False, "colours", NAMES)
        for frame in range(25):
            stream.send_bytes(jpeg(frame))
            got, result = stream.receive_json(), session.step(pixels(jpeg(frame)))
            assert (got["frame"], [one["id"] for one in got["objects"]]) == (frame, result.ids.tolist())
            for one, mask in zip(got["objects"], result.masks, strict=True):
                assert np.array_equal(rle.decode(one["rle"]), mask)
        assert len(http.get(f"/videos/{start['stream']}/tracks").json()) >= 4


@pytest.mark.parametrize("carry", [False, True], ids=["memory of the tracker", "and state of the model"])
def test_a_stream_goes_on_after_a_break(carry: bool) -> None:
    session = colour_tracker(carry=carry).session()
    expected = [session.step(pixels(jpeg(frame))).scores.tolist() for frame in range(16)]
    got, id = [], None
    with client(colour_tracker(carry=carry)) as http:
        for part in (range(8), range(8, 16)):
            with http.websocket_connect(STREAM) as stream:
                stream.send_json({"resume": id})
                start = stream.receive_json()
                assert (start["resumed"], start["frames"]) == (id is not None, part.start)
                id = start["stream"]
                for frame in part:
                    stream.send_bytes(jpeg(frame))
                    got.append([one["score"] for one in stream.receive_json()["objects"]])
    assert got == [pytest.approx(scores, abs=1e-6) for scores in expected]


def test_a_stream_that_nobody_comes_back_to_ends() -> None:
    with client(rules=ServeRules(resume_seconds=0.2)) as http:
        with http.websocket_connect(STREAM) as stream:
            stream.send_json({})
            id = stream.receive_json()["stream"]
            stream.send_bytes(jpeg(0))
            stream.receive_json()
        wait_for(lambda: http.get(f"/videos/{id}").json()["state"] == "done")
        with http.websocket_connect(STREAM) as stream:
            stream.send_json({"resume": id})
            assert not stream.receive_json()["resumed"]
        assert http.get(f"/videos/{id}/frames").json()["frames"]  # what was seen stays


def test_who_comes_back_takes_the_stream_over() -> None:
    with client() as http, http.websocket_connect(STREAM) as old:
        old.send_json({})
        id = old.receive_json()["stream"]
        with http.websocket_connect(STREAM) as new:
            new.send_json({"resume": id})
            assert new.receive_json()["resumed"]
            with pytest.raises(WebSocketDisconnect) as closed:
                old.receive_json()
            assert closed.value.code == 4001
            new.send_bytes(jpeg(0))
            assert new.receive_json()["frame"] == 0


def test_streams_share_the_model_and_keep_apart() -> None:
    """Each stream's answers are those that it gets alone, however they are batched."""
    tracker = colour_tracker()
    model, frames = tracker.model, 12
    slow = model.forward

    def forward(*given: object) -> object:
        time.sleep(0.02)  # so that frames of others come meanwhile
        return slow(*given)

    model.forward = forward
    colours = [(0, 1, 2, 3), (3, 4, 5), (5, 0, 1, 2), (2, 3, 4)]
    answers: dict[int, list] = {}

    def watch(number: int) -> None:
        with http.websocket_connect(STREAM) as stream:
            stream.send_json({})
            stream.receive_json()
            answers[number] = []
            for frame in range(frames):
                stream.send_bytes(jpeg(frame, colours=colours[number]))
                answers[number].append([(one["id"], one["rle"]) for one in stream.receive_json()["objects"]])

    with client(tracker) as http:
        threads = [threading.Thread(target=watch, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert model.calls < 4 * frames
    for number in range(4):
        session = colour_tracker().session()
        for frame, got in enumerate(answers[number]):
            result = session.step(pixels(jpeg(frame, colours=colours[number])))
            assert got == list(zip(result.ids.tolist(), rle.encode_many(result.masks), strict=True))


def test_streams_beyond_the_limit_wait_their_turn() -> None:
    with client(rules=ServeRules(streams=1)) as http:
        with http.websocket_connect(STREAM) as first:
            first.send_json({})
            first.receive_json()
            with http.websocket_connect(STREAM) as second:
                second.send_json({})
                with pytest.raises(WebSocketDisconnect) as closed:
                    second.receive_json()
                assert closed.value.code == 1013
        with http.websocket_connect(STREAM) as third:  # the first one was left, and makes room
            third.send_json({})
            assert third.receive_json()["frames"] == 0


def test_a_live_stream_keeps_its_last_frames() -> None:
    with client(rules=ServeRules(kept_frames=12)) as http, http.websocket_connect(STREAM) as stream:
        stream.send_json({})
        id = stream.receive_json()["stream"]
        for frame in range(40):
            stream.send_bytes(jpeg(frame))
            stream.receive_json()
        about = http.get(f"/videos/{id}").json()
        assert about["frames"] == 40
        assert 12 <= about["frames"] - about["first_frame"] <= 14
        assert http.get(f"/videos/{id}/frames/0/picture").status_code == 404
        assert http.get(f"/videos/{id}/frames").json()["frames"][0]["frame"] == about["first_frame"]
        stream.send_text("end")
        with pytest.raises(WebSocketDisconnect):
            stream.receive_json()
        lines = http.get(f"/videos/{id}/download/csv").text.splitlines()
        assert lines[1].startswith(f"{about['first_frame']},")


def test_health_metrics_and_description(video: Path) -> None:
    with client() as http:
        upload(http, video)
        assert http.get("/healthz").json() == {
            "status": "ok",
            "version": ookd.__version__,
            "models": ["colours"],
        }
        metrics = http.get("/metrics").text
        assert f'ookd_frames_total{{model="colours"}} {FRAMES}\n' in metrics
        assert 'ookd_videos{state="done"} 1\n' in metrics
        paths = http.get("/openapi.json").json()["paths"]
        assert {"/videos", "/videos/{id}/tracks", "/healthz", "/metrics"} <= set(paths)
        assert "script-src 'self'" in http.get("/").headers["content-security-policy"]
        assert http.get("/page/app.js").headers["content-type"].startswith("text/javascript")


def test_no_page_has_scripts_or_styles_of_its_own() -> None:
    with client() as http:
        for page in ("/", "/docs"):
            text = http.get(page).text
            assert "<script>" not in text
            assert "style=" not in text
            assert not any(f" on{event}=" in text for event in ("click", "load", "error", "change"))


def test_without_a_token_only_this_machine_is_answered() -> None:
    with client() as http:
        assert http.get("/models", headers={"Host": "evil.example"}).status_code == 421
        assert http.post("/videos", headers={"Origin": "https://evil.example"}).status_code == 403
        with (
            pytest.raises(WebSocketDisconnect),
            http.websocket_connect(STREAM, headers={"Origin": "https://evil.example"}),
        ):
            pass


def test_a_token_opens_everything_else_nothing(video: Path) -> None:
    with client(token="open sesame") as http:
        assert http.get("/healthz").status_code == 200
        for path in ("/", "/models", "/metrics", "/page/app.js", "/openapi.json", "/?token=wrong"):
            assert http.get(path).status_code == 401
        assert http.get("/models", headers={"Authorization": "Bearer open sesame"}).status_code == 200
        with pytest.raises(WebSocketDisconnect), http.websocket_connect(STREAM):
            pass
        first = http.get("/", params={"token": "open sesame"}, follow_redirects=False)
        assert (first.status_code, first.headers["location"]) == (303, "/")
        assert "HttpOnly" in first.headers["set-cookie"]
        assert http.get("/models").status_code == 200  # the cookie is kept
        with http.websocket_connect(STREAM) as stream:
            stream.send_json({})
            assert stream.receive_json()["model"] == "colours"
