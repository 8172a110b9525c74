"""Image files are opened as pictures alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from data.video_files import picture
from ookd.data.formats.label_images import read_label_image
from ookd.data.formats.problems import Problem
from ookd.data.frames import image_size, read_frame
from ookd.data.video import open_source
from ookd.data.video.images import SUFFIXES, read_image
from ookd.errors import UserError
from ookd.structures import Dataset, Video


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(picture(3)).save(path)
    assert np.abs(read_image(path).astype(int) - picture(3)).max() < 40


def test_postscript_under_another_name_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(3)).save(path, "EPS")
    with pytest.raises(UserError, match="is not an image"):
        read_frame(Dataset([], [Video(1, 128, 32, ["a.jpg"])], tmp_path), Video(1, 128, 32, ["a.jpg"]), 0)
    with pytest.raises(UserError, match="is not an image"):
        image_size(path)
    with pytest.raises(UserError, match="none of the 1 images"):
        open_source(path)
    problems: list[Problem] = []
    assert read_label_image(path, problems.append) is None
    assert "not a readable image" in problems[0].what
