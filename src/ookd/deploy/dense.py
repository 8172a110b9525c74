"""The dense parts of a frame graph: layers that run on every cell of a frame, nearly all of the arithmetic.

They are the backbone, the encoder, and the decoder's projections of the cells. Only they compute below single
precision, and in 8 bits the broad layers of IDOL's decoder as well. Positions, heads and the last mask layers
stay in single precision.
"""

from __future__ import annotations

import onnx

# what models call the parts that all cells pass through
DENSE = (
    ".encoder.",
    ".look.key",
    ".look.value",
    ".pixels.",
    ".attention.values",
    *(f".mask_head.{part}" for part in ("coarse", "middle", "fine", "reduce")),
)
BROAD = (".feed_forward.", ".attention.output")  # of IDOL's decoder
SCOPES = "pkg.torch.onnx.name_scopes"  # metadata of a node: the module that it comes from


def dense_nodes(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Convolutions, and matrix products with weights."""
    return [node for node in _weighted(graph) if any(part in _module(node) for part in DENSE)]


def broad_nodes(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Matrix products of all queries with weights that do not decide positions."""
    modules = ((node, _module(node)) for node in _weighted(graph))
    return [node for node, name in modules if ".decoder." in name and any(part in name for part in BROAD)]


def _weighted(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    weights = {weight.name for weight in graph.graph.initializer}
    return [
        node
        for node in graph.graph.node
        if node.op_type == "Conv" or (node.op_type == "MatMul" and node.input[1] in weights)
    ]


def dense_outputs(graph: onnx.ModelProto) -> list[str]:
    """Values of the dense parts, and of whatever they depend on, that the rest of the graph reads."""
    needed = {node.output[0] for node in dense_nodes(graph)}
    for node in graph.graph.node:  # and the coarser mask maps, which are means of finer ones
        if node.op_type == "AveragePool" and needed.intersection(node.input):
            needed.update(node.output)
    inside: set[str] = set()
    for node in reversed(graph.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            inside.update(node.output)
    dependent, read = {"frames"}, set()  # values that depend on the frames; values that the rest reads
    for node in graph.graph.node:
        if dependent.intersection(node.input):
            dependent.update(node.output)
        if inside.isdisjoint(node.output):
            read.update(node.input)
    return sorted(inside & dependent & read)


def _module(node: onnx.NodeProto) -> str:
    return "".join(entry.value for entry in node.metadata_props if entry.key == SCOPES)
