"""Exported graphs through OpenVINO."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov

from ookd.deploy.engine import Arrays, Engine
from ookd.errors import UserError


class OpenVinoEngine(Engine):
    """Frames in flight wait in one queue; each is computed by all cores, so that its answer comes soonest."""

    def __init__(self, frame: Path, masks: Path, precision: str) -> None:
        core = ov.Core()
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        common = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        hint = "bf16" if precision == "bf16" else "f32"
        try:
            self._frame = core.compile_model(frame, "CPU", {**common, "INFERENCE_PRECISION_HINT": hint})
            small = core.compile_model(masks, "CPU", {**common, "INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            reason = str(error).strip().split("\n")[-1]
            raise UserError(f"{frame.parent}: OpenVINO does not take the graph: {reason}") from None
        self._masks = small.create_infer_request()
        self._free: list[ov.InferRequest] = []

    def start(self, inputs: Arrays) -> Callable[[], Arrays]:
        request = self._free.pop() if self._free else self._frame.create_infer_request()
        request.start_async(inputs, share_inputs=True)

        def finish() -> Arrays:
            request.wait()
            answer = {
                port.get_any_name(): np.array(request.get_tensor(port).data) for port in self._frame.outputs
            }
            self._free.append(request)
            return answer

        return finish

    def masks(self, inputs: Arrays) -> np.ndarray:
        self._masks.infer(inputs, share_inputs=True)
        return np.array(self._masks.get_output_tensor().data)
