"""8-bit convolutions and matrix products by ONNX Runtime's static quantisation, which OpenVINO reads as well.

Quantised is what all cells of a frame pass through, for that is nearly all of the arithmetic: the trunk, and
in models with an encoder over many cells that too. Queries, heads and the last layers of masks stay in
floating point.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from ookd.deploy.engine import Arrays
from ookd.errors import UserError

# what models call the parts that all cells pass through
DENSE = (
    ".trunk.",
    ".pixels.",
    ".attention.values",
    *(f".mask_head.{part}" for part in ("coarse", "middle", "fine", "reduce")),
)
SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter says which module a node comes from


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: Iterator[Arrays]) -> None:
        self._inputs = inputs

    def get_next(self) -> Arrays | None:
        return next(self._inputs, None)


def quantise(graph: onnx.ModelProto, calibration: Iterable[Arrays]) -> onnx.ModelProto:
    """The graph with its dense parts in 8 bits; ranges are the extremes seen in calibration."""
    nodes = dense_nodes(graph)
    if not nodes:
        raise UserError("int8: the model has no dense parts to quantise")
    logger, level = logging.getLogger(), logging.root.level
    logger.setLevel(logging.ERROR)  # it advises a preparation that this graph does not need
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole, small = Path(folder, "whole.onnx"), Path(folder, "small.onnx")
            onnx.save(graph, whole)
            quantize_static(
                whole,
                small,
                _Reader(iter(calibration)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=[node.name for node in nodes],
                extra_options={
                    # what a layer hands on is rounded after its ReLU, where the next one reads it
                    "OpTypesToExcludeOutputQuantization": ["Conv", "MatMul"],
                    "TensorQuantOverrides": _centred(graph, nodes),
                },
            )
            return onnx.load(small)
    finally:
        logger.setLevel(level)


def dense_nodes(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Convolutions, and products with weights."""
    weights = {weight.name for weight in graph.graph.initializer}
    return [
        node
        for node in graph.graph.node
        if (node.op_type == "Conv" or (node.op_type == "MatMul" and node.input[1] in weights))
        and any(part in _module(node) for part in DENSE)
    ]


def _centred(graph: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> dict[str, list[dict[str, object]]]:
    """Inputs of products that have both signs. OpenVINO's products want these to have their zero at 0."""
    positive = {node.output[0] for node in graph.graph.node if node.op_type == "Relu"}
    inputs = {node.input[0] for node in nodes if node.op_type == "MatMul"} - positive
    return {name: [{"quant_type": QuantType.QInt8, "symmetric": True}] for name in sorted(inputs)}


def _module(node: onnx.NodeProto) -> str:
    return "".join(entry.value for entry in node.metadata_props if entry.key == SCOPES)
