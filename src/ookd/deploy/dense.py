"""The dense parts of a frame graph: layers that run on every cell of a frame, nearly all of the arithmetic.

A model's family names them: the backbone, the encoder, and the decoder's projections of the cells. Only they
compute below single precision, and in 8 bits the broad layers of the decoder as well. Positions, heads and
the last mask layers stay in single precision.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from fnmatch import fnmatchcase

import onnx

# What follows dense layers and has no weights belongs to them where it reads nothing else: fewer and smaller
# values leave the graph.
_FOLLOWING = ("Add", "AveragePool", "Relu", "Reshape", "Transpose")
SCOPES = "pkg.torch.onnx.name_scopes"  # metadata of a node: the module that it comes from


def weighted_nodes(graph: onnx.ModelProto, modules: Sequence[str]) -> list[onnx.NodeProto]:
    """Convolutions and matrix products with weights, in modules whose names match one of these patterns."""
    weights = {weight.name for weight in graph.graph.initializer}
    return [
        node
        for node in graph.graph.node
        if node.op_type == "Conv" or (node.op_type == "MatMul" and node.input[1] in weights)
        if any(fnmatchcase(_module(node), pattern) for pattern in modules)
    ]


def dense_outputs(graph: onnx.ModelProto, modules: Sequence[str]) -> list[str]:
    """Values of the dense modules, and of whatever they depend on, that the rest of the graph reads."""
    needed = {node.output[0] for node in weighted_nodes(graph, modules)}
    inside: set[str] = set()
    for node in reversed(graph.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            inside.update(node.output)
    dependent = {value.name for value in graph.graph.input} - {"size"}  # on the frames or the state
    for node in graph.graph.node:
        if dependent.intersection(node.input):
            dependent.update(node.output)
    for node in graph.graph.node:
        if node.op_type in _FOLLOWING and dependent.intersection(node.input) <= inside:
            inside.update(node.output)
    read = {name for node in graph.graph.node if inside.isdisjoint(node.output) for name in node.input}
    read.update(value.name for value in graph.graph.output)
    return sorted(inside & dependent & read)


def _module(node: onnx.NodeProto) -> str:
    """The name of a node's module in the network."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "['', '']")
    name: str = ast.literal_eval(scopes)[-2]  # the last one is the node's own
    return name.removeprefix("model.")
