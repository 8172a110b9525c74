"""The dense parts of a frame graph: what all cells of a frame pass through, nearly all of the arithmetic.

A model's family names them: the backbone, the encoder, and what the decoder makes of the cells. Only they are
computed in less than single precision, and in 8 bits broad layers of the decoder as well; places, heads and
the last layers of masks are not.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from fnmatch import fnmatchcase

import onnx

SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter says which module a node comes from


def weighted_nodes(graph: onnx.ModelProto, modules: Sequence[str]) -> list[onnx.NodeProto]:
    """Convolutions and products with weights, of the modules whose names fit one of these patterns."""
    weights = {weight.name for weight in graph.graph.initializer}
    return [
        node
        for node in graph.graph.node
        if node.op_type == "Conv" or (node.op_type == "MatMul" and node.input[1] in weights)
        if any(fnmatchcase(_module(node), pattern) for pattern in modules)
    ]


def handed_on(graph: onnx.ModelProto, modules: Sequence[str]) -> list[str]:
    """Values of the dense parts, and of what is computed for them, that the rest of the graph reads."""
    needed = {node.output[0] for node in weighted_nodes(graph, modules)}
    for node in graph.graph.node:  # and the coarser maps of masks, which are means of finer ones
        if node.op_type == "AveragePool" and needed.intersection(node.input):
            needed.update(node.output)
    inside: set[str] = set()
    for node in reversed(graph.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            inside.update(node.output)
    seen, read = {"frames"}, set()  # values that depend on the frames; what the rest reads of anything
    for node in graph.graph.node:
        if seen.intersection(node.input):
            seen.update(node.output)
        if inside.isdisjoint(node.output):
            read.update(node.input)
    return sorted(inside & seen & read)


def _module(node: onnx.NodeProto) -> str:
    """The name of a node's module in the network."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "['', '']")
    name: str = ast.literal_eval(scopes)[-2]  # the last one is the node's own
    return name.removeprefix("model.")
