"""RF-DETR-Seg: a real-time detector with masks, trained on single images and used as it is.

Robinson et al., "RF-DETR: Neural Architecture Search for Real-Time Detection Transformers", 2025. The network
is the one of `transformers`. In every frame it picks its queries anew, so a query's number says nothing about
the object. Objects are recognised by the query's features, or by an embedding head on top, which is the only
part that is trained here.

Shapes: B frames, Q queries, K classes, D channels, S the side of the square that the network sees.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ookd.errors import UserError
from ookd.models.image_network import ImageNetworkConfig
from ookd.models.parts.mask_product import product_masks
from ookd.models.parts.squares import squeeze, unsqueeze
from ookd.models.protocols import OnlineModel, State
from ookd.models.transformers_network import TransformersNetwork
from ookd.structures import FrameQueries

NEVER = -20.0  # mask logit in the padding


class RfDetrConfig(ImageNetworkConfig):
    family: Literal["rf-detr"] = "rf-detr"
    default_type = "rf_detr"
    classes: int = Field(80, ge=1, description="number of classes")
    embed: int = Field(
        0, ge=0, description="channels of the embedding head; 0: none, the tracker compares query features"
    )


class RfDetr(TransformersNetwork, OnlineModel):
    """Squares are seen as they are. Frames of other shapes are squeezed, and their masks stretched back."""

    config: RfDetrConfig
    side: int
    fixed_classes = True

    def __init__(self, config: RfDetrConfig) -> None:
        super().__init__(config)
        self.net.requires_grad_(False)
        own = self.net.config
        self.stride = int(own.mask_downsample_ratio)
        self.side = int(own.backbone_config.image_size)
        self.multiple = int(own.backbone_config.patch_size * own.backbone_config.num_windows)
        if self.side % self.multiple:
            raise UserError(
                f"network.backbone_config: image_size {self.side} must be a multiple of {self.multiple}, "
                "patch_size times num_windows"
            )
        width = int(own.d_model)
        self.embed = embedding_head(width, config.embed) if config.embed else nn.Identity()

    def load_pretrained(self) -> None:
        raise UserError(
            "rf-detr: a configuration alone has random weights, and the detector is not trained here; name a "
            "model, as in model.base=Roboflow/rf-detr-seg-nano (or set model.pretrained=false)"
        )

    def train(self, mode: bool = True) -> RfDetr:
        """The detector stays in inference mode: in training mode it chooses other queries."""
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, frames: Tensor, pad: Tensor, state: State | None = None) -> tuple[FrameQueries, None]:
        height, width = frames.shape[-2:]
        if height == width and height % self.multiple == 0:
            return self.see(frames), None
        answer = self.see(squeeze(frames, pad, self.side))
        square = answer.masks
        answer.masks = lambda select: unsqueeze(square(select), pad, self.stride, NEVER)
        answer.maps = [unsqueeze(each, pad, self.stride, 0.0) for each in answer.maps]
        return answer, None

    def see(self, squares: Tensor) -> FrameQueries:
        """Normalised frames [B, 3, S, S]."""
        net = self.net
        with torch.no_grad():
            seen = net.model.model(squares)
            query = seen.intermediate_hidden_states[-1]  # [B, Q, D]; the first axis is of the layers
            logits, boxes = net.model.predict_class_and_boxes(
                seen.last_hidden_state, seen.intermediate_reference_points[-1]
            )
            cells = squares.shape[-1] // self.stride
            pixels = F.interpolate(seen.backbone_features, (cells, cells), mode="bilinear")
            for block in net.blocks:
                pixels = block(pixels)
            pixels = net.spatial_features_proj(pixels)
            key = net.query_features_proj(net.query_features_block(query))
        return FrameQueries(
            self.config.kept(logits, no_object=False),
            boxes,
            self.embed(query),
            query,
            product_masks(key, pixels, net.segmentation_bias),
            maps=[pixels],
        )


def embedding_head(width: int, channels: int) -> nn.Sequential:
    """From the features of a query to what the tracker compares."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, channels))
