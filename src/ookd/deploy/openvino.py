"""Exported graphs in OpenVINO."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ookd.cores import thread_count
from ookd.deploy.openvino_deformable import Look
from ookd.deploy.runner import Arrays, GraphRunner
from ookd.errors import UserError

TOGETHER = 4  # masks: their number is a multiple of this, since each new number is planned anew


class OpenVinoRunner(GraphRunner):
    """Frames wait in one queue. All cores work on one frame at a time, which gives the lowest latency."""

    def __init__(self, frame: Path, masks: Path) -> None:
        self._core = ov.Core()
        self._core.add_extension(Look)
        dense = frame.with_stem("dense")
        self._graphs = [self._compile(dense, "bf16")] if dense.is_file() else []
        self._graphs.append(self._compile(frame, "f32"))
        self._mask_graph = self._compile(masks, "f32")
        self._read = self.interface[0]
        self._of_thread = threading.local()  # a request computes one thing at a time
        self._free: list[_Frame] = []

    def _compile(self, graph: Path, arithmetic: Literal["f32", "bf16"]) -> ov.CompiledModel:
        options = {
            "INFERENCE_NUM_THREADS": thread_count(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": arithmetic,
        }
        try:
            if b'type="Look"' in graph.read_bytes():
                # imported now, because OpenVINO will bind this thread to one core
                import ookd.deploy.deformable_attention  # noqa: F401
            return self._core.compile_model(graph, "CPU", options)
        except ImportError:
            raise UserError(f"{graph}: needs numba: pip install 'ookd[openvino]'") from None
        except RuntimeError as error:
            reason = str(error).strip().split("\n")[-1]
            raise UserError(f"{graph}: OpenVINO rejects the graph: {reason}") from None

    @property
    def interface(self) -> tuple[set[str], set[str]]:
        masks = _names(self._mask_graph.inputs)
        early = {name for graph in self._graphs[:-1] for name in _names(graph.outputs)}
        return _names(self._graphs[-1].outputs) | early & masks, masks

    def start(self, inputs: Arrays) -> Callable[[], Arrays]:
        """Start the first graph: the dense parts where they have a graph of their own. The function returned
        runs the rest."""
        try:
            frame = self._free.pop()
        except IndexError:
            frame = _Frame(self._graphs, self._read)
        frame.start(inputs)

        def finish() -> Arrays:
            outputs = frame.finish(inputs)
            self._free.append(frame)
            return outputs

        return finish

    def masks(self, inputs: Arrays) -> NDArray[np.float32]:
        if not hasattr(self._of_thread, "masks"):
            self._of_thread.masks = self._mask_graph.create_infer_request()
        request = self._of_thread.masks
        count = inputs["select"].shape[1]
        select = np.zeros((1, count + -count % TOGETHER), np.int64)
        select[:, :count] = inputs["select"]
        request.infer(inputs | {"select": select}, share_inputs=True)
        return np.array(request.get_output_tensor().data[:, :count])


class _Frame:
    """Requests of the graphs of a frame. Each reads what earlier ones wrote where it stands."""

    def __init__(self, graphs: Sequence[ov.CompiledModel], read: Iterable[str]) -> None:
        self._requests = [graph.create_infer_request() for graph in graphs]
        written: dict[str, ov.Tensor] = {}
        self._given: list[set[str]] = []  # what each graph reads that no graph writes
        for request in self._requests:
            given = set()
            for port in request.model_inputs:
                if known := port.names & written.keys():
                    request.set_tensor(port, written[known.pop()])
                else:
                    given |= port.names
            self._given.append(given)
            for port in request.model_outputs:
                written |= dict.fromkeys(port.names, request.get_tensor(port))
        self._outputs = {name: written[name] for name in read}

    def start(self, inputs: Arrays) -> None:
        self._requests[0].start_async(self._own(0, inputs), share_inputs=True)

    def finish(self, inputs: Arrays) -> Arrays:
        """What the graphs answer, when the first has been started."""
        self._requests[0].wait()
        for n, request in enumerate(self._requests[1:], 1):
            request.infer(self._own(n, inputs), share_inputs=True)
        return {name: tensor.data.copy() for name, tensor in self._outputs.items()}

    def _own(self, n: int, inputs: Arrays) -> Arrays:
        return {name: value for name, value in inputs.items() if name in self._given[n]}


def _names(ports: Iterable[Any]) -> set[str]:
    return {name for port in ports for name in port.names}
