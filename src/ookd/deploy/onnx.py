"""Exported graphs through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime

from ookd.cores import usable_cores
from ookd.deploy.engine import IN_FLIGHT, Arrays, Engine
from ookd.errors import UserError


class OnnxEngine(Engine):
    def __init__(self, frame: Path, masks: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(usable_cores())
        try:
            self._frame, self._masks = (
                onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
                for path in (frame, masks)
            )
        except Exception as error:  # the runtime's own exceptions have no common base
            reason = str(error).strip().split("\n")[-1]
            raise UserError(f"{frame.parent}: ONNX Runtime does not take the graph: {reason}") from None
        self._names = [output.name for output in self._frame.get_outputs()]
        self._waiting = ThreadPoolExecutor(IN_FLIGHT)

    def start(self, inputs: Arrays) -> Callable[[], Arrays]:
        running = self._waiting.submit(self._frame.run, self._names, inputs)
        return lambda: dict(zip(self._names, running.result(), strict=True))

    def masks(self, inputs: Arrays) -> np.ndarray:
        answer: np.ndarray = self._masks.run(["masks"], inputs)[0]
        return answer
