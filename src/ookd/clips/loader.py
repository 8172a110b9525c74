"""From clips to batches: padding, mixtures of data sets, and an endless loader that can be resumed.

A batch depends only on (data, seed, number of clips before it). The number of workers does not matter, nor,
for the global batch, the number of ranks. A resumed run sees the same batches as one without a break.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from ookd.clips.sources import ClipDataset, DatasetClips
from ookd.errors import UserError
from ookd.process import stop_signals
from ookd.structures import Batch, Clip, Dataset, Origin, Tracks


def collate(clips: Sequence[Clip], divisor: int = 32) -> Batch:
    """Pad clips to one size, a multiple of `divisor`.

    Instances that no frame shows, because they are cropped out or covered, are left out.
    """
    lengths = {len(clip.images) for clip in clips}
    seen_by_student = {len(clip.student) for clip in clips}
    if len(lengths) > 1 or len(seen_by_student) > 1:
        raise ValueError(f"clips of one batch differ in frames: {lengths}, of the student: {seen_by_student}")
    sizes = np.array([[image.shape[:2] for image in clip.images] for clip in clips])  # [B, T, 2]
    height, width = (int(side) for side in -(-sizes.max(axis=(0, 1)) // divisor) * divisor)

    frames = np.zeros((*sizes.shape[:2], 3, height, width), np.uint8)
    pad = np.ones((*sizes.shape[:2], height, width), np.bool_)
    for b, clip in enumerate(clips):
        for t, image in enumerate(clip.images):
            h, w = image.shape[:2]
            frames[b, t, :, :h, :w] = image.transpose(2, 0, 1)
            pad[b, t, :h, :w] = False
    student = torch.tensor([clip.student for clip in clips]) if seen_by_student != {0} else None
    tracks = [_tracks(clip, height, width) for clip in clips]
    seeds = [clip.seed for clip in clips]
    origins = [_origin(clip) for clip in clips]
    return Batch(torch.from_numpy(frames), torch.from_numpy(pad), tracks, student, seeds, origins)


def _origin(clip: Clip) -> Origin:
    placed = clip.placed
    if placed is None:
        placed = np.broadcast_to(np.eye(2, 3), (len(clip.images), 2, 3))
    return Origin(clip.video, clip.frames, placed, clip.labelled)


def _tracks(clip: Clip, height: int, width: int) -> Tracks:
    boxes = np.stack([boxes_of(masks) for masks in clip.masks], axis=1)  # [N, T, 4]
    visible = boxes[..., 2] > 0
    shown = visible.any(axis=1)
    padded = np.zeros((int(shown.sum()), len(clip.masks), height, width), np.bool_)
    for t, masks in enumerate(clip.masks):
        h, w = masks.shape[1:]
        padded[:, t, :h, :w] = masks[shown]
    return Tracks(
        labels=torch.from_numpy(clip.labels[shown]),
        ids=torch.from_numpy(clip.ids[shown]),
        boxes=torch.from_numpy(boxes[shown]),
        masks=torch.from_numpy(padded),
        visible=torch.from_numpy(visible[shown]),
        ignore=_ignored(clip, height, width),
        weights=None if clip.weights is None else torch.from_numpy(clip.weights[shown]),
    )


def _ignored(clip: Clip, height: int, width: int) -> Tensor | None:
    if clip.ignore is None:
        return None
    padded = np.zeros((len(clip.ignore), height, width), np.bool_)
    for t, region in enumerate(clip.ignore):
        padded[t, : region.shape[0], : region.shape[1]] = region
    return torch.from_numpy(padded)


def boxes_of(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[N, H, W] -> [N, 4] cx cy w h in 0..1, zeros for an empty mask; a box includes its last pixel."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for n, mask in enumerate(masks):
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if len(rows):
            x0, x1, y0, y1 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
            boxes[n] = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
    height, width = masks.shape[1:]
    boxes /= np.array([width, height, width, height], np.float32)
    return boxes


class ClipStream(Protocol):
    """Clips by key, and the keys of each epoch in order: a `ClipDataset` or a `Mixture`."""

    seed: int

    def __len__(self) -> int:
        """Clips an epoch."""

    def __getitem__(self, key: Any) -> Clip: ...

    def order(self, epoch: int) -> Sequence[Any]: ...


class Mixture(TorchDataset[Clip]):
    """Several data sets, mixed in fixed ratios.

    An epoch has as many clips as the parts together, and each part gives its share of them. A part goes
    through all its videos before it starts again, whatever its share. A key is (part, epoch, video).
    """

    def __init__(self, parts: Sequence[ClipDataset], ratios: Sequence[float], seed: int = 0) -> None:
        if len(parts) != len(ratios) or not parts or min(ratios) <= 0:
            raise UserError(f"{len(parts)} data sets need as many ratios above 0, not {list(ratios)}")
        self.parts = list(parts)
        self.seed = seed
        whole = sum(len(part) for part in parts)
        self._shares = [max(1, round(whole * ratio / sum(ratios))) for ratio in ratios]

    def __len__(self) -> int:
        return sum(self._shares)

    def __getitem__(self, key: tuple[int, int, int]) -> Clip:
        part, epoch, video = key
        return self.parts[part][epoch, video]

    def order(self, epoch: int) -> list[tuple[int, int, int]]:
        keys = []
        for number, (part, share) in enumerate(zip(self.parts, self._shares, strict=True)):
            drawn = range(epoch * share, (epoch + 1) * share)  # counted over all epochs of this part
            orders = {e: part.order(e) for e in range(drawn[0] // len(part), drawn[-1] // len(part) + 1)}
            keys += [(number, *orders[k // len(part)][k % len(part)]) for k in drawn]
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch], spawn_key=(0,)))
        return [keys[k] for k in rng.permutation(len(keys))]


class LoaderState(TypedDict):
    """Progress of a run: `position` clips into `epoch`, of `epoch_length` clips each."""

    seed: int
    epoch: int
    position: int
    epoch_length: int
    data: str  # what tells the data from others; empty for worlds, which the recipe determines


def identity_of(stream: ClipStream) -> str:
    """What tells the videos on disk from others."""
    parts = stream.parts if isinstance(stream, Mixture) else [stream]
    sources = [part.source for part in parts if isinstance(part, ClipDataset)]
    return " ".join(source.identity() for source in sources if isinstance(source, DatasetClips))


def labelled_by(stream: ClipStream) -> str:
    """The models that annotated the data, with their licences and prompts; empty for people's work."""
    parts = stream.parts if isinstance(stream, Mixture) else [stream]
    sources = [part.source for part in parts if isinstance(part, ClipDataset)]
    found = [labeller_of(source.dataset) for source in sources if isinstance(source, DatasetClips)]
    return "; ".join(dict.fromkeys(filter(None, found)))


