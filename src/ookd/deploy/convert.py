"""The graphs as files of a runtime, in the requested precision.

fp16 halves the files. Arithmetic stays in single precision on CPUs, where half precision is not fast. bf16
also computes the dense parts in bfloat16. So does int8 with the dense parts that stay in floating point,
unless the model has deformable attention. Only OpenVINO supports bfloat16, and it sets the arithmetic for a
whole graph, so the dense parts get a graph of their own. The mask graph always computes in single precision,
because its terms cancel.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from ookd.deploy.dense import dense_outputs
from ookd.deploy.folder import Kind, Precision
from ookd.deploy.graph import DOMAIN, OPERATOR, OnnxGraphs, split
from ookd.deploy.quantise import quantise
from ookd.deploy.runner import Arrays

SMALL = 256  # weights with fewer values stay in single precision


def write_graphs(
    graphs: OnnxGraphs, folder: Path, kind: Kind, precision: Precision, calibration: Iterable[Arrays]
) -> list[Path]:
    """The files written. `calibration` yields inputs of the frame graph, and is read only for int8."""
    family = graphs.family
    parts = {"frame": graphs.frame, "masks": graphs.masks}
    if precision == "int8":
        parts["frame"] = quantise(graphs.frame, (*family.dense, *family.broad), calibration)
    if kind == "openvino" and precision in ("bf16", "int8") and not graphs.deformable:
        parts["dense"], parts["frame"] = split(parts["frame"], dense_outputs(graphs.frame, family.dense))
    write = _write_openvino if kind == "openvino" else _write_onnx
    return [file for name, graph in parts.items() for file in write(graph, folder / name, precision)]


def _write_onnx(graph: onnx.ModelProto, path: Path, precision: Precision) -> list[Path]:
    file = path.with_suffix(".onnx")
    standard = onnx.inliner.inline_local_functions(graph)
    read = {name for node in standard.graph.node for name in node.input}
    for unread in [weight for weight in standard.graph.initializer if weight.name not in read]:
        standard.graph.initializer.remove(unread)  # ONNX Runtime would warn about it
    for node in standard.graph.node:  # where on this machine the source of each lies
        del node.metadata_props[:]
        node.doc_string = ""
    if precision == "fp16":
        _store_half(standard)
    onnx.save(standard, file)
    return [file]


def _store_half(model: onnx.ModelProto) -> None:
    """Store an ONNX model's weights in half precision, with a cast to single precision on loading."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) >= SMALL:
            name, values = weight.name, numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _write_openvino(graph: onnx.ModelProto, path: Path, precision: Precision) -> list[Path]:
    import openvino
    from openvino.frontend.onnx import ConversionExtension

    from ookd.deploy.openvino_deformable import Look

    def convert(node: Any) -> Any:
        return Look([node.get_input(i) for i in range(1, 6)]).outputs()

    source, file = path.with_suffix(".onnx"), path.with_suffix(".xml")
    onnx.save(graph, source)
    model = openvino.convert_model(source, extension=[ConversionExtension(OPERATOR, DOMAIN, convert)])
    if precision in ("fp16", "bf16"):
        _store_half_openvino(model)
    openvino.save_model(model, file, compress_to_fp16=False)
    source.unlink()
    return [file, file.with_suffix(".bin")]


def _store_half_openvino(model: Any) -> None:
    """Store an OpenVINO model's weights in half precision.

    OpenVINO's own option would also round the small constants that hold positions.
    """
    from openvino import Type, opset13

    for node in model.get_ops():
        single = node.get_type_name() == "Constant" and node.get_element_type() == Type.f32
        if single and np.prod(node.get_output_shape(0)) >= SMALL:
            half = opset13.convert(opset13.constant(node.data.astype(np.float16)), "f32")
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(half.output(0))
