"""An exported model as a folder: config.json as in every model folder, the graphs, and a manifest.

The manifest describes the graphs and holds a checksum of every file, so that a damaged folder is refused with
a line that names the file. Nothing here needs PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ookd.config.model_folder import FileName, ModelFolder, checked
from ookd.errors import UserError
from ookd.files import checksum, write_file
from ookd.untrusted import check_file, read_json

Kind = Literal["openvino", "onnx"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
CONFIG, MANIFEST, START = "config.json", "manifest.json", "start.safetensors"
STATE, CARRIED = "state.", "carried."  # how inputs and outputs of the frame graph begin that are the state
SUFFIX: dict[Kind, str] = {"openvino": ".xml", "onnx": ".onnx"}
PARTS = ("frame", "masks", "dense")  # the graphs; the last one is not always there
AGAIN = "; export the model again"
Side = Annotated[int, Field(ge=1, le=2**14)]


class Manifest(pydantic.BaseModel, frozen=True, extra="forbid"):
    format: Literal[1] = 1
    ookd: str  # version that exported
    source: str  # fingerprint of the weights
    kind: Kind
    precision: Precision
    opset: int
    size: tuple[Side, Side]  # height and width of the frames that the graph takes
    outputs: list[str]  # of the frame graph: logits, boxes if the model has them, embed
    shared: list[str]  # further outputs of the frame graph, which are inputs of the mask graph
    aspect: Literal["keep", "square"] = "keep"  # square: images are stretched to the size
    antialias: bool = True  # whether images are smoothed when they are made smaller
    # parts of what the model carries from frame to frame; START holds them as they are before the first
    state: list[str] = []
    files: dict[FileName, str]  # name -> SHA-256

    @pydantic.model_validator(mode="after")
    def _enough_for_tracking(self) -> Self:
        if missing := {"logits", "embed"} - set(self.outputs):
            raise ValueError(f"outputs lack {' and '.join(sorted(missing))}")
        return self


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
    manifest = checked(read_json(path / MANIFEST), Manifest, path / MANIFEST, AGAIN)
    for name in sorted(_needed(path, manifest) - manifest.files.keys()):
        raise UserError(f"{path / MANIFEST}: has no checksum of {name}{AGAIN}")
    for name, expected in manifest.files.items():
        check_file(path / name)
        if checksum(path / name) != expected:
            raise UserError(f"{path / name}: is not the file that was exported{AGAIN}")
    config = checked(read_json(path / CONFIG), ModelFolder, path / CONFIG, AGAIN)
    family = config.model.get("family")
    if not isinstance(family, str):
        raise UserError(f"{path / CONFIG}: model.family: must be a text{AGAIN}")
    notes = (config.trained_on, config.licence, config.source)
    return ExportedFolder(path, manifest, family, config.names, config.tracker, *notes)


def _needed(folder: Path, manifest: Manifest) -> set[str]:
    """The files that a runtime would open, which the manifest must vouch for."""
    graphs = {part + SUFFIX[manifest.kind] for part in PARTS[:2]}
    start = {START} if manifest.state else set()
    return {CONFIG, *start, *graphs, *(file.name for file in folder.iterdir() if file.stem in PARTS)}


def read_start(folder: ExportedFolder) -> dict[str, NDArray[Any]]:
    """The state [1, ...] of a model before its first frame; empty for one that carries nothing."""
    if not folder.manifest.state:
        return {}
    try:
        arrays = load_file(folder.path / START)
        return {name: arrays[name] for name in folder.manifest.state}
    except (KeyError, SafetensorError) as error:
        raise UserError(f"{folder.path / START}: not the start of this model ({error}){AGAIN}") from None


def complete(
    folder: Path, manifest: Mapping[str, Any], config: Mapping[str, Any], graphs: Sequence[Path]
) -> None:
    """Add configuration and manifest to a folder that already holds the graphs."""
    path = folder / CONFIG
    write_file(path, json.dumps(config, indent=2) + "\n")
    files = {file.name: checksum(file) for file in [path, *graphs]}
    checked = Manifest.model_validate({**manifest, "files": files})
    # earlier versions do not know these fields
    newer = {"aspect": "keep", "antialias": True, "state": []}
    usual = {name for name, value in newer.items() if getattr(checked, name) == value}
    write_file(folder / MANIFEST, checked.model_dump_json(indent=2, exclude=usual) + "\n")
