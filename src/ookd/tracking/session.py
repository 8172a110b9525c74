"""Live tracking: one image in, its objects out; any number of streams through one model.

Everything a stream carries is in its `state`, a dictionary of arrays. A stream restored at any frame
continues with the same results.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydantic
import safetensors
import safetensors.numpy

from ookd.config.tracker import TrackerConfig
from ookd.data.video.images import ImageLike, as_image
from ookd.errors import UserError
from ookd.files import new_file
from ookd.structures import FrameResult
from ookd.tracking.delayed import make_tracker
from ookd.tracking.frame_model import Arrays, FrameModel, Image, detect
from ookd.tracking.results import VideoResults
from ookd.tracking.select import Detections
from ookd.tracking.video_tracker import ResultFilter, VideoTracker
from ookd.untrusted import check_file

if TYPE_CHECKING:
    import torch

    from ookd.models.protocols import OnlineModel


class Stream:
    """The state of one video: the tracker's memory and the model's state."""

    def __init__(self, model: FrameModel, tracker: VideoTracker) -> None:
        self._model, self.tracker = model, tracker
        self.model_state = model.begin(1)

    @property
    def state(self) -> Arrays:
        """The state as named arrays; before the first image, without the memory."""
        carried = {} if self.model_state is None else self._model.save_state(self.model_state)
        memory = self.tracker.state
        return {
            **{f"memory.{name}": array for name, array in memory.items()},
            **{f"model.{name}": array for name, array in carried.items()},
        }

    @state.setter
    def state(self, arrays: Arrays) -> None:
        carried, fresh = _under("model.", arrays), self._model.begin(1)
        usual = {} if fresh is None else self._model.save_state(fresh)
        shapes = [
            {name: (array.shape, array.dtype) for name, array in state.items()} for state in (carried, usual)
        ]
        if carried and shapes[0] != shapes[1]:
            raise UserError("a saved state does not fit this model")
        memory = _under("memory.", arrays)
        embeds = memory.get("embeds", np.zeros(0))
        if embeds.ndim and embeds.size and (width := embeds.shape[-1]) != self._model.width:
            raise UserError(
                f"a saved state does not fit this model: its embeddings have {width} channels, those of the "
                f"model {self._model.width}"
            )
        self.tracker.state = memory
        self.model_state = self._model.load_state(carried) if carried else fresh


class MultiSession:
    """Streams tracked side by side, their images batched through one model.

    Images of different sizes are padded to the largest, which takes time and changes results slightly.
    """

    def __init__(
        self,
        model: OnlineModel | FrameModel,
        config: TrackerConfig,
        names: Sequence[str],
        device: torch.device | str | None,
        streams: int,
        *,
        show: ResultFilter | None = None,
        final: bool = False,
    ) -> None:
        self.model = model if isinstance(model, FrameModel) else _torch_model(model, device)
        self.config, self.names = config, names
        self._show, self._final = show, final
        self.streams = [self._new_stream() for _ in range(streams)]

    def step(self, images: Sequence[ImageLike], streams: Sequence[int] | None = None) -> list[FrameResult]:
        """Track the next image of each stream, or of some `streams` by number.

        An image is an array, uint8 [H, W, 3] RGB, a PIL image, or the path of a file.
        """
        chosen = self.streams if streams is None else [self.streams[number] for number in streams]
        if len(images) != len(chosen):
            raise UserError(f"{len(images)} images for {len(chosen)} streams; each stream takes one per step")
        if not chosen:
            return []
        arrays = [as_image(image) for image in images]
        frames = zip(chosen, self.detect(arrays, chosen), arrays, strict=True)
        return [stream.tracker.step(detections, image) for stream, detections, image in frames]

    def detect(self, images: Sequence[Image], chosen: Sequence[Stream]) -> list[Detections]:
        """The model's detections in the next image of each of these streams."""
        states = [stream.model_state for stream in chosen if stream.model_state is not None]
        state = self.model.batch_states(states) if states else None
        predictions, state = self.model.infer(images, self.config.short_side, state)
        if state is not None:
            for row, stream in enumerate(chosen):
                stream.model_state = {name: value[row : row + 1] for name, value in state.items()}
        return detect(predictions, self.config)

    def restart(self, stream: int) -> None:
        """Start another video in one stream, while the others continue."""
        self.streams[stream] = self._new_stream()

    def _new_stream(self) -> Stream:
        tracker = VideoTracker(self.config, self.names, show=self._show, final=self._final)
        return Stream(self.model, tracker)


