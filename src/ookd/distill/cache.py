"""A folder that holds what a teacher knows of videos, so that it need not be asked again.

`manifest.json` says whose knowledge it is, of which data and by which rule, and names the shards: safetensors
files with their checksums and the videos in each. A shard is written beside its place, renamed, and only then
named in the manifest, so a kill at any moment leaves whole shards; one that was damaged later is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ookd.errors import UserError
from ookd.process import flush_to_disk

MANIFEST = "manifest.json"
SHARD = 64 << 20  # bytes from which a shard is closed


@dataclass(frozen=True, slots=True)
class Window:
    """What is known of some frames in a row of a video. M queries were kept."""

    first: int  # frame
    logits: Tensor  # [M, K] of the teacher's own classes
    features: Tensor  # [M, D]
    frame_features: Tensor  # [T, M, D]
    masks: Tensor  # [M, T, h, w] uint8: probabilities in steps of 1 / 255
    extent: Tensor  # [2] width and height, in pixels of the video's frames, that h x w cells span

    @property
    def frames(self) -> range:
        return range(self.first, self.first + len(self.frame_features))

    def tensors(self) -> dict[str, Tensor]:
        """What is stored of it, by name."""
        return {name: getattr(self, name).contiguous() for name in _STORED}

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors().values())


_STORED = ("logits", "features", "frame_features", "masks", "extent")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a cache is of. Knowledge of another subject is of no use."""

    teacher: str  # fingerprint of its weights
    data: list[dict[str, Any]]  # the sources, as the recipe has them
    min_score: float  # least score of what was kept
    tube_nms: float
    short_side: int | None  # frames were resized to it


class Cache:
    """Open to read and to add to.

    Shards that do not match their checksum are left out; `damaged` names them.
    """

    def __init__(self, folder: Path, subject: Subject) -> None:
        self.folder, self.subject = folder, subject
        self.damaged: list[str] = []
        self._shards: list[dict[str, Any]] = []
        self._place: dict[str, tuple[str, int, list[int]]] = {}  # video -> file, number in it, first frames
        self._pending: dict[str, list[Window]] = {}
        self._open: dict[str, Any] = {}
        if (folder / MANIFEST).exists():
            self._read_manifest()

    def __contains__(self, video: object) -> bool:
        return video in self._place

    def __len__(self) -> int:
        return len(self._place)

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(shard["bytes"] for shard in self._shards)

    def windows(self, video: str) -> list[int]:
        """The first frame of each window of a video that is in the cache."""
        return self._place[video][2]

    def read(self, video: str, window: int) -> Window:
        file, number, firsts = self._place[video]
        if file not in self._open:
            self._open[file] = safe_open(self.folder / file, "pt")
        shard = self._open[file]
        return Window(
            firsts[window], **{name: shard.get_tensor(f"{number}.{window}.{name}") for name in _STORED}
        )

    def add(self, video: str, windows: list[Window]) -> None:
        """Take in a video; it is on disk when its shard is full or `flush` is called."""
        self._pending[video] = windows
        waiting = sum(window.bytes for windows in self._pending.values() for window in windows)
        if waiting >= SHARD:
            self.flush()

    def flush(self) -> None:
        if not self._pending:
            return
        tensors: dict[str, Tensor] = {}
        videos: dict[str, list[int]] = {}
        for number, (video, windows) in enumerate(self._pending.items()):
            videos[video] = [window.first for window in windows]
            for w, window in enumerate(windows):
                tensors |= {f"{number}.{w}.{name}": value for name, value in window.tensors().items()}
        taken = {shard["file"] for shard in self._shards}
        file = next(
            name for n in range(len(taken) + 1) if (name := f"shard-{n:05d}.safetensors") not in taken
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{file}.part"
            save_file(tensors, part)
            self._shards.append(
                {"file": file, "sha256": _checksum(part), "bytes": part.stat().st_size, "videos": videos}
            )
            flush_to_disk(part)
            part.replace(self.folder / file)
            self._write_manifest()
        except (OSError, SafetensorError) as error:
            raise UserError(f"{self.folder}: cannot write what the teacher knows: {error}") from None
        self._open.pop(file, None)
        self._remember(self._shards[-1])
        self._pending.clear()

    def _read_manifest(self) -> None:
        path = self.folder / MANIFEST
        try:
            found = json.loads(path.read_text())
            subject = Subject(**found["subject"])
            shards = found["shards"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a manifest of a teacher's knowledge: {error}") from None
        for name, what in (
            ("teacher", "what another teacher knows"),
            ("data", "what a teacher knows of other data"),
            ("short_side", "what the teacher knows of frames of another size"),
        ):
            if getattr(subject, name) != getattr(self.subject, name):
                raise UserError(f"{self.folder} holds {what}: name another folder with --cache, or delete it")
        if subject.min_score > self.subject.min_score or subject.tube_nms < self.subject.tube_nms:
            raise UserError(
                f"{self.folder} was filtered by min_score {subject.min_score} and tube_nms "
                f"{subject.tube_nms}, this recipe by {self.subject.min_score} and {self.subject.tube_nms}: "
                "name another folder with --cache, or delete it"
            )
        self.subject = subject
        for shard in shards:
            if _checksum(self.folder / shard["file"]) == shard["sha256"]:
                self._shards.append(shard)
                self._remember(shard)
            else:
                self.damaged.append(shard["file"])

    def _remember(self, shard: Mapping[str, Any]) -> None:
        for number, (video, firsts) in enumerate(shard["videos"].items()):
            self._place[video] = shard["file"], number, firsts

    def _write_manifest(self) -> None:
        part = self.folder / f"{MANIFEST}.part"
        part.write_text(json.dumps({"subject": asdict(self.subject), "shards": self._shards}, indent=1))
        flush_to_disk(part)
        part.replace(self.folder / MANIFEST)


def fingerprint(model: nn.Module) -> str:
    """Of a model's weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
