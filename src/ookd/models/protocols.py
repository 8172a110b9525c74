"""The interfaces of all models and training tasks, independent of their family.

Axes: B batch, T frames, H W pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

from pydantic import BaseModel, Field
from torch import Tensor, nn

from ookd.structures import Batch, ClipQueries, FrameQueries, StudentMatches

State = dict[str, Tensor]  # what an online model carries from frame to frame, the batch first


class ModelConfig(BaseModel, frozen=True, extra="forbid"):
    """The configuration of a model. It names the model's family."""

    family: str
    classes: int = Field(40, ge=1, description="number of classes")


class Network(nn.Module):
    """A network built from its configuration."""

    config: ModelConfig
    fixed_classes: bool = False  # whether training keeps its classes
    side: int | None = None  # of the frames, where the tracker's constants name none; None: as they are

    def load_pretrained(self) -> None:
        """Fill in the pretrained weights of the backbone, where there are any."""

    def stored_weights(self) -> Mapping[str, Tensor]:
        """The weights under the names that they have in model folders."""
        return self.state_dict()

    def own_weights(self, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights of a model folder under the names of `state_dict`."""
        return stored


class OnlineModel(Network):
    """Sees one frame of each of B streams at a time."""

    queries_stay: bool = False  # whether a query is the same object in all frames of a video

    @abstractmethod
    def forward(
        self, frames: Tensor, pad: Tensor, state: State | None = None
    ) -> tuple[FrameQueries, State | None]:
        """Normalised frames [B, 3, H, W], padding [B, H, W] and the state after the frames before."""

    def begin(self, streams: int) -> State | None:
        """The state before the first frames; None for a model that carries nothing."""
        return None

    def fix_size(self, height: int, width: int) -> None:
        """Compute once what depends on the padded size only. An export is traced for one size."""


class OfflineModel(Network):
    """Sees whole clips."""

    @abstractmethod
    def forward(self, clip: Tensor, pad: Tensor) -> ClipQueries:
        """Normalised clips [B, T, 3, H, W] and their padding [B, T, H, W]."""


class TrainingTask(nn.Module):
    """Turns batches into named loss terms. Terms without a weight are only reported."""

    model: Network
    weights: dict[str, float]
    weighs_frames: bool = False  # whether it knows the `weights` of `Tracks`

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms, not yet weighted."""


class StudentTask(TrainingTask):
    """The training of a model that can also learn from a teacher."""

    normalise: Callable[[Tensor, Tensor], Tensor]  # of the model's family: frames and their padding

    @abstractmethod
    def learn(self, batch: Batch) -> tuple[dict[str, Tensor], StudentMatches]:
        """The terms, and what the model answered for the frames it saw."""

    def answer(self, batch: Batch) -> FrameQueries:
        """The model's output for the frames that it sees of clips without labels."""
        batch = batch.seen_by_student()
        pad = batch.pad.flatten(0, 1)
        queries: FrameQueries = self.model(self.normalise(batch.frames.flatten(0, 1), pad), pad)[0]
        return queries