def labeller_of(dataset: Dataset) -> str:
    """The model that annotated a data set, in a line; empty for people's work."""
    info = dataset.extra.get("info")
    teacher = info.get("teacher") if isinstance(info, dict) else None
    if not isinstance(teacher, dict):
        return ""
    name = "@".join(str(teacher[key]) for key in ("id", "revision") if teacher.get(key)) or "an unnamed model"
    about = [str(teacher["licence"])] if teacher.get("licence") else []
    if isinstance(teacher.get("prompts"), dict):
        texts = (str(t) if t == name_ else f"{t}={name_}" for t, name_ in teacher["prompts"].items())
        about.append("asked for " + ", ".join(texts))
    return f"{name} ({'; '.join(about)})" if about else name


class _KeysOfBatches(Sampler[list[Any]]):
    """This rank's keys, an endless series of batches; a batch may span two epochs."""

    def __init__(self, stream: ClipStream, batch_size: int, rank: int, world: int, start: int) -> None:
        self.stream, self.start = stream, start
        self.batch_size, self.rank, self.world = batch_size, rank, world

    def __iter__(self) -> Iterator[list[Any]]:
        length = len(self.stream)
        known: tuple[int, Sequence[Any]] = (-1, ())
        first = self.start + self.rank * self.batch_size
        while True:
            keys = []
            for position in range(first, first + self.batch_size):
                epoch, place = divmod(position, length)
                if known[0] != epoch:
                    known = epoch, self.stream.order(epoch)
                keys.append(known[1][place])
            yield keys
            first += self.batch_size * self.world


