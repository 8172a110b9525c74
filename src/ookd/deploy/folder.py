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
from pydantic import Field

from ookd.config.model_folder import FileName, ModelFolder, checked
from ookd.errors import UserError
from ookd.files import checksum, write_file
from ookd.untrusted import check_file, read_json

Kind = Literal["openvino", "onnx"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
CONFIG, MANIFEST = "config.json", "manifest.json"
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
    licence: str
    source: str

    def graph(self, part: Literal["frame", "masks"]) -> Path:
        return self.path / (part + SUFFIX[self.manifest.kind])


def is_exported(source: str | Path) -> bool:
    return (Path(source) / MANIFEST).is_file()


def read_exported(folder: str | Path) -> ExportedFolder:
    """The content of an exported folder, once the checksums of its files agree."""
    path = Path(folder)
    manifest = checked(read_json(path / MANIFEST), Manifest, path / MANIFEST, AGAIN)
    for name in sorted(_needed(path, manifest.kind) - manifest.files.keys()):
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


def _needed(folder: Path, kind: Kind) -> set[str]:
    """The files that a runtime would open, which the manifest must vouch for."""
    graphs = {part + SUFFIX[kind] for part in PARTS[:2]}
    return {CONFIG, *graphs, *(file.name for file in folder.iterdir() if file.stem in PARTS)}


def complete(
    folder: Path, manifest: Mapping[str, Any], config: Mapping[str, Any], graphs: Sequence[Path]
) -> None:
    """Add configuration and manifest to a folder that already holds the graphs."""
    path = folder / CONFIG
    write_file(path, json.dumps(config, indent=2) + "\n")
    files = {file.name: checksum(file) for file in [path, *graphs]}
    checked = Manifest.model_validate({**manifest, "files": files})
    usual = {"aspect"} if checked.aspect == "keep" else None  # earlier versions do not know the field
    write_file(folder / MANIFEST, checked.model_dump_json(indent=2, exclude=usual) + "\n")
