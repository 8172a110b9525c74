"""8-bit quantisation of the dense and broad parts with ONNX Runtime's tools. OpenVINO reads it too."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from ookd.deploy.dense import weighted_nodes
from ookd.deploy.runner import Arrays
from ookd.errors import UserError


class _CalibrationFrames(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: Iterator[Arrays]) -> None:
        self._inputs = inputs

    def get_next(self) -> Arrays | None:
        return next(self._inputs, None)


def quantise(
    graph: onnx.ModelProto, modules: Sequence[str], calibration: Iterable[Arrays]
) -> onnx.ModelProto:
    """The graph with these modules in 8 bits. Value ranges are the extremes in `calibration`."""
    nodes = weighted_nodes(graph, modules)
    if not nodes:
        raise UserError("int8: the model has no dense parts to quantise")
    logger, level = logging.getLogger(), logging.root.level
    logger.setLevel(logging.ERROR)  # it recommends a preprocessing step that this graph does not need
    try:
        with tempfile.TemporaryDirectory() as folder:
            single, quantised = Path(folder, "single.onnx"), Path(folder, "quantised.onnx")
            onnx.save(graph, single)
            quantize_static(
                single,
                quantised,
                _CalibrationFrames(iter(calibration)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=[node.name for node in nodes],
                extra_options={
                    # outputs are quantised after the ReLU, as inputs of the next layer
                    "OpTypesToExcludeOutputQuantization": ["Conv", "MatMul"],
                    "TensorQuantOverrides": _symmetric_inputs(graph, nodes),
                },
            )
            return onnx.load(quantised)
    finally:
        logger.setLevel(level)


def _symmetric_inputs(
    graph: onnx.ModelProto, nodes: list[onnx.NodeProto]
) -> dict[str, list[dict[str, object]]]:
    """Inputs of matrix products with values of both signs: OpenVINO needs their zero point at 0."""
    positive = {node.output[0] for node in graph.graph.node if node.op_type == "Relu"}
    inputs = {node.input[0] for node in nodes if node.op_type == "MatMul"} - positive
    return {name: [{"quant_type": QuantType.QInt8, "symmetric": True}] for name in sorted(inputs)}