class _Batches(TorchDataset[Batch | UserError]):
    """Batches by keys. A bad file is returned as an error; raised, torch would wrap it in a traceback."""

    def __init__(self, stream: ClipStream, divisor: int) -> None:
        self.stream = stream
        self.divisor = divisor

    def __getitem__(self, keys: list[Any]) -> Batch | UserError:
        try:
            return collate([self.stream[key] for key in keys], self.divisor)
        except UserError as error:
            return error


class ClipLoader:
    """An endless iterator of batches. `state_dict()` after a batch describes the run up to that batch."""

    def __init__(
        self,
        stream: ClipStream,
        batch_size: int,
        rank: int,
        world: int,
        fetch: Callable[[Iterable[list[Any]]], Iterable[Batch | UserError]],
    ) -> None:
        self.stream = stream
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self._fetch = fetch
        self._clips = 0  # taken by all ranks together
        self._data = identity_of(stream)

    def __iter__(self) -> Generator[Batch, None, None]:
        keys = _KeysOfBatches(self.stream, self.batch_size, self.rank, self.world, self._clips)
        try:
            # Not in a variable, which would keep torch's workers alive for seconds after an error.
            for batch in self._fetch(keys):
                if isinstance(batch, UserError):
                    raise batch
                self._clips += self.batch_size * self.world
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"a process that reads training data died ({_first_line(error)}); if memory ran out, "
                "use fewer workers"
            ) from error

    def state_dict(self) -> LoaderState:
        epoch, position = divmod(self._clips, len(self.stream))
        return {
            "seed": self.stream.seed,
            "epoch": epoch,
            "position": position,
            "epoch_length": len(self.stream),
            "data": self._data,
        }

    def load_state_dict(self, state: LoaderState) -> None:
        """Continue where `state` was taken. Batch size and number of ranks may differ, the data may not."""
        if (state["seed"], state["epoch_length"]) != (self.stream.seed, len(self.stream)):
            raise UserError(
                f"the run has seed {state['seed']} and {state['epoch_length']} clips an epoch, this recipe "
                f"has seed {self.stream.seed} and {len(self.stream)}: resume with the same data and seed"
            )
        if state["data"] not in ("", self._data):
            raise UserError("the run began with other videos or tracks: resume with the same data")
        self._clips = state["epoch"] * state["epoch_length"] + state["position"]


def make_loader(
    stream: ClipStream,
    batch_size: int,
    *,
    divisor: int = 32,
    workers: int = 2,
    rank: int = 0,
    world: int = 1,
    prefetch: int = 2,
) -> ClipLoader:
    """Batches of `batch_size` clips for this rank; those of all ranks, in order, form the global batch."""

    def fetch(keys: Iterable[list[Any]]) -> Iterable[Batch | UserError]:
        if workers:
            cv2.setNumThreads(1)  # a forked worker would wait for OpenCV threads that only its parent has
        return DataLoader(
            _Batches(stream, divisor),
            batch_size=None,
            sampler=keys,
            num_workers=workers,
            worker_init_fn=_begin_worker,
            prefetch_factor=prefetch if workers else None,
            generator=torch.Generator(),  # or each pass over the data would draw from the training's chance
        )

    return ClipLoader(stream, batch_size, rank, world, fetch)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(". ")


def _begin_worker(_: int) -> None:
    """One thread a worker, and signals to stop are left to the main process.

    A terminal and SLURM send them to every process of a job; workers end when the main one does.
    """
    cv2.setNumThreads(1)
    for request in stop_signals():
        signal.signal(request, signal.SIG_IGN)
