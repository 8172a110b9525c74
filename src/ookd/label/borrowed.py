"""Find and load `transformers` models that only label, and are never trained or used for tracking here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ookd import untrusted
from ookd.errors import UserError
from ookd.label.prompts import Prompts
from ookd.models import hub
from ookd.models.catalogue import known_licence
from ookd.models.licence import announce, licence_in
from ookd.models.preprocess import Preprocessing
from ookd.models.transformers_network import library_class, quiet
from ookd.tracking.frame_model import Image
from ookd.tracking.torch_model import prepare

TOKENIZER = ("*token*.json", "vocab.*", "merges.txt")  # files of a text teacher besides its weights


@dataclass(frozen=True, slots=True)
class BorrowedFolder:
    """A folder written by `transformers`, and its origin."""

    path: Path
    id: str  # as the user named it, without the revision
    revision: str  # of the hub, or a digest of the weights
    licence: str

    @property
    def kind(self) -> str:
        """Its `model_type`."""
        return str(untrusted.read_json(self.path / hub.CONFIG).get("model_type", ""))

    @property
    def teacher(self) -> dict[str, str]:
        return {"id": self.id, "revision": self.revision, "licence": self.licence}

    def load(self, name: str, device: torch.device, **changes: Any) -> Any:
        """Load its model as this class of `transformers`, with changes to its configuration."""
        network = library_class(name)
        config = network.config_class.from_pretrained(self.path, local_files_only=True)
        for field, value in changes.items():
            setattr(config, field, value)
        try:
            with quiet():
                model, notes = network.from_pretrained(
                    self.path,
                    config=config,
                    local_files_only=True,
                    use_safetensors=True,
                    output_loading_info=True,
                )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{self.path}: cannot be loaded as {name}: {reason}") from None
        if missing := sorted(notes["missing_keys"]):
            raise UserError(f"{self.path / hub.WEIGHTS}: lacks {missing[0]} and {len(missing) - 1} others")
        announce(self.id, self.licence)
        return model.eval().to(device)

    def tokenizer(self) -> Any:
        try:
            with quiet():
                return library_class("AutoTokenizer").from_pretrained(
                    self.path, local_files_only=True, trust_remote_code=False
                )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{self.path}: its tokenizer cannot be read: {reason}") from None


class TextTeacher:
    """The description of a model that looks for the texts of `prompts`."""

    def __init__(self, folder: BorrowedFolder, prompts: Prompts, **changes: Any) -> None:
        """`changes` are those to the model's configuration, because its answers depend on them."""
        self._folder, self._prompts, self._changes = folder, prompts, changes

    @property
    def names(self) -> Sequence[str]:
        return self._prompts.names

    @property
    def teacher(self) -> Mapping[str, Any]:
        return {**self._folder.teacher, "prompts": self._prompts.as_dict()}

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"teacher": self._folder.teacher, "prompts": self._prompts.as_dict(), **self._changes}


def borrowed_folder(source: str) -> BorrowedFolder | None:
    """The folder of a hub id, or a local folder, if `transformers` wrote it; otherwise None."""
    if Path(source).is_dir():
        path = Path(source)
        if not (path / hub.CONFIG).is_file() or "model_type" not in untrusted.read_json(path / hub.CONFIG):
            return None
        return BorrowedFolder(path, path.name, _digest(path), licence_in(path))
    if (name := hub.hub_id(source)) is None:
        return None
    path = hub.download(name, TOKENIZER)
    id, _, revision = hub.pinned(name, path).partition("@")
    return BorrowedFolder(path, id, revision, known_licence(name) or licence_in(path))


def _digest(path: Path) -> str:
    from ookd.files import checksum

    return checksum(path / hub.WEIGHTS)[:16] if (path / hub.WEIGHTS).is_file() else ""


def squared(side: int, mean: float | None = None) -> Preprocessing:
    """Frames resized to squares. `mean` is mean and deviation of all channels; default: ImageNet's."""
    if mean is None:
        return Preprocessing(multiple=1, aspect="square")
    return Preprocessing((mean,) * 3, (mean,) * 3, multiple=1, aspect="square")


def pixels(image: Image, preprocessing: Preprocessing, side: int, device: torch.device) -> torch.Tensor:
    """[1, 3, h, w] a frame as network input."""
    frames, pad, _ = prepare([image], side, preprocessing, device)
    return preprocessing.normalise(frames, pad)
