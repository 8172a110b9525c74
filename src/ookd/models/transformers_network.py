"""Networks around a model of `transformers`, and their configurations.

Such a network holds that model as `net` and calls its parts. It may have further parts of its own. A model
folder keeps the weights under the names of the library's own files, which differ from those in memory for
some models and may differ between versions. So weights go through the library's own renaming.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ookd.errors import UserError
from ookd.models.protocols import ModelConfig, Network

_BODY = "net."
_UNNAMED = re.compile(r"LABEL_\d+")


class TransformersModelConfig(ModelConfig):
    """A configuration that can be read from the config.json of `transformers`."""

    @classmethod
    @abstractmethod
    def from_transformers(cls, fields: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """The configuration that this config.json describes, and the names of its classes."""

    @abstractmethod
    def build(self) -> Any:
        """The model of `transformers`, with random weights."""


class TransformersNetwork(Network):
    """A network with the weights of `net`, a model of `transformers`, and of its further parts."""

    net: Any
    # Tensors of `net` that its files may lack or hold without use, as a pattern of their names there.
    idle: ClassVar[str] = ""

    def __init__(self, config: TransformersModelConfig) -> None:
        super().__init__()
        self.config = config
        self.net = config.build()

    def stored_weights(self) -> Mapping[str, Tensor]:
        from transformers.core_model_loading import revert_weight_conversion

        net, state = self.net, self.state_dict()
        own = {name: tensor for name, tensor in state.items() if not name.startswith(_BODY)}
        return {**revert_weight_conversion(net, net.state_dict()), **own}

    def own_weights(self, stored: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights of a folder. One that `transformers` wrote lacks our own parts, which then stay."""
        net, state = self.net, self.state_dict()
        mine = {name: tensor for name, tensor in state.items() if not name.startswith(_BODY)}
        parts = {name.partition(".")[0] for name in mine}
        own = {name: tensor for name, tensor in stored.items() if name.partition(".")[0] in parts}
        body = {name: t for name, t in stored.items() if name not in own and not self._is_idle(name)}
        with quiet():
            read, notes = type(net).from_pretrained(
                None,
                config=net.config,
                state_dict=body,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        found = dict(read.state_dict())
        for name in notes["missing_keys"]:
            if not self._is_idle(name):
                found.pop(name, None)
        found |= {name: torch.empty(0, device="meta") for name in notes["unexpected_keys"]}
        found |= {
            name: torch.empty(tuple(shape), device="meta") for name, shape, _ in notes["mismatched_keys"]
        }
        return {**{_BODY + name: tensor for name, tensor in found.items()}, **(own or mine)}

    def _is_idle(self, name: str) -> bool:
        return bool(self.idle) and re.fullmatch(self.idle, name) is not None


def label_names(fields: Mapping[str, Any]) -> dict[int, str]:
    """The names that a config.json of `transformers` gives to labels; none where they cannot be read."""
    try:
        return {int(label): str(name) for label, name in (fields.get("id2label") or {}).items()}
    except (AttributeError, ValueError):
        return {}


def class_names(fields: Mapping[str, Any]) -> list[str]:
    """The classes of a config.json of `transformers`, by label. Names like LABEL_0 are made up by it."""
    named = label_names(fields)
    names = [named.get(label, "") for label in range(len(named))]
    if not all(names) or all(_UNNAMED.fullmatch(name) for name in names):
        raise UserError("id2label does not name the classes")
    return names


def library_class(name: str) -> Any:
    """A class of `transformers`, which is imported only now."""
    import transformers

    try:
        return getattr(transformers, name)
    except (AttributeError, ImportError):
        raise UserError(
            f"transformers {transformers.__version__} has no {name}; pip install 'ookd[hf]' brings it"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and remarks of `transformers`."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
