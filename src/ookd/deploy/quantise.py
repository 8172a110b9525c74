"""The dense and broad parts in 8 bits by ONNX Runtime's static quantisation, which OpenVINO reads as well."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from ookd.deploy.dense import weighted_nodes
from ookd.deploy.engine import Arrays
from ookd.errors import UserError


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: Iterator[Arrays]) -> None:
        self._inputs = inputs

    def get_next(self) -> Arrays | None:
        return next(self._inputs, None)


def quantise(
    graph: onnx.ModelProto, modules: Sequence[str], calibration: Iterable[Arrays]
) -> onnx.ModelProto:
    """The graph with these modules in 8 bits; ranges are the extremes seen in calibration."""
    nodes = weighted_nodes(graph, modules)
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


def _centred(graph: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> dict[str, list[dict[str, object]]]:
    """Inputs of products that have both signs. OpenVINO's products want these to have their zero at 0."""
    positive = {node.output[0] for node in graph.graph.node if node.op_type == "Relu"}
    inputs = {node.input[0] for node in nodes if node.op_type == "MatMul"} - positive
    return {name: [{"quant_type": QuantType.QInt8, "symmetric": True}] for name in sorted(inputs)}
