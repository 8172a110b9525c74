"""A folder with a teacher's answers about videos, so that it need not run again.

`manifest.json` says which teacher answered, about which data and by which rule, and lists the shards:
safetensors files with their checksums and the videos in each. A shard is written beside its place, renamed,
and only then listed, so a kill at any moment leaves whole shards. Later damage is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pydantic
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ookd.config import Data, DataSource, Distill
from ookd.config.model_folder import FileName
from ookd.errors import UserError
from ookd.files import checksum, fingerprint, new_file, write_file
from ookd.untrusted import is_file, read_json

MANIFEST = "manifest.json"
SHARD = 64 << 20  # bytes from which a shard is closed


@dataclass(frozen=True, slots=True)
class CachedWindow:
    """The answer about some consecutive frames of a video. M queries were kept."""

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
        """What is stored, by name."""
        return {name: getattr(self, name).contiguous() for name in _STORED}

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors().values())


_STORED = ("logits", "features", "frame_features", "masks", "extent")


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What answers depend on. A cache with another key is of no use."""

    teacher: str  # fingerprint of its weights
    data: list[dict[str, Any]]  # the sources, as in the recipe
    min_score: float  # least score of what was kept
    tube_nms: float
    short_side: int | None  # size of the frames
    rename: dict[str, str] = field(default_factory=dict)  # names of classes that decided what was kept


def cache_key(teacher: nn.Module, data: Data, spec: Distill) -> CacheKey:
    """The key of a cache that serves a recipe."""
    return CacheKey(
        fingerprint(teacher, long=True),
        [_identity(source) for source in data.train],
        spec.filter.min_score,
        spec.filter.tube_nms,
        spec.teacher_side or (max(data.augment.sides) if data.augment.sides else None),
        dict(spec.rename),
    )


def _identity(source: DataSource) -> dict[str, object]:
    """What determines the pixels of a video. More videos of the same world begin with the same ones."""
    other = {"ratio", "videos", "unlabelled", "augment", "weigh"}
    if source.kind == "folder":
        other.add("part")
    own: dict[str, object] = source.model_dump(exclude=other, exclude_none=True)
    return own


class _Shard(pydantic.BaseModel):
    file: FileName
    sha256: str
    bytes: int
    videos: dict[str, list[int]]  # first frame of each window


class _Manifest(pydantic.BaseModel):
    subject: CacheKey
    shards: list[_Shard]


class TeacherCache:
    """Open to read and to add to.

    Shards that do not match their checksum are left out and named in `damaged`.
    """

    def __init__(self, folder: Path, key: CacheKey) -> None:
        self.folder, self.key = folder, key
        self.damaged: list[str] = []
        self._shards: list[dict[str, Any]] = []
        self._place: dict[str, tuple[str, int, list[int]]] = {}  # video -> file, number in it, first frames
        self._pending: dict[str, list[CachedWindow]] = {}
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

    def read(self, video: str, window: int) -> CachedWindow:
        file, number, firsts = self._place[video]
        if file not in self._open:
            self._open[file] = safe_open(self.folder / file, "pt")
        shard = self._open[file]
        return CachedWindow(
            firsts[window], **{name: shard.get_tensor(f"{number}.{window}.{name}") for name in _STORED}
        )

    def add(self, video: str, windows: list[CachedWindow]) -> None:
        """Add a video. It reaches the disk when its shard is full, or with `flush`."""
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
        with new_file(self.folder / file) as part:
            save_file(tensors, part)
            digest, size = checksum(part), part.stat().st_size
        self._shards.append({"file": file, "sha256": digest, "bytes": size, "videos": videos})
        self._write_manifest()
        self._open.pop(file, None)
        self._remember(self._shards[-1])
        self._pending.clear()

    def _read_manifest(self) -> None:
        path = self.folder / MANIFEST
        try:
            found = _Manifest.model_validate(read_json(path))
        except (UserError, ValueError, RecursionError) as error:
            what = " ".join(str(error).removeprefix(f"{path}: ").split())
            raise UserError(f"{path} is not the manifest of a teacher's cache: {what:.200}") from None
        key, shards = found.subject, [shard.model_dump() for shard in found.shards]
        for name, what in (
            ("teacher", "another teacher"),
            ("data", "other data"),
            ("short_side", "frames of another size"),
            ("rename", "classes of other names"),
        ):
            if getattr(key, name) != getattr(self.key, name):
                raise UserError(
                    f"{self.folder} holds a cache of {what}: name another folder with --cache, or delete it"
                )
        if key.min_score > self.key.min_score or key.tube_nms < self.key.tube_nms:
            raise UserError(
                f"{self.folder} was filtered with min_score {key.min_score} and tube_nms {key.tube_nms}, "
                f"but this recipe asks for {self.key.min_score} and {self.key.tube_nms}: "
                "name another folder with --cache, or delete it"
            )
        self.key = key
        for shard in shards:
            path = self.folder / shard["file"]
            if is_file(path) and checksum(path) == shard["sha256"]:
                self._shards.append(shard)
                self._remember(shard)
            else:
                self.damaged.append(shard["file"])

    def _remember(self, shard: Mapping[str, Any]) -> None:
        for number, (video, firsts) in enumerate(shard["videos"].items()):
            self._place[video] = shard["file"], number, firsts

    def _write_manifest(self) -> None:
        manifest = {"subject": asdict(self.key), "shards": self._shards}
        write_file(self.folder / MANIFEST, json.dumps(manifest, indent=1))
