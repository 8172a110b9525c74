"""Exported graphs through OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import openvino as ov

from ookd.cores import usable_cores
from ookd.deploy.engine import Arrays, Engine
from ookd.deploy.openvino_look import Look
from ookd.errors import UserError


class OpenVinoEngine(Engine):
    """Frames in flight wait in one queue; each is computed by all cores, so that its answer comes soonest."""

    def __init__(self, frame: Path, masks: Path) -> None:
        self._core = ov.Core()
        self._core.add_extension(Look)
        dense = frame.with_stem("dense")
        self._graphs = [self._opened(dense, "bf16")] if dense.is_file() else []
        self._graphs.append(self._opened(frame, "f32"))
        self._masks = self._opened(masks, "f32").create_infer_request()
        self._free: list[list[ov.InferRequest]] = []

    def _opened(self, graph: Path, arithmetic: str) -> ov.CompiledModel:
        options = {
            "INFERENCE_NUM_THREADS": len(usable_cores()),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": arithmetic,
        }
        try:
            if b'type="Look"' in graph.read_bytes():
                import ookd.deploy.look  # noqa: F401 - before OpenVINO binds this thread to a core
            return self._core.compile_model(graph, "CPU", options)
        except ImportError:
            raise UserError(f"{graph}: needs numba: pip install 'ookd[openvino]'") from None
        except RuntimeError as error:
            reason = str(error).strip().split("\n")[-1]
            raise UserError(f"{graph}: OpenVINO does not take the graph: {reason}") from None

    def start(self, inputs: Arrays) -> Callable[[], Arrays]:
        """Where the dense parts are a graph of their own, that one begins; the rest comes when asked for."""
        fresh = not self._free
        requests = [graph.create_infer_request() for graph in self._graphs] if fresh else self._free.pop()
        requests[0].start_async(inputs, share_inputs=True)

        def finish() -> Arrays:
            requests[0].wait()
            for before, after in pairwise(requests):
                after.infer(inputs | _outputs(before), share_inputs=True)
            answer = {name: value.copy() for name, value in _outputs(requests[-1]).items()}
            self._free.append(requests)
            return answer

        return finish

    def masks(self, inputs: Arrays) -> np.ndarray:
        self._masks.infer(inputs, share_inputs=True)
        return np.array(self._masks.get_output_tensor().data)


def _outputs(request: ov.InferRequest) -> Arrays:
    """Views that last until the request is used again."""
    return {port.get_any_name(): request.get_tensor(port).data for port in request.model_outputs}
