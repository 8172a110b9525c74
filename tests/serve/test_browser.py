"""The page in a real browser: Debian's Chromium without a window, its camera fed from a clip."""

from __future__ import annotations

import base64
import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")

import av
import numpy as np
from PIL import Image as Pillow
from playwright.sync_api import sync_playwright

from serve.serving import FRAMES, Running, colour_tracker, served, write_video
from tracking.colour_model import scene

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)

NAMES = ["apple", "<img src=x onerror=alert(1)>", "plum"]
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "squares.mp4")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    clip = tmp_path_factory.mktemp("camera") / "clip.mjpeg"
    with av.open(str(clip), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=20)
        stream.height, stream.width = 384, 512
        stream.pix_fmt, stream.options = "yuvj420p", {"qscale": "2"}
        for frame in range(60):
            image = np.ascontiguousarray(scene(frame).repeat(4, 0).repeat(4, 1))
            for packet in stream.encode(av.VideoFrame.from_ndarray(image)):
                container.mux(packet)
        container.mux(stream.encode(None))
    arguments = [
        "--no-sandbox",  # of a container's root
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    ]
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with served(colour_tracker(NAMES)) as running:
        yield running


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Any, running: Running) -> Iterator[Any]:
    width, height = SIZES[request.param]
    context = browser.new_context(viewport={"width": width, "height": height}, permissions=["camera"])
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if is_fault(message) else None)
    page.on("dialog", lambda dialog: faults.append(f"a script ran: {dialog.message}"))
    page.goto(f"http://localhost:{running.port}/")
    page.wait_for_selector("#model option", state="attached")
    yield page
    context.close()
    assert not faults


def is_fault(message: Any) -> bool:
    """Not what the browser itself says about refused and broken requests."""
    network = ("Failed to load resource", "WebSocket connection")
    return message.type == "error" and not message.text.startswith(network)


def until(page: Any, happened: Any, seconds: float = 30.0) -> None:
    """Wait for what a page does; its policy forbids the scripts with which playwright waits."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, page.inner_text("body")
        page.wait_for_timeout(100)


def picture(page: Any) -> np.ndarray:
    """What the canvas shows, in its own pixels."""
    data = page.evaluate("() => document.getElementById('view').toDataURL('image/png')")
    return np.array(Pillow.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB"))


def slide(page: Any, id: str, value: int) -> None:
    page.evaluate(
        "([id, value]) => {"
        " const slider = document.getElementById(id);"
        " slider.value = value;"
        " slider.dispatchEvent(new Event('input'));"
        "}",
        [id, value],
    )


def watch(page: Any, video: Path) -> None:
    page.set_input_files("#file", video)
    until(page, lambda: page.inner_text("#hud").endswith(f"of {FRAMES}"))
    until(page, lambda: page.locator("#tracks li").count() >= 4)


def test_a_video_is_watched_and_looked_at_again(page: Any, video: Path) -> None:
    watch(page, video)
    slide(page, "scrub", 10)
    until(page, lambda: page.inner_text("#hud").startswith("frame 11 "))
    page.wait_for_timeout(300)
    image, shown = scene(10), picture(page)
    assert shown.shape == image.shape
    objects = (image != 128).any(2)
    assert np.abs(shown[objects].astype(int) - image[objects]).mean() > 15  # masks lie over them
    assert "apple" in page.inner_text("#tracks")


def test_an_object_is_followed(page: Any, video: Path) -> None:
    watch(page, video)
    first = page.locator("#tracks button").first
    first.click()
    until(page, lambda: first.get_attribute("aria-pressed") == "true")
    assert page.locator("#tracks li.chosen").count() == 1
    page.click("#free")
    until(page, lambda: page.locator("#tracks li.chosen").count() == 0)


def test_classes_and_score_choose_what_is_shown(page: Any, video: Path) -> None:
    watch(page, video)
    everything = page.locator("#tracks li").count()
    page.click("#classes summary")
    page.click("#class-list label:first-child")
    until(page, lambda: "apple" not in page.inner_text("#tracks"))
    assert page.locator("#tracks li").count() < everything
    assert NAMES[1] in page.inner_text("#tracks")  # as text, not as an image
    page.click("h2")
    slide(page, "score", 1)
    until(page, lambda: page.locator("#tracks li").count() == 0)


@pytest.mark.parametrize(("kind", "file"), [("mp4", "squares-annotated.mp4"), ("csv", "squares-boxes.csv")])
def test_what_was_seen_is_downloaded(kind: str, file: str, page: Any, video: Path) -> None:
    watch(page, video)
    page.click("#downloads summary")
    with page.expect_download() as download:
        page.click(f"#downloads a[data-kind={kind}]")
    assert download.value.suggested_filename == file
    assert download.value.path().stat().st_size > 500


def test_the_camera_is_followed_and_its_frames_do_not_queue(page: Any) -> None:
    page.click("#camera")
    until(page, lambda: "frames/s" in page.inner_text("#hud") and " ms" in page.inner_text("#hud"))
    until(page, lambda: page.locator("#tracks li").count() >= 2)
    page.wait_for_timeout(3000)
    delay = float(page.inner_text("#hud").split(" ms")[0])
    assert delay < 500  # it would grow with every frame if they waited
    page.click("#camera")
    until(page, lambda: page.inner_text("#camera") == "Camera")
    page.click("#downloads summary")
    with page.expect_download() as download:
        page.click("#downloads a[data-kind=json]")
    assert download.value.suggested_filename == "camera-frames.json"


def test_a_camera_goes_on_after_a_break(page: Any, running: Running) -> None:
    page.click("#camera")
    until(page, lambda: page.locator("#tracks li").count() >= 2)
    before = frames_of(page)
    running.break_streams()
    until(page, lambda: frames_of(page) > before + 15)  # counted from the first frame on, not anew
    assert page.is_hidden("#message") or "trained" in page.inner_text("#message")
    page.click("#camera")


def frames_of(page: Any) -> int:
    return int(page.get_attribute("#scrub", "max"))


def test_four_cameras_at_once(browser: Any, running: Running) -> None:
    contexts = [browser.new_context(permissions=["camera"]) for _ in range(4)]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.goto(f"http://localhost:{running.port}/")
        page.click("#camera")
    for page in pages:
        until(page, lambda page=page: page.locator("#tracks li").count() >= 2)
    for context in contexts:
        context.close()


def test_what_is_no_video_is_said(page: Any, tmp_path: Path) -> None:
    bad = tmp_path / "film.mp4"
    bad.write_bytes(b"no video" * 100)
    page.set_input_files("#file", bad)
    until(page, lambda: "not a video" in page.inner_text("#message"))
    assert page.is_visible("#welcome")


def test_the_api_describes_itself(page: Any, running: Running) -> None:
    page.goto(f"http://localhost:{running.port}/docs")
    until(page, lambda: "/videos/{id}/tracks" in page.inner_text("#api"))
