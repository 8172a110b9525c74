"""The graphs as files of a runtime, in the precision asked for.

fp16 halves the files; arithmetic stays in single precision on CPUs, which have no fast half one. bf16 also
computes the dense parts in bfloat16, which only OpenVINO has, and it has one arithmetic a graph: so these are
a graph of their own. The mask graph always computes in single precision, for its terms cancel.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from ookd.deploy.dense import handed_on
from ookd.deploy.engine import Arrays
from ookd.deploy.folder import Kind, Precision
from ookd.deploy.graph import BAG_NAME, DOMAIN, Graphs, split
from ookd.deploy.quantise import quantise

SMALL = 256  # values: weights with fewer stay in single precision


def write_graphs(
    graphs: Graphs, folder: Path, kind: Kind, precision: Precision, calibration: Iterable[Arrays]
) -> list[Path]:
    """The files written. `calibration` gives inputs of the frame graph, and is read only for int8."""
    parts = {"frame": graphs.frame, "masks": graphs.masks}
    if precision == "int8":
        parts["frame"] = quantise(graphs.frame, calibration)
    elif precision == "bf16":
        parts["dense"], parts["frame"] = split(graphs.frame, handed_on(graphs.frame))
    write = _write_openvino if kind == "openvino" else _write_onnx
    return [file for name, graph in parts.items() for file in write(graph, folder / name, precision)]


def _write_onnx(graph: onnx.ModelProto, path: Path, precision: Precision) -> list[Path]:
    file = path.with_suffix(".onnx")
    standard = onnx.inliner.inline_local_functions(graph)
    onnx.save(_halved(standard) if precision == "fp16" else standard, file)
    return [file]


def _write_openvino(graph: onnx.ModelProto, path: Path, precision: Precision) -> list[Path]:
    import openvino
    from openvino import opset13
    from openvino.frontend.onnx import ConversionExtension

    def bag(node: Any) -> Any:
        return opset13.embedding_bag_packed_sum(*(node.get_input(i) for i in range(3))).outputs()

    source, file = path.with_suffix(".onnx"), path.with_suffix(".xml")
    onnx.save(graph, source)
    model = openvino.convert_model(source, extension=[ConversionExtension(BAG_NAME, DOMAIN, bag)])
    if precision in ("fp16", "bf16"):
        _halve(model)
    openvino.save_model(model, file, compress_to_fp16=False)
    source.unlink()
    return [file, file.with_suffix(".bin")]


def _halve(model: Any) -> None:
    """Store an OpenVINO model's weights in half precision. Its own way to do so also rounds the few constants
    that say where things are."""
    from openvino import Type, opset13

    for node in model.get_ops():
        single = node.get_type_name() == "Constant" and node.get_element_type() == Type.f32
        if single and np.prod(node.get_output_shape(0)) >= SMALL:
            half = opset13.convert(opset13.constant(node.data.astype(np.float16)), "f32")
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(half.output(0))


def _halved(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its weights stored in half precision, and cast when it is loaded."""
    halved = onnx.ModelProto()
    halved.CopyFrom(graph)
    casts = []
    for weight in halved.graph.initializer:
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) >= SMALL:
            name, values = weight.name, numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved
