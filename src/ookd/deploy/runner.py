"""What a runtime does with the two graphs of an exported model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
IN_FLIGHT = 2  # frames that are started and not yet read: one computes while the caller works on another


class GraphRunner(ABC):
    """The frame graph and the mask graph, opened in one runtime."""

    @abstractmethod
    def __init__(self, frame: Path, masks: Path) -> None:
        """Open the two graph files."""

    @property
    @abstractmethod
    def interface(self) -> tuple[set[str], set[str]]:
        """The outputs of the frame graph, and the inputs of the mask graph."""

    @abstractmethod
    def start(self, inputs: Arrays) -> Callable[[], Arrays]:
        """Start the frame graph. The function returned waits for its outputs."""

    @abstractmethod
    def masks(self, inputs: Arrays) -> NDArray[np.float32]:
        """Run the mask graph and wait for the mask logits."""
