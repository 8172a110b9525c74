"""Exported graphs in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ookd.cores import thread_count
from ookd.deploy.runner import IN_FLIGHT, Arrays, GraphRunner
from ookd.errors import UserError


class OnnxRunner(GraphRunner):
    def __init__(self, frame: Path, masks: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        try:
            self._frame, self._masks = (
                onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
                for path in (frame, masks)
            )
        except Exception as error:  # the runtime's own exceptions have no common base
            reason = str(error).strip().split("\n")[-1]
            raise UserError(f"{frame.parent}: ONNX Runtime rejects the graph: {reason}") from None
        self._names = [output.name for output in self._frame.get_outputs()]
        self._threads = ThreadPoolExecutor(IN_FLIGHT)

    @property
    def interface(self) -> tuple[set[str], set[str]]:
        return set(self._names), {entry.name for entry in self._masks.get_inputs()}

    def start(self, inputs: Arrays) -> Callable[[], Arrays]:
        running = self._threads.submit(self._frame.run, self._names, inputs)
        return lambda: dict(zip(self._names, running.result(), strict=True))

    def masks(self, inputs: Arrays) -> NDArray[np.float32]:
        masks: NDArray[np.float32] = self._masks.run(["masks"], inputs)[0]
        return masks
