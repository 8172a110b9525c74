"""A model folder becomes an exported folder: traced, converted, and compared with what it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

import ookd
from ookd.data.new_folder import check_free, new_folder
from ookd.deploy import folder
from ookd.deploy.folder import MANIFEST, Kind, Precision
from ookd.deploy.graph import OPSET, Graphs, trace
from ookd.errors import UserError
from ookd.models import zoo
from ookd.models.preprocess import STRIDE


def export(
    source: str | Path,
    out: Path,
    kind: Kind,
    precision: Precision,
    size: tuple[int, int],
    *,
    overwrite: bool = False,
) -> None:
    """Write the exported folder of a model."""
    if any(side < STRIDE or side % STRIDE for side in size):
        raise UserError(f"size {size[0]}x{size[1]}: height and width must be multiples of {STRIDE}")
    check_free(out, overwrite, (MANIFEST,))
    saved = zoo.load(source)
    config: Any = saved.model.config
    graphs = trace(saved.model, size)
    manifest = {
        "ookd": ookd.__version__,
        "source": zoo.fingerprint(saved.model),
        "kind": kind,
        "precision": precision,
        "opset": OPSET,
        "size": size,
        "outputs": graphs.outputs,
        "shared": graphs.shared,
    }
    fields = {"model": config.model_dump(mode="json"), "names": saved.names, "tracker": saved.tracker}
    with new_folder(out, overwrite, (MANIFEST,)) as part:
        files = WRITERS[kind](graphs, part, precision)
        folder.write(part, manifest, fields, files)


def _write_onnx(graphs: Graphs, part: Path, precision: Precision) -> list[Path]:
    files = [part / "frame.onnx", part / "masks.onnx"]
    for graph, file in zip((graphs.frame, graphs.masks), files, strict=True):
        onnx.save(graph, file)
    return files


def _write_openvino(graphs: Graphs, part: Path, precision: Precision) -> list[Path]:
    import openvino

    files = []
    onnx_files = _write_onnx(graphs, part, precision)
    for file in onnx_files:
        xml = file.with_suffix(".xml")
        openvino.save_model(openvino.convert_model(file), xml, compress_to_fp16=precision != "fp32")
        files += [xml, xml.with_suffix(".bin")]
        file.unlink()
    return files


WRITERS = {"onnx": _write_onnx, "openvino": _write_openvino}
