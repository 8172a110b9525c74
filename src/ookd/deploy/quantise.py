"""8-bit convolutions by ONNX Runtime's static quantisation, which OpenVINO reads as well.

Only the trunk is quantised. It is where a small model does most of its arithmetic; heads, attention and masks
stay in floating point.
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

TRUNKS = ("trunk", "backbone")  # what models call it
SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter says which module a node comes from


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: Iterator[Arrays]) -> None:
        self._inputs = inputs

    def get_next(self) -> Arrays | None:
        return next(self._inputs, None)


def quantise(graph: onnx.ModelProto, calibration: Iterable[Arrays]) -> onnx.ModelProto:
    """The graph with 8-bit convolutions in its trunk; ranges are the extremes seen in calibration."""
    nodes = trunk_convolutions(graph)
    if not nodes:
        raise UserError("int8: the model has no convolutions in a trunk or backbone to quantise")
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
                nodes_to_quantize=nodes,
                # what a convolution hands on is rounded after its ReLU, where the next one reads it
                extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]},
            )
            return onnx.load(small)
    finally:
        logger.setLevel(level)


def trunk_convolutions(graph: onnx.ModelProto) -> list[str]:
    """Names of the nodes."""
    return [
        node.name
        for node in graph.graph.node
        if node.op_type == "Conv" and any(f".{trunk}." in _module(node) for trunk in TRUNKS)
    ]


def _module(node: onnx.NodeProto) -> str:
    return "".join(entry.value for entry in node.metadata_props if entry.key == SCOPES)
