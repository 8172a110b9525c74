"""The graphs as files of a runtime, in the precision asked for.

fp16 halves the files; arithmetic stays in single precision on CPUs, which have no fast half one. bf16 also
computes the dense parts in bfloat16, and so does int8 with what of them stays in floating point, unless there
is deformable attention. Only OpenVINO has bfloat16, and it has one arithmetic a graph: so these parts are a
graph of their own. The mask graph always computes in single precision, for its terms cancel.
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
from ookd.deploy.graph import DOMAIN, LOOK_NAME, Graphs, split
from ookd.deploy.quantise import quantise

SMALL = 256  # values: weights with fewer stay in single precision


def write_graphs(
    graphs: Graphs, folder: Path, kind: Kind, precision: Precision, calibration: Iterable[Arrays]
) -> list[Path]:
    """The files written. `calibration` gives inputs of the frame graph, and is read only for int8."""
    family = graphs.family
    parts = {"frame": graphs.frame, "masks": graphs.masks}
    if precision == "int8":
        parts["frame"] = quantise(graphs.frame, (*family.dense, *family.broad), calibration)
    if kind == "openvino" and precision in ("bf16", "int8") and not graphs.looks:
        parts["dense"], parts["frame"] = split(parts["frame"], handed_on(graphs.frame, family.dense))
    write = _write_openvino if kind == "openvino" else _write_onnx
    return [file for name, graph in parts.items() for file in write(graph, folder / name, precision)]


def _write_onnx(graph: onnx.ModelProto, path: Path, precision: Precision) -> list[Path]:
    file = path.with_suffix(".onnx")
    standard = onnx.inliner.inline_local_functions(graph)
    read = {name for node in standard.graph.node for name in node.input}
    for unread in [weight for weight in standard.graph.initializer if weight.name not in read]:
        standard.graph.initializer.remove(unread)  # the runtime would warn of it
    onnx.save(_halved(standard) if precision == "fp16" else standard, file)
    return [file]


def _write_openvino(graph: onnx.ModelProto, path: Path, precision: Precision) -> list[Path]:
    import openvino
    from openvino.frontend.onnx import ConversionExtension

    from ookd.deploy.openvino_look import Look

    def look(node: Any) -> Any:
        return Look([node.get_input(i) for i in range(1, 6)]).outputs()

    source, file = path.with_suffix(".onnx"), path.with_suffix(".xml")
    onnx.save(graph, source)
    model = openvino.convert_model(source, extension=[ConversionExtension(LOOK_NAME, DOMAIN, look)])
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
