"""From a model to two ONNX graphs: one a frame, and a small one for the masks of chosen queries.

The model is traced as one graph from the image to the masks of chosen queries, and that graph is cut: what
depends on the choice is the mask graph, all before it the frame graph. So any model that answers as
`FrameQueries` exports, and nothing here knows how it makes its masks.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx
import onnx.parser
import onnx.shape_inference
import torch
from torch import Tensor, nn

from ookd.errors import UserError
from ookd.models.families import family_of
from ookd.models.family import Family
from ookd.models.parts.deformable import LOOK
from ookd.models.protocols import OnlineModel

OPSET = 18
TRACED = 3  # queries chosen while tracing; any number may be chosen later
DOMAIN, LOOK_NAME = LOOK.split("::")
# for runtimes without a kernel of their own: what was seen, computed by standard operators
LOOK_MEANING = onnx.parser.parse_function(f"""
<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
{LOOK_NAME} (seen, value, offsets, weights, reference, shapes) => (same) {{ same = Identity (seen) }}""")


@dataclass(frozen=True, slots=True)
class Graphs:
    frame: onnx.ModelProto  # frames uint8 [1, H, W, 3] RGB, size int64 [2] -> outputs and shared
    masks: onnx.ModelProto  # shared, select int64 [1, N] -> masks [1, N, h, w]
    outputs: list[str]
    shared: list[str]
    family: Family

    @property
    def looks(self) -> bool:
        """Whether there is deformable attention, whose places bfloat16 cannot hold."""
        return any(node.domain == DOMAIN for node in self.frame.graph.node)


class Whole(nn.Module):
    """From 8-bit pixels to the masks of chosen queries, as one function of tensors."""

    def __init__(self, model: OnlineModel, size: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.size, self.family = model, size, family_of(model)

    def forward(self, frames: Tensor, size: Tensor, select: Tensor) -> tuple[Tensor, ...]:
        """frames uint8 [1, H, W, 3]; size [2] height and width of the image in their top left corner."""
        height, width = self.size
        below = torch.arange(height).unsqueeze(1) >= size[0]
        beside = torch.arange(width).unsqueeze(0) >= size[1]
        pad = (below | beside).unsqueeze(0)
        frames = self.family.preprocessing.normalise(frames.permute(0, 3, 1, 2), pad)
        answer, state = self.model(frames, pad, self.model.begin(1))
        if state is not None:
            raise UserError("a model that carries state from frame to frame does not export")
        logits = self.family.class_logits(answer.logits)
        boxes = () if answer.boxes is None else (answer.boxes,)
        return (logits.float(), *boxes, answer.embed.float(), answer.masks(select).float())


@torch.no_grad()
def trace(model: OnlineModel, size: tuple[int, int]) -> Graphs:
    """The graphs of a model in evaluation mode on the CPU, for frames of one size."""
    whole = Whole(model, size)
    inputs = (
        torch.zeros(1, *size, 3, dtype=torch.uint8),
        torch.tensor(size),
        torch.arange(TRACED).unsqueeze(0),
    )
    boxes = len(whole(*inputs)) == 4
    outputs = ["logits", "boxes", "embed"] if boxes else ["logits", "embed"]
    with _quiet():
        program: Any = torch.onnx.export(
            whole,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=["frames", "size", "select"],
            output_names=[*outputs, "masks"],
            dynamic_shapes={"frames": None, "size": None, "select": {1: torch.export.Dim("n", max=10_000)}},
        )
    return cut(program.model_proto, outputs, whole.family)


def cut(whole: onnx.ModelProto, outputs: list[str], family: Family) -> Graphs:
    """Split at `select`; what depends on no input at all goes to both sides."""
    late, early = {"select"}, {"frames", "size"}
    for node in whole.graph.node:
        if late.intersection(node.input):
            late.update(node.output)
        elif early.intersection(node.input):
            early.update(node.output)
    shared = sorted(
        {name for node in whole.graph.node if late & {*node.output} for name in node.input if name in early}
    )
    shapes = {value.name: value for value in (*whole.graph.value_info, *whole.graph.output)}
    frame = _part(whole, ["frames", "size"], [*outputs, *shared], shapes)
    return Graphs(frame, _part(whole, [*shared, "select"], ["masks"], shapes), outputs, shared, family)


def split(graph: onnx.ModelProto, names: list[str]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The graph up to some of its values, and from there on."""
    known = onnx.shape_inference.infer_shapes(graph).graph
    shapes = {value.name: value for value in (*known.value_info, *known.output)}
    inputs, outputs = ([value.name for value in values] for values in (known.input, known.output))
    return _part(graph, inputs, names, shapes), _part(graph, [*inputs, *names], outputs, shapes)


def _part(
    whole: onnx.ModelProto, inputs: list[str], outputs: list[str], shapes: dict[str, Any]
) -> onnx.ModelProto:
    """The nodes between some tensors and others."""
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
    part = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, 1)],
        ir_version=whole.ir_version,
        functions=[LOOK_MEANING],
    )
    onnx.checker.check_model(part)
    return part


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells its steps on standard output and warns about its own parts."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
