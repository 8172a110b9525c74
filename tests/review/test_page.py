"""The review page in a real browser, by keys and clicks, as people use it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ookd.clips.sources import DatasetClips
from ookd.data.formats import load
from review.labelled_set import labelled_set
from review.test_server import serving

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
expect = sync_api.expect
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SHOTS = os.environ.get("OOKD_SCREENSHOTS")  # a folder for pictures of the page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return labelled_set(tmp_path, 270, 480)


@pytest.fixture
def page(browser: Any, labels: Path) -> Iterator[Any]:
    with serving(labels) as port:
        page = browser.new_page(viewport={"width": 1280, "height": 720}, color_scheme="dark")
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#frame[data-shown]")
        yield page
        page.close()
        assert faults == []


def chosen(page: Any) -> int:
    return int(page.get_attribute("#tracks .chosen", "data-track"))


def listed(page: Any) -> list[int]:
    return [int(line.get_attribute("data-track")) for line in page.query_selector_all("#tracks li")]


def press(page: Any, key: str, edits: int) -> None:
    """Press a key and wait until so many edits of the video count."""
    page.keyboard.press(key)
    expect(page.locator("#edits li")).to_have_count(edits)


def test_drop_rename_join_cut_undo_and_done(page: Any, labels: Path) -> None:
    dataset = load(labels)
    classes = [category.name for category in dataset.categories]
    video = dataset.videos[0]
    doubtful, third, second, first = listed(page)  # the least sure first
    assert (first, second, third, doubtful) == tuple(track.id for track in video.tracks)
    assert chosen(page) == doubtful
    press(page, "d", 1)
    assert listed(page) == [third, second, first]
    press(page, "u", 0)
    assert listed(page) == [doubtful, third, second, first]

    page.click(f"#tracks li[data-track='{doubtful}']")
    press(page, "k", 1)
    page.click(f"#tracks li[data-track='{third}']")
    wanted = next(n for n in range(9) if n != video.tracks[2].category_id - 1)
    press(page, str(wanted + 1), 2)

    page.click(f"#tracks li[data-track='{second}']")
    page.keyboard.press("j")
    assert "same object" in page.inner_text("#message")
    page.click(f"#tracks li[data-track='{first}']")
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / "review-join.jpg"), quality=80)
    press(page, "j", 3)
    assert first not in listed(page)

    page.keyboard.press("Home")  # does nothing
    for _ in range(6 - int(page.input_value("#seek"))):
        page.keyboard.press("ArrowRight")
    assert page.input_value("#seek") == "6"
    press(page, "c", 4)
    press(page, "m", 5)
    assert page.inner_text("#progress") == "1 of 2 videos done"

    source = DatasetClips(load(labels))
    tracks = {track.id: track for track in source.dataset.videos[0].tracks}
    new = max(tracks)
    assert set(tracks) == {doubtful, third, second, new}
    assert not tracks[doubtful].iscrowd
    assert source.names[tracks[third].category_id - 1] == classes[wanted]
    assert not any(tracks[second].segmentations[6:])
    assert not any(tracks[new].segmentations[:6])
    assert len(source.labels(0)) == 4


def test_it_plays_and_shows_what_is_clicked_on(page: Any, labels: Path) -> None:
    page.keyboard.press(" ")
    page.wait_for_selector("#frame[data-shown='11']")
    expect(page.locator("#play")).to_have_text("Play")
    page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_selector("#frame[data-shown='1']")
    from ookd.data import rle

    video = load(labels).videos[0]
    shown = [track for track in video.tracks if track.segmentations[1] is not None]
    target = next(track for track in shown if track.id != chosen(page))
    mask = rle.decode(rle.from_any(target.segmentations[1], video.height, video.width))
    for other in shown:
        if other.id != target.id:
            mask &= ~rle.decode(rle.from_any(other.segmentations[1], video.height, video.width))
    rows, columns = mask.nonzero()
    middle = len(rows) // 2
    box = page.locator("#frame").bounding_box()
    scale = min(box["width"] / video.width, box["height"] / video.height)
    left, top = (box["width"] - video.width * scale) / 2, (box["height"] - video.height * scale) / 2
    page.mouse.click(
        box["x"] + left + (columns[middle] + 0.5) * scale, box["y"] + top + (rows[middle] + 0.5) * scale
    )
    page.wait_for_selector(f"#tracks .chosen[data-track='{target.id}']")
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / "review.jpg"), quality=80)
    before = page.evaluate("document.querySelector('#frame').toDataURL()")
    page.keyboard.press("o")
    for _ in range(100):
        if page.evaluate("document.querySelector('#frame').toDataURL()") != before:
            return
        page.wait_for_timeout(50)
    raise AssertionError("the masks are still there")


def test_the_next_video_and_the_keys(page: Any) -> None:
    page.keyboard.press("n")
    expect(page.locator("#videos button").nth(1)).to_have_class("chosen")
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    assert not page.is_visible("#help")


def test_names_are_text_and_no_markup(browser: Any, labels: Path) -> None:
    file = labels / "instances.json"
    file.write_text(file.read_text().replace('"name":"', '"name":"<img src=x onerror=alert(1)>'))
    (labels / "dataset.yaml").unlink()
    frames = load(labels.parent / "world").root
    assert frames is not None
    (labels / "frames").symlink_to(frames)
    with serving(labels) as port:
        page = browser.new_page()
        alerts: list[Any] = []
        page.on("dialog", lambda dialog: alerts.append(dialog))
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#tracks li")
        assert "<img src=x" in page.inner_text("#tracks")
        assert page.query_selector_all("#tracks img") == []
        page.close()
    assert alerts == []
