"""What does a person see in the corner of the page of `ookd serve`?

A Chromium without a window opens the page; its camera plays a synthetic scene at 25 frames/s. Browser, server
and --model, exported to OpenVINO at --size, share this machine. The latency is from taking an image to its
result, as the page itself says. This needs `pip install playwright` and an installed Chromium.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import av
from PIL import Image as Pillow

from measuring import Table
from ookd.errors import UserError
from speed.serve import drawn, server

FPS = 25
WIDTHS = {"desktop": (1280, 800), "phone": (390, 844)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--size", default="160x288", help="of the export")
    parser.add_argument("--picture", default="360x640", help="of the camera")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4], help="pages at a time")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each row")
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the page")


def run(given: argparse.Namespace) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise UserError("playwright is not installed; pip install playwright") from None
    if chromium is None:
        raise UserError("no Chromium on this machine")
    columns = {"streams": "", "frames/s, all": ".1f", "p50 (ms)": ".0f", "p95 (ms)": ".0f", "tracks": ""}
    with tempfile.TemporaryDirectory() as name, Table(given, columns) as table, sync_playwright() as play:
        folder = Path(name)
        command = ["export", given.model, str(folder / "exported"), "--size", given.size, "--no-check"]
        subprocess.run([sys.executable, "-m", "ookd", *command], check=True, stdout=subprocess.DEVNULL)
        film(folder / "camera.mjpeg", given.picture)
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-sandbox"]
        camera += [f"--use-file-for-fake-video-capture={folder / 'camera.mjpeg'}"]
        browser = play.chromium.launch(executable_path=chromium, args=camera)
        for streams in given.streams:
            with server(folder / "exported", streams) as (port, _, _):
                pages = [opened(browser, port) for _ in range(streams)]
                pages[0].wait_for_timeout(1000 * given.seconds)
                said = [spoken(page) for page in pages]
                tracks = sum(page.locator("#tracks li").count() for page in pages)
                p50, p95, fps = zip(*said, strict=True)
                table.add(streams, sum(fps), mean(p50), mean(p95), tracks)
                if given.screenshots:
                    picture(pages[0], given.screenshots, f"{streams}-streams")
                for page in pages:
                    page.context.close()
        browser.close()


def film(path: Path, size: str) -> None:
    """The scene as a camera's clip."""
    height, width = map(int, size.split("x"))
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=FPS)
        stream.height, stream.width = height, width
        stream.pix_fmt, stream.options = "yuvj420p", {"qscale": "2"}
        for data in drawn(height, width):
            frame = av.VideoFrame.from_image(Pillow.open(io.BytesIO(data)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def opened(browser: Any, port: int) -> Any:
    """A page that shows its camera."""
    page = browser.new_context(permissions=["camera"]).new_page()
    page.goto(f"http://localhost:{port}/")
    page.wait_for_selector("#model option", state="attached")
    page.click("#camera")
    return page


def spoken(page: Any) -> tuple[float, float, float]:
    """Median and 95th percentile of the latency, and frames/s, in the corner of the page."""
    text = page.inner_text("#hud")
    found = re.search(r"(\d+) ms, p95 (\d+) ms\s+([\d.]+) frames/s", text)
    if found is None:
        raise UserError(f"the page shows no speed, but: {text}")
    return float(found[1]), float(found[2]), float(found[3])


def picture(page: Any, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for width, (across, down) in WIDTHS.items():
        page.set_viewport_size({"width": across, "height": down})
        page.wait_for_timeout(1000)
        page.screenshot(path=str(folder / f"{name}-{width}.png"))
