"""An exported model as a folder: config.json as in every model folder, two graphs, and a manifest.

The manifest says what the graphs are and holds a digest of every file, so that a damaged folder is refused
with a line that names the file. Nothing here needs PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from ookd.errors import UserError
from ookd.files import checksum, write_file

Kind = Literal["onnx", "openvino"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
CONFIG, MANIFEST = "config.json", "manifest.json"
SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}


class Manifest(pydantic.BaseModel, frozen=True, extra="forbid"):
    format: Literal[1] = 1
    ookd: str  # version that exported
    source: str  # fingerprint of the weights
    kind: Kind
    precision: Precision
    opset: int
    size: tuple[int, int]  # height and width of the frames that the graph takes
    outputs: list[str]  # of the frame graph: logits, boxes if there are any, embed
    aspect: Literal["keep", "square"] = "keep"  # square: images are stretched to the size
    shared: list[str]  # further outputs of the frame graph, which are inputs of the mask graph
    files: dict[str, str]  # name -> SHA-256


@dataclass(frozen=True, slots=True)
class Exported:
    """What an exported folder holds."""

    folder: Path
    manifest: Manifest
    family: str
    names: list[str]
    tracker: dict[str, Any]

    def graph(self, part: Literal["frame", "masks"]) -> Path:
        return self.folder / (part + SUFFIX[self.manifest.kind])


def is_exported(source: str | Path) -> bool:
    return (Path(source) / MANIFEST).is_file()


def read(folder: str | Path) -> Exported:
    """The folder's description, after every file was found whole."""
    folder = Path(folder)
    try:
        manifest = Manifest.model_validate(_json(folder / MANIFEST))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{folder / MANIFEST}: {where}: {first['msg']}; export the model again") from None
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            found = checksum(path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}; export the model again") from None
        if found != expected:
            raise UserError(f"{path}: is not the file that was exported; export the model again")
    config = _json(folder / CONFIG)
    return Exported(folder, manifest, config["model"]["family"], config["names"], config["tracker"])


def write(
    folder: Path, manifest: Mapping[str, Any], config: Mapping[str, Any], graphs: Sequence[Path]
) -> None:
    """Complete a folder that already holds the graphs."""
    path = folder / CONFIG
    write_file(path, json.dumps(config, indent=2) + "\n")
    files = {file.name: checksum(file) for file in [path, *graphs]}
    whole = Manifest.model_validate({**manifest, "files": files})
    write_file(folder / MANIFEST, whole.model_dump_json(indent=2) + "\n")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); export the model again") from None
