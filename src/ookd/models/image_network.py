"""Configurations of unmodified `transformers` networks for single images.

The network is described by its own config.json. Its classes have the numbers of its authors. A model may use
only some of them, in another order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import torch
from huggingface_hub.errors import StrictDataclassError
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from ookd.config.tracker import TrackerConfig
from ookd.errors import UserError
from ookd.models.transformers_network import TransformersModelConfig, label_names, library_class

# model_type -> class
ARCHITECTURES = {
    "rf_detr": "RfDetrForInstanceSegmentation",
    "eomt": "EomtForUniversalSegmentation",
    "eomt_dinov3": "EomtDinov3ForUniversalSegmentation",
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "maskformer": "MaskFormerForInstanceSegmentation",
}
# parameters that nothing reads: of pretraining, and the last norm of a backbone whose stages have their own
_UNREAD = re.compile(r"(.+\.)?((swin|model)\.layernorm\.\w+|embeddings\.mask_token)")
PANOPTIC, THINGS = 133, 80  # COCO's panoptic labels: things, then stuff, which has no instances
# what else stands in a config.json
_NOTES = {"id2label", "label2id", "architectures", "transformers_version", "dtype", "torch_dtype", "tracker"}
_HOLES = re.compile(r"LABEL_\d+|N/?A|background|unused|", re.IGNORECASE)  # labels that name no class


# fields, at any depth, for which `transformers` would fetch code
_FETCHING = re.compile(r"auto_map|.*attn_implementation.*|.*experts_implementation.*|quantization_.*")


# Each frame is paired with the one before, as in MinVIS; what a class score must reach is ours.
PAIRED = TrackerConfig(
    associator="consecutive",
    mask_nms=0.8,
    match=0.3,
    first_score=0.3,
    new_score=0.3,
)


class ImageNetworkConfig(TransformersModelConfig):
    """A model around a network of `transformers`."""

    default_type: ClassVar[str]  # the `model_type` where `network` names none

    network: dict[str, Any] = Field(
        {}, description="configuration of the network, as `transformers` names it; the rest has its defaults"
    )
    keep: tuple[int, ...] = Field(
        (), description="which of the network's own labels the classes are; empty: all, in their order"
    )

    @field_validator("network")
    @classmethod
    def _says_it_all(cls, network: dict[str, Any]) -> dict[str, Any]:
        for name, value in _fields(network):
            if value and _FETCHING.fullmatch(name):
                raise ValueError(f"{name} is not part of an architecture")
        if network.get("backbone"):
            raise ValueError("backbone names a model; backbone_config must describe it")
        return network

    @model_validator(mode="after")
    def _one_label_a_class(self) -> Self:
        if self.keep and len(self.keep) != self.classes:
            raise ValueError(
                f"keep names {len(self.keep)} labels, but there are {self.classes} classes; "
                "with keep: [] the class head is made for the classes, and must be trained"
            )
        return self

    @classmethod
    def from_transformers(cls, fields: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """The configuration and the classes: those of the labels that have a name."""
        table = label_names(fields)
        keep = [label for label in sorted(table) if not _HOLES.fullmatch(table[label].strip())]
        if len(keep) == PANOPTIC and (table[keep[0]], table[keep[THINGS - 1]]) == ("person", "toothbrush"):
            keep = keep[:THINGS]
        if not keep:
            raise UserError("id2label does not name the classes")
        network = {
            name: value for name, value in fields.items() if name not in _NOTES and value not in (None, "")
        }
        own = {"classes": len(keep), "network": network}
        if len(keep) < len(table):
            network["num_labels"] = max(table) + 1
            own["keep"] = keep
        return cls.model_validate(own), [table[label] for label in keep]

    def build(self) -> Any:
        """The network, with random weights."""
        fields = dict(self.network)
        model_type = fields.pop("model_type", self.default_type)
        if model_type not in ARCHITECTURES:
            raise UserError(
                f"network.model_type {model_type!r} is none of those that are known: "
                f"{', '.join(ARCHITECTURES)}"
            )
        if not self.keep:
            fields["num_labels"] = self.classes
        architecture, configuration = library_class(ARCHITECTURES[model_type]), library_class("AutoConfig")
        try:
            network = architecture(configuration.for_model(model_type, **fields))
        except (KeyError, TypeError, ValueError, RuntimeError, StrictDataclassError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"network: transformers cannot build a {model_type}: {reason}") from error
        for name, parameter in network.named_parameters():
            if _UNREAD.fullmatch(name):
                parameter.requires_grad_(False)
        return network

    def kept(self, logits: Tensor, no_object: bool) -> Tensor:
        """The columns [..., K] of the classes, or [..., K + 1] with "no object" last.

        The softmax of the latter stays the same: dropped classes count as "no object".
        """
        if not self.keep:
            return logits
        columns = torch.tensor(self.keep, device=logits.device)
        if not no_object:
            return logits[..., columns]
        other = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
        other[columns] = False
        rest = logits.masked_fill(~other, -torch.inf).logsumexp(-1, keepdim=True)
        return torch.cat([logits[..., columns], rest], -1)


def _fields(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All names and values, those of nested configurations too."""
    for name, value in values.items():
        yield name, value
        if isinstance(value, dict):
            yield from _fields(value)
