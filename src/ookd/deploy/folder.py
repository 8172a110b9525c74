"""An exported model as a folder: config.json as in every model folder, the graphs, and a manifest.

The manifest describes the graphs and holds a checksum of every file, so that a damaged folder is refused with
a line that names the file. Nothing here needs PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic
from numpy.typing import NDArray
from safetensors.numpy import load_file

from ookd.errors import UserError
from ookd.files import checksum, write_file

Kind = Literal["openvino", "onnx"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
CONFIG, MANIFEST, START = "config.json", "manifest.json", "start.safetensors"
STATE, CARRIED = "state.", "carried."  # how inputs and outputs of the frame graph begin that are the state
SUFFIX: dict[Kind, str] = {"openvino": ".xml", "onnx": ".onnx"}
Record = TypeVar("Record", bound=pydantic.BaseModel)


class Manifest(pydantic.BaseModel, frozen=True, extra="forbid"):
    format: Literal[1] = 1
    ookd: str  # version that exported
    source: str  # fingerprint of the weights
    kind: Kind
    precision: Precision
    opset: int
    size: tuple[int, int]  # height and width of the frames that the graph takes
    outputs: list[str]  # of the frame graph: logits, boxes if the model has them, embed
    shared: list[str]  # further outputs of the frame graph, which are inputs of the mask graph
    aspect: Literal["keep", "square"] = "keep"  # square: images are stretched to the size
    # parts of what the model carries from frame to frame; START holds them as they are before the first
    state: list[str] = []
    files: dict[str, str]  # name -> SHA-256


class _ModelFields(pydantic.BaseModel):
    """The part of a model's configuration that tracking needs."""

    family: str


class _Config(pydantic.BaseModel):
    model: _ModelFields
    names: list[str]
    tracker: dict[str, Any]
    trained_on: str = ""
    licence: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class ExportedFolder:
    path: Path
    manifest: Manifest
    family: str
    names: list[str]  # of the classes, by label
    tracker: dict[str, Any]
    trained_on: str
    licence: str = ""
    source: str = ""

    def graph(self, part: Literal["frame", "masks"]) -> Path:
        return self.path / (part + SUFFIX[self.manifest.kind])


def is_exported(source: str | Path) -> bool:
    return (Path(source) / MANIFEST).is_file()


def read_exported(folder: str | Path) -> ExportedFolder:
    """The content of an exported folder, once the checksums of its files agree."""
    path = Path(folder)
    manifest = _read(path / MANIFEST, Manifest)
    for name, expected in manifest.files.items():
        try:
            found = checksum(path / name)
        except OSError as error:
            raise _unreadable(path / name, error) from None
        if found != expected:
            raise UserError(f"{path / name}: is not the file that was exported; export the model again")
    config = _read(path / CONFIG, _Config)
    return ExportedFolder(
        path,
        manifest,
        config.model.family,
        config.names,
        config.tracker,
        config.trained_on,
        config.licence,
        config.source,
    )


def read_start(folder: ExportedFolder) -> dict[str, NDArray[Any]]:
    """The state [1, ...] of a model before its first frame; empty for one that carries nothing."""
    if not folder.manifest.state:
        return {}
    arrays = load_file(folder.path / START)
    return {name: arrays[name] for name in folder.manifest.state}


def complete(
    folder: Path, manifest: Mapping[str, Any], config: Mapping[str, Any], graphs: Sequence[Path]
) -> None:
    """Add configuration and manifest to a folder that already holds the graphs."""
    path = folder / CONFIG
    write_file(path, json.dumps(config, indent=2) + "\n")
    files = {file.name: checksum(file) for file in [path, *graphs]}
    checked = Manifest.model_validate({**manifest, "files": files})
    # earlier versions do not know these fields
    usual = {name for name, value in (("aspect", "keep"), ("state", [])) if getattr(checked, name) == value}
    write_file(folder / MANIFEST, checked.model_dump_json(indent=2, exclude=usual) + "\n")


def _read(path: Path, record: type[Record]) -> Record:
    try:
        return record.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise _unreadable(path, error) from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise UserError(f"{path}: {where}: {first['msg']}; export the model again") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); export the model again") from None


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: {error.strerror or error}; export the model again")
