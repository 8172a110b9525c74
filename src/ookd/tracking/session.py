"""Tracking live: one image in, the known objects out; any number of streams through one model.

All that a stream carries is in `state`, a dictionary of arrays: saved and put back at any frame, it goes on
to the same results.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ookd.config.tracker import TrackerConfig
from ookd.data import rle
from ookd.errors import UserError
from ookd.files import new_file
from ookd.masks import Geometry, full_size
from ookd.structures import FrameResult
from ookd.tracking.frame_model import FrameModel, Image, RawPredictions, detect
from ookd.tracking.memory import Memory
from ookd.tracking.results import VideoResults
from ookd.tracking.select import Detections
from ookd.tracking.tracker import advance

if TYPE_CHECKING:
    import torch

    from ookd.models.protocols import OnlineModel
    from ookd.models.protocols import State as ModelState

State = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ResultFilter:
    """Which of the tracked objects are shown; the others are tracked all the same."""

    labels: Collection[int] | None = None  # None: all
    score: float = 0.0


class MultiSession:
    """Streams tracked side by side, their images batched through one model.

    Images of different sizes are padded to the largest, which takes time and shifts answers a little.
    """

    def __init__(
        self,
        model: OnlineModel | FrameModel,
        config: TrackerConfig,
        names: Sequence[str],
        device: torch.device | None,
        streams: int,
        *,
        wanted: ResultFilter | None = None,
        final: bool = False,
    ) -> None:
        self.eye = model if isinstance(model, FrameModel) else _torch_eye(model, device)
        self.config, self.names, self.device = config, names, device
        self.wanted = wanted or ResultFilter()
        self.memories: list[Memory | None] = [None] * streams
        self.model_states: list[ModelState | None] = [None] * streams
        # The second answer, about each whole video, where it is asked for.
        self.results = [VideoResults(config) for _ in range(streams)] if final else None

    def step(self, images: Sequence[Image]) -> list[FrameResult]:
        """The next image of each stream, and what is known at it."""
        if len(images) != len(self.memories):
            raise UserError(
                f"{len(images)} images for {len(self.memories)} streams; each step takes one a stream"
            )
        sight, state = self.eye.look(images, self.config.short_side, _joined(self.model_states))
        self.model_states = _parted(state, len(images))
        return self.follow(images, sight)

    def follow(self, images: Sequence[Image], sight: RawPredictions) -> list[FrameResult]:
        """What is known at the next images once the network has seen them."""
        detections, geometries = detect(sight, self.config)
        return [
            self._advance(stream, images[stream], detections[stream], geometries[stream])
            for stream in range(len(images))
        ]

    def _advance(self, stream: int, image: Image, seen: Detections, geometry: Geometry) -> FrameResult:
        memory = self.memories[stream]
        if memory is None:
            memory = Memory.empty(seen.probs.shape[1], seen.embeds.shape[1], self.config)
        index = memory.frame
        ids, memory = advance(memory, seen, self.config)
        self.memories[stream] = memory

        known = np.flatnonzero(ids >= 0)
        ids = ids[known]
        row = np.searchsorted(memory.ids, ids)
        probs = memory.probs[row] / memory.seen[row, None].astype(np.float32)  # [N, K] mean so far
        labels, scores = probs.argmax(1), probs.max(1, initial=0)
        show = scores >= self.wanted.score
        if self.wanted.labels is not None:
            show &= np.isin(labels, list(self.wanted.labels))
        if self.results is None:
            masks, boxes = full_size(seen.masks[known[show]], geometry)
        else:
            masks, boxes = full_size(seen.masks[known], geometry)
            self.results[stream].add(ids, seen.probs[known], rle.encode_many(masks))
            masks, boxes = masks[show], boxes[show]
        return FrameResult(index, ids[show], labels[show], scores[show], boxes, masks, self.names, image)


class Session:
    """One stream, image by image."""

    def __init__(
        self,
        model: OnlineModel | FrameModel,
        config: TrackerConfig,
        names: Sequence[str],
        device: torch.device | None,
        *,
        wanted: ResultFilter | None = None,
        final: bool = False,
    ) -> None:
        self._one = MultiSession(model, config, names, device, 1, wanted=wanted, final=final)

    def step(self, image: Image) -> FrameResult:
        """What is known after this image [H, W, 3] RGB."""
        return self._one.step([image])[0]

    def stream(self, images: Iterable[Image]) -> Iterator[FrameResult]:
        """The same for one image after another; the network may already see the next ones meanwhile.

        It may if it carries nothing from frame to frame, which is known after the first.
        """
        one, images = self._one, iter(images)
        for image in images:
            yield self.step(image)
            if one.model_states[0] is None:
                break
        with closing(one.eye.stream(images, one.config.short_side)) as seen:
            for image, sight in seen:
                yield one.follow([image], sight)[0]

    @property
    def results(self) -> VideoResults:
        """The answer about the whole video so far, if the session was made with `final=True`."""
        if self._one.results is None:
            raise UserError("this session keeps no video results; make it with final=True")
        return self._one.results[0]

    @property
    def state(self) -> State:
        """Everything the stream carries, as named arrays; empty before the first image."""
        memory, carried = self._one.memories[0], self._one.model_states[0] or {}
        arrays = (
            {} if memory is None else {f"memory.{name}": value for name, value in memory.arrays().items()}
        )
        return arrays | {f"model.{name}": value.cpu().numpy() for name, value in carried.items()}

    @state.setter
    def state(self, arrays: State) -> None:
        memory = _under("memory.", arrays)
        carried = _under("model.", arrays)
        self._one.memories[0] = Memory.of_arrays(memory) if memory else None
        self._one.model_states[0] = _tensors(carried, self._one.device) if carried else None

    def save(self, path: str | Path) -> None:
        """Write the state to a safetensors file that `load` reads back."""
        with new_file(Path(path)) as part:
            safetensors.numpy.save_file(self.state, part, self._nature())

    def load(self, path: str | Path) -> None:
        """Go on from a state saved with the same classes and tracker constants."""
        try:
            with safetensors.safe_open(path, "numpy") as file:
                nature = file.metadata()
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"{path}: not a saved session ({error})") from None
        if nature != self._nature():
            raise UserError(f"{path}: saved with other classes or tracker constants than this session's")
        self.state = arrays

    def _nature(self) -> dict[str, str]:
        """What a saved state must agree with."""
        return {"tracker": self._one.config.model_dump_json(), "names": json.dumps(list(self._one.names))}


def _under(prefix: str, arrays: State) -> State:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _torch_eye(model: OnlineModel, device: torch.device | None) -> FrameModel:
    import torch

    from ookd.tracking.torch_model import TorchFrameModel

    return TorchFrameModel(model, device or torch.device("cpu"))


def _tensors(arrays: State, device: torch.device | None) -> ModelState:
    import torch

    return {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}


def _joined(states: Sequence[ModelState | None]) -> ModelState | None:
    """The states of all streams as one batch."""
    carried = [state for state in states if state is not None]
    if not carried:
        return None
    if len(carried) < len(states):
        raise UserError("streams of a model that carries state must start together")
    import torch

    return {name: torch.cat([state[name] for state in carried]) for name in carried[0]}


def _parted(state: ModelState | None, streams: int) -> list[ModelState | None]:
    if state is None:
        return [None] * streams
    return [{name: value[i : i + 1] for name, value in state.items()} for i in range(streams)]
