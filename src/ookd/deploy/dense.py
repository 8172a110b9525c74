"""The dense parts of a frame graph: what all cells of a frame pass through, nearly all of the arithmetic.

They are the trunk and the encoder. Only they are computed in less than single precision; queries, heads and
the last layers of masks are not.
"""

from __future__ import annotations

import onnx

# what models call the parts that all cells pass through
DENSE = (
    ".encoder.",
    ".pixels.",
    ".attention.values",
    *(f".mask_head.{part}" for part in ("coarse", "middle", "fine", "reduce")),
)
SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter says which module a node comes from


def dense_nodes(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Convolutions, and products with weights."""
    weights = {weight.name for weight in graph.graph.initializer}
    return [
        node
        for node in graph.graph.node
        if (node.op_type == "Conv" or (node.op_type == "MatMul" and node.input[1] in weights))
        and any(part in _module(node) for part in DENSE)
    ]


def handed_on(graph: onnx.ModelProto) -> list[str]:
    """Values of the dense parts, and of what is computed for them, that the rest of the graph reads."""
    needed = {node.output[0] for node in dense_nodes(graph)}
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
    return "".join(entry.value for entry in node.metadata_props if entry.key == SCOPES)
