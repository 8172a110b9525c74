"""From a model to two ONNX graphs: one for a frame, and a small one for the masks of selected queries.

The model is traced as one graph, from the image to the masks of selected queries. That graph is cut in two:
what depends on the selection is the mask graph, and everything before it is the frame graph. So every model
that returns `FrameQueries` can be exported, however it makes its masks.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import onnx_ir
import torch
from numpy.typing import NDArray
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

from ookd.deploy.folder import CARRIED, STATE
from ookd.models.families import family_of
from ookd.models.family import Family
from ookd.models.parts.deformable import LOOK
from ookd.models.protocols import OnlineModel, State
from ookd.structures import FrameQueries

OPSET = 18
TRACED = 3  # queries selected while tracing; the graphs accept any number
DOMAIN, OPERATOR = LOOK.split("::")
# Deformable attention for runtimes without the custom operator: its first input is the same result, computed
# by standard operators.
STANDARD_FORM = onnx.parser.parse_function(f"""
<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
{OPERATOR} (sampled, value, offsets, weights, reference, shapes) => (same) {{ same = Identity (sampled) }}""")


@dataclass(frozen=True, slots=True)
class OnnxGraphs:
    # frames uint8 [1, H, W, 3] RGB, size int64 [2], state.* -> outputs, carried.* and shared
    frame: onnx.ModelProto
    masks: onnx.ModelProto  # shared, select int64 [1, N] -> masks [1, N, h, w]
    outputs: list[str]
    shared: list[str]
    family: Family
    start: dict[str, NDArray[np.float32]]  # [1, ...] each part of the state before the first frame, by name

    @property
    def deformable(self) -> bool:
        """Whether they contain deformable attention, whose sampling points bfloat16 cannot hold."""
        return any(node.domain == DOMAIN for node in self.frame.graph.node)


class ExportWrapper(nn.Module):
    """From 8-bit pixels to the masks of selected queries, as one function of tensors."""

    def __init__(self, model: OnlineModel, size: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.size, self.family = model, size, family_of(model)

    def forward(self, frames: Tensor, size: Tensor, select: Tensor, state: State) -> tuple[Tensor, ...]:
        """frames uint8 [1, H, W, 3]; size [2], height and width of the image in their top left corner;
        select [1, N]; the state, empty for a model that has none."""
        queries, carried = self.answer(frames, size, state)
        named = [getattr(queries, name) for name in self.named(queries)]
        logits = self.family.class_logits(queries.logits).float()
        return (logits, *named, queries.masks(select).float(), *carried)

    def answer(self, frames: Tensor, size: Tensor, state: State) -> tuple[FrameQueries, tuple[Tensor, ...]]:
        """The queries of the model, and the state after the frame."""
        height, width = self.size
        below = torch.arange(height).unsqueeze(1) >= size[0]
        beside = torch.arange(width).unsqueeze(0) >= size[1]
        pad = (below | beside).unsqueeze(0)
        frames = self.family.preprocessing.normalise(frames.permute(0, 3, 1, 2), pad)
        queries, after = self.model(frames, pad, state or None)
        queries.embed = queries.embed.float()
        return queries, () if after is None else tuple(after[name] for name in state)

    @staticmethod
    def named(queries: FrameQueries) -> list[str]:
        """What the model says of its queries beside their classes and masks."""
        return [name for name in ("boxes", "embed", "identity") if getattr(queries, name) is not None]


@torch.no_grad()
def trace(model: OnlineModel, size: tuple[int, int]) -> OnnxGraphs:
    """The graphs of a model in evaluation mode on the CPU, for frames of one size."""
    model.fix_size(*size)
    wrapper = ExportWrapper(model, size)
    start = {name: part.contiguous() for name, part in (model.begin(1) or {}).items()}
    inputs = (
        torch.zeros(1, *size, 3, dtype=torch.uint8),
        torch.tensor(size),
        torch.arange(TRACED).unsqueeze(0),
    )
    outputs = ["logits", *wrapper.named(wrapper.answer(*inputs[:2], start)[0])]
    with _quiet():
        program = torch.onnx.export(
            wrapper,
            inputs,
            kwargs={"state": start},
            dynamo=True,
            opset_version=OPSET,
            optimize=False,
            input_names=["frames", "size", "select", *(STATE + name for name in start)],
            output_names=[*outputs, "masks", *(CARRIED + name for name in start)],
            dynamic_shapes={
                "frames": None,
                "size": None,
                "select": {1: torch.export.Dim("n", max=10_000)},
                "state": dict.fromkeys(start),
            },
        )
        assert program is not None
        _simplify(program.model)
    arrays = {name: part.float().numpy() for name, part in start.items()}
    return _cut_at_selection(program.model_proto, outputs, wrapper.family, arrays)


def _simplify(model: onnx_ir.Model) -> None:
    """Compute constants, and remove what is unused or there twice.

    PyTorch's own optimiser also looks for patterns to rewrite. These models have none, and looking takes as
    long as all the rest of the export.
    """
    fold_constants(model)
    onnx_ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)


def _cut_at_selection(
    whole: onnx.ModelProto, outputs: list[str], family: Family, start: dict[str, NDArray[np.float32]]
) -> OnnxGraphs:
    """Nodes that depend on no input at all go to both sides."""
    given = ["frames", "size", *(STATE + name for name in start)]
    after, before = {"select"}, set(given)
    for node in whole.graph.node:
        if after.intersection(node.input):
            after.update(node.output)
        elif before.intersection(node.input):
            before.update(node.output)
    mask_nodes = [node for node in whole.graph.node if after.intersection(node.output)]
    shared = sorted({name for node in mask_nodes for name in node.input if name in before})
    shapes = {value.name: value for value in (*whole.graph.value_info, *whole.graph.output)}
    frame = _subgraph(whole, given, [*outputs, *(CARRIED + name for name in start), *shared], shapes)
    masks = _subgraph(whole, [*shared, "select"], ["masks"], shapes)
    return OnnxGraphs(frame, masks, outputs, shared, family, start)


def split(graph: onnx.ModelProto, names: list[str]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The graph up to the named values, and the graph from there to all other outputs."""
    known = onnx.shape_inference.infer_shapes(graph).graph
    shapes = {value.name: value for value in (*known.value_info, *known.output)}
    inputs, outputs = ([value.name for value in values] for values in (known.input, known.output))
    after = [name for name in outputs if name not in names]
    return _subgraph(graph, inputs, names, shapes), _subgraph(graph, [*inputs, *names], after, shapes)


def _subgraph(
    whole: onnx.ModelProto, inputs: list[str], outputs: list[str], shapes: dict[str, onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """The nodes between these inputs and outputs, as a model."""
    needed, nodes = {*outputs}, []
    for node in reversed(whole.graph.node):
        if needed.intersection(node.output) and not set(inputs).issuperset(node.output):
            nodes.append(node)
            needed.update(node.input)
    known = shapes | {value.name: value for value in whole.graph.input}
    graph = onnx.helper.make_graph(
        nodes[::-1],
        whole.graph.name,
        [known[name] for name in inputs],
        [known[name] for name in outputs],
        [weight for weight in whole.graph.initializer if weight.name in needed],
    )
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, 1)],
        ir_version=whole.ir_version,
        functions=[STANDARD_FORM],
    )
    onnx.checker.check_model(model)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence PyTorch's exporter, which prints its steps and warns about its own code."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
