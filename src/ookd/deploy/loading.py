"""A model ready to track, from a folder of weights, an exported folder, a bundled name or a hub id."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ookd.config.tracker import OfflineConfig, TrackerConfig
from ookd.deploy import runtime as runtimes
from ookd.deploy.folder import is_exported
from ookd.errors import UserError
from ookd.files import fingerprint
from ookd.models.licence import announce
from ookd.tracking.frame_model import FrameModel
from ookd.tracking.session import MultiSession, Session
from ookd.tracking.video_tracker import ResultFilter

if TYPE_CHECKING:
    import torch

    from ookd.models.protocols import Network, OnlineModel

RUNTIMES = ("auto", "torch", "compiled", *runtimes.RUNTIMES)


@dataclass(frozen=True, slots=True)
class Tracker:
    """A model, its class names and its tracker constants, from which sessions are made."""

    model: Network | FrameModel
    names: Sequence[str]
    config: TrackerConfig | OfflineConfig
    device: torch.device | None  # None for an exported model, whose runtime decides
    trained_on: str = ""  # "drawn worlds", if the model has seen nothing else
    licence: str = ""  # of the weights, if they come from elsewhere

    def session(
        self,
        *,
        classes: Collection[str] | None = None,
        score: float | None = None,
        final: bool = False,
        delay: int = 0,
    ) -> Session:
        """One stream. Only objects of these classes and with at least this score are shown; all are tracked.

        With `final` the session also collects the results of the whole video. With a `delay`, identities are
        decided that many frames later, using those frames.
        """
        if delay < 0:
            raise UserError(f"delay {delay}: must be a number of frames, 0 or more")
        show = self.filter(classes, score)
        model, config = self.online()
        return Session(model, config, self.names, self.device, show=show, final=final, ahead=delay)

    def sessions(
        self, streams: int, *, classes: Collection[str] | None = None, score: float | None = None
    ) -> MultiSession:
        """Several streams; each step is one batch through the model."""
        show = self.filter(classes, score)
        model, config = self.online()
        return MultiSession(model, config, self.names, self.device, streams, show=show)

    def fingerprint(self) -> str:
        """A digest of the weights, the same wherever they are stored."""
        if isinstance(self.model, runtimes.ExportedModel):
            return self.model.fingerprint
        model: Any = self.model
        return fingerprint(model)

    def online(self) -> tuple[OnlineModel | FrameModel, TrackerConfig]:
        """The model and its constants, if it is an online model."""
        if isinstance(self.config, OfflineConfig):
            raise UserError(
                "this model sees whole clips, not single frames; run it with `ookd predict DATA`, or choose "
                "an online model"
            )
        model: Any = self.model  # online, as its constants say
        return model, self.config

    def filter(self, classes: Collection[str] | None, score: float | None) -> ResultFilter:
        """Which objects a session shows."""
        if score is not None and not 0 <= score <= 1:
            raise UserError(f"score {score}: must lie between 0 and 1")
        if classes is None:
            return ResultFilter(None, score or 0.0)
        for name in classes:
            if name not in self.names:
                near = difflib.get_close_matches(name, self.names, 1)
                hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(self.names)}"
                raise UserError(f"the model has no class {name}; {hint}")
        return ResultFilter({label for label, name in enumerate(self.names) if name in classes}, score or 0.0)


def load(model: str | Path = "nano", device: str = "auto", runtime: str = "auto") -> Tracker:
    """Load a model, ready to track: a folder, a bundled name, a hub id or a short name for one.

    `ookd models` lists the names. The licence of weights from the hub is printed once. `runtime` runs the
    model: torch or compiled (`torch.compile`) for weights, openvino or onnx for a folder of `ookd export`;
    auto takes the fastest that is installed. `device` is where PyTorch computes.

    >>> session = ookd.load("nano").session()
    >>> result = session.step(image)  # uint8 [H, W, 3] RGB
    """
    if runtime not in RUNTIMES:
        raise UserError(f"runtime {runtime}: choose from {', '.join(RUNTIMES)}")
    if is_exported(model):
        exported = runtimes.load_exported(model, runtime)
        config = _constants(model, TrackerConfig(), exported.folder.tracker)
        folder = exported.folder
        if folder.licence:
            announce(folder.source or str(model), folder.licence)
        return Tracker(exported, folder.names, config, None, folder.trained_on, folder.licence)
    if runtime in runtimes.RUNTIMES:
        raise UserError(f"model {model}: {runtime} needs a folder of `ookd export`; this one holds weights")
    from ookd.models import zoo
    from ookd.models.families import family_of
    from ookd.tracking.torch_model import device_named

    place = device_named(device)
    saved = zoo.load(model, place)
    if runtime == "compiled":
        saved.model.compile()
    config = _constants(model, family_of(saved.model).tracker, saved.tracker)
    return Tracker(saved.model, saved.names, config, place, saved.trained_on, saved.licence)


def _constants(
    model: str | Path, usual: TrackerConfig | OfflineConfig, changes: Mapping[str, Any]
) -> TrackerConfig | OfflineConfig:
    """The constants of a family, with the changes of the model's folder."""
    try:
        return usual.changed(changes)
    except UserError as error:
        raise UserError(f"model {model}: {error}") from None
