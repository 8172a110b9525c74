"""Sound files of every kind that commands read, small, from which trials make others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from PIL import Image

import small_set
from cli.data_and_model import write_data, write_model
from data.video_files import write_video
from engine.tiny import CHANGES

SIZE = "64x96"  # of exported frames


class Material:
    """Each thing is made when it is first asked for, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def data(self) -> Path:
        """Four annotated videos whose classes are those of `model`: instances.json and frames/."""
        return write_data(self._new("data")).parent

    @cached_property
    def set(self) -> Path:
        """Two tiny annotated videos: instances.json and JPEGImages/."""
        return small_set.write_set(self._new("set")).parent

    @cached_property
    def videos(self) -> Path:
        """A folder of four videos."""
        folder = self._new("videos")
        for number in range(4):
            write_video(folder / f"{number}.mp4", 40, first=10 * number)
        return folder

    @cached_property
    def model(self) -> Path:
        return write_model(self.folder / "model")

    @cached_property
    def exported(self) -> Path:
        """`model` for ONNX Runtime."""
        words = ("exported", "--to", "onnx", "--size", SIZE, "--no-check", "--scenes", "0")
        self._ookd("export", str(self.model), *words)
        return self.folder / "exported"

    @cached_property
    def run(self) -> Path:
        """A training run that stopped after four of six steps."""
        changes = [word for change in [*CHANGES, "data.val=null"] for word in ("--set", change)]
        self._ookd("train", "nano-ytvis-like", "--out", "run", "--device", "cpu", *changes)
        shutil.rmtree(self.folder / "run" / "checkpoints" / "step-00000006")
        return self.folder / "run"

    @cached_property
    def results(self) -> Path:
        """What `predict` leaves of `data` when it is killed before the last two videos."""
        out = self.folder / "results"
        words = ("--frames", "data/frames", "--model", str(self.model), "--out", "results", "--device", "cpu")
        self._ookd("predict", str(self.data / "instances.json"), *words)
        listed = json.loads((out / "results.json").read_text())
        (out / "results.json").unlink()
        (out / "videos").mkdir()
        for video in (1, 2):
            lines = [json.dumps(entry) + "\n" for entry in listed if entry["video_id"] == video]
            (out / "videos" / f"{video}.jsonl").write_text("".join(lines))
        return out

    @cached_property
    def predictions(self) -> list[dict[str, Any]]:
        """A result list for `set`: its own truth."""
        return [
            {key: track[key] for key in ("video_id", "category_id", "segmentations")} | {"score": 0.9}
            for track in small_set.document()["annotations"]
        ]

    @cache  # noqa: B019 - one object, as long as the program
    def converted(self, to: str) -> Path:
        """`set` in another format."""
        self._ookd("data", "convert", str(self.set), "--to", to, "--out", f"as-{to}")
        return self.folder / f"as-{to}"

    @cache  # noqa: B019
    def archive(self, kind: str) -> Path:
        """The frames of `set` in an archive."""
        return Path(shutil.make_archive(str(self.folder / "frames"), kind, self.set / "JPEGImages"))

    @cache  # noqa: B019
    def video(self, name: str, codec: str) -> bytes:
        """Twelve frames."""
        pixels = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
        return write_video(self.folder / name, 12, codec, pixels).read_bytes()

    @cache  # noqa: B019
    def image(self, suffix: str) -> bytes:
        path = self.folder / f"image{suffix}"
        Image.fromarray(small_set.image("a", 0)).resize((96, 64)).save(path)
        return path.read_bytes()

    def _new(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name

    def _ookd(self, *command: str) -> None:
        """In a process of its own, so that none of its threads is there when this one forks."""
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-m", "ookd", *command]
        done = subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")
