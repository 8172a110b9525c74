"""Training reads archives in place: a folder's batches, in any order, each archive opened once."""

from __future__ import annotations

import tarfile
import zipfile
from itertools import islice
from pathlib import Path

import pytest
import torch

import small_set
from ookd.clips.loader import make_loader
from ookd.clips.sampling import PairSampler
from ookd.clips.sources import ClipDataset, DatasetClips
from ookd.clips.transforms import Augmentation, RandomShortSide
from ookd.data import archives
from ookd.data.formats import load
from ookd.structures import Batch

EPOCHS = 4


def packed(folder: Path, kind: str) -> Path:
    """The small set, its frames in an archive beside the annotations."""
    file = small_set.write_set(folder)
    frames = folder / "JPEGImages"
    if kind == "zip":
        with zipfile.ZipFile(folder / "JPEGImages.zip", "w") as archive:
            for path in sorted(frames.rglob("*.png")):
                archive.write(path, path.relative_to(folder))
    elif kind == "tar":
        with tarfile.open(folder / "frames.tar", "w") as archive:
            archive.add(frames, ".")
    if kind != "folder":
        for path in [*frames.rglob("*.png")]:
            path.unlink()
    return file


def batches(folder: Path, kind: str, workers: int) -> list[Batch]:
    """Some epochs, shuffled."""
    file = packed(folder, kind)
    frames = folder / "frames.tar" if kind == "tar" else None
    source = DatasetClips(load(file, frames=frames))
    clips = ClipDataset(source, PairSampler(), [Augmentation(RandomShortSide((32, 64)))])
    return list(islice(make_loader(clips, 1, workers=workers), EPOCHS * len(source)))


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("workers", [0, 2])
def test_archives_give_the_batches_of_a_folder(kind: str, workers: int, tmp_path: Path) -> None:
    expected = batches(tmp_path / "folder", "folder", 0)
    found = batches(tmp_path / kind, kind, workers)
    assert [b.frames.shape for b in found] == [b.frames.shape for b in expected]
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_opened_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    real = getattr(archives, f"_open_{kind}")
    monkeypatch.setattr(archives, f"_open_{kind}", lambda archive: (opened.append(archive), real(archive))[1])
    assert len(batches(tmp_path, kind, 0)) == EPOCHS * 2
    assert len(opened) == 1