class Session:
    """One stream, image by image."""

    def __init__(
        self,
        model: OnlineModel | FrameModel,
        config: TrackerConfig,
        names: Sequence[str],
        device: torch.device | str | None,
        *,
        show: ResultFilter | None = None,
        final: bool = False,
        ahead: int | None = 0,
    ) -> None:
        self._session = MultiSession(model, config, names, device, 1, show=show, final=final)
        (self._stream,) = self._session.streams
        if ahead != 0:
            self._stream.tracker = make_tracker(config, names, ahead=ahead, show=show, final=final)

    def step(self, image: ImageLike) -> FrameResult:
        """The objects in the next image: uint8 [H, W, 3] RGB, a PIL image, or the path of a file."""
        return self._session.step([image])[0]

    def stream(self, images: Iterable[Image], *, one_by_one: bool = False) -> Iterator[FrameResult]:
        """The results for one image after another.

        A network without state may already compute the next images, except with `one_by_one`. A session with
        a delay returns each result that many frames later.
        """
        return self._stream.tracker.follow(self._detections(images, one_by_one))

    def _detections(self, images: Iterable[Image], one_by_one: bool) -> Iterator[tuple[Detections, Image]]:
        session = self._session
        if one_by_one or self._stream.model_state is not None:
            for image in images:
                yield session.detect([image], [self._stream])[0], image
            return
        with closing(session.model.stream(images, session.config.short_side)) as answers:
            for (image,), predictions in answers:
                yield detect(predictions, session.config)[0], image

    @property
    def results(self) -> VideoResults:
        """The results of the whole video so far, if the session was made with `final=True`."""
        return self._stream.tracker.results

    @property
    def state(self) -> Arrays:
        """Everything the stream carries, as named arrays."""
        return self._stream.state

    @state.setter
    def state(self, arrays: Arrays) -> None:
        self._stream.state = arrays

    def save(self, path: str | Path) -> None:
        """Write the state to a safetensors file that `load` reads back."""
        with new_file(Path(path)) as part:
            safetensors.numpy.save_file(self.state, part, self._made_with())

    def load(self, path: str | Path) -> None:
        """Continue from a state saved with the same classes and tracker constants."""
        check_file(Path(path))
        try:
            with safetensors.safe_open(path, "numpy") as file:
                made_with = file.metadata()
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (OSError, TypeError, AttributeError, safetensors.SafetensorError) as error:  # of unknown types
            raise UserError(f"{path}: not a saved session ({error})") from None
        if not self._fits(made_with):
            raise UserError(f"{path}: saved with other classes or tracker constants than this session's")
        try:
            self.state = arrays
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def _made_with(self) -> dict[str, str]:
        """The settings that a saved state must match."""
        session = self._session
        return {"tracker": session.config.model_dump_json(), "names": json.dumps(list(session.names))}

    def _fits(self, made_with: dict[str, str] | None) -> bool:
        """Whether a state was saved by such a session. Constants that it lacks have their defaults."""
        try:
            saved = made_with or {}
            config = TrackerConfig.model_validate_json(saved["tracker"])
        except (KeyError, pydantic.ValidationError):
            return False
        return config == self._session.config and saved["names"] == self._made_with()["names"]


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _torch_model(model: OnlineModel, device: torch.device | str | None) -> FrameModel:
    from ookd.tracking.torch_model import TorchFrameModel  # exported models track without PyTorch

    return TorchFrameModel(model, device)
