"""Networks of `transformers`, built from its own configurations. It is imported when the first one is built.

A network knows its classes as its authors numbered them. A model may use some of them only, in another order.
"""

from __future__ import annotations

from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from pydantic import Field, model_validator
from torch import Tensor

from ookd.errors import UserError
from ookd.models.protocols import ModelConfig

# model_type -> class
ARCHITECTURES = {
    "rf_detr": "RfDetrForInstanceSegmentation",
    "eomt": "EomtForUniversalSegmentation",
    "eomt_dinov3": "EomtDinov3ForUniversalSegmentation",
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "maskformer": "MaskFormerForInstanceSegmentation",
}


class TransformersModelConfig(ModelConfig):
    """A model around a network of `transformers`."""

    network: dict[str, Any] = Field(
        {}, description="configuration of the network, as `transformers` names it; the rest has its defaults"
    )
    keep: tuple[int, ...] = Field(
        (), description="which of the network's own labels the classes are; empty: all, in their order"
    )

    @model_validator(mode="after")
    def _one_label_a_class(self) -> TransformersModelConfig:
        if self.keep and len(self.keep) != self.classes:
            raise ValueError(
                f"keep names {len(self.keep)} labels, but there are {self.classes} classes; "
                "with keep: [] the class head is made for the classes, and must be trained"
            )
        return self


def build_network(config: TransformersModelConfig, model_type: str) -> Any:
    """The network of a configuration, with random weights."""
    fields = dict(config.network)
    model_type = fields.pop("model_type", model_type)
    if model_type not in ARCHITECTURES:
        raise UserError(
            f"network.model_type {model_type!r} is none of those that are known: {', '.join(ARCHITECTURES)}"
        )
    if not config.keep:
        fields["num_labels"] = config.classes
    try:
        import transformers

        architecture = getattr(transformers, ARCHITECTURES[model_type])
        own = transformers.AutoConfig.for_model(model_type, **fields)
        return architecture(own)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{config.family} needs a newer `transformers`, with {ARCHITECTURES[model_type]}: "
            f"pip install 'ookd[hf]' ({error})"
        ) from error
    except (KeyError, TypeError, ValueError, RuntimeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"network: transformers cannot build a {model_type}: {reason}") from error


def kept_classes(logits: Tensor, config: TransformersModelConfig, no_object: bool) -> Tensor:
    """The columns [..., K] of the classes, or [..., K + 1] with "no object" last.

    The softmax of the latter stays the same: what is left out counts as "no object".
    """
    if not config.keep:
        return logits
    columns = torch.tensor(config.keep, device=logits.device)
    if not no_object:
        return logits[..., columns]
    other = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
    other[columns] = False
    rest = logits.masked_fill(~other, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([logits[..., columns], rest], -1)
