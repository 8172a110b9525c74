"""What a runtime does with the two graphs of an exported model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
IN_FLIGHT = 2  # frames that are being computed or wait for it: one more than the reader works on


class Engine(ABC):
    @abstractmethod
    def start(self, inputs: Arrays) -> Callable[[], Arrays]:
        """Begin the frame graph; what comes back waits for its outputs."""

    @abstractmethod
    def masks(self, inputs: Arrays) -> np.ndarray:
        """The mask graph, now."""
