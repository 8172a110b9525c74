"""Mask2Former and MaskFormer, which segment single images by classifying masks.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022, and "Per-Pixel
Classification is Not All You Need for Semantic Segmentation", NeurIPS 2021. The networks are those of
`transformers`. MinVIS (Huang et al., NeurIPS 2022) found that the queries of neighbouring frames resemble
each other, after the decoder's last norm, so that objects can be tracked by pairing them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from ookd.models.image_network import ImageNetworkConfig
from ookd.models.parts.mask_product import product_masks
from ookd.models.protocols import OnlineModel, State
from ookd.models.transformers_network import TransformersNetwork
from ookd.structures import FrameQueries


class Mask2FormerConfig(ImageNetworkConfig):
    family: Literal["mask2former"] = "mask2former"
    default_type = "mask2former"
    classes: int = Field(80, ge=1, description="number of classes")


class MaskFormerConfig(ImageNetworkConfig):
    family: Literal["maskformer"] = "maskformer"
    default_type = "maskformer"
    classes: int = Field(80, ge=1, description="number of classes")


class Mask2Former(TransformersNetwork, OnlineModel):
    config: Mask2FormerConfig

    def forward(self, frames: Tensor, pad: Tensor, state: State | None = None) -> tuple[FrameQueries, None]:
        net = self.net.model
        decoder = net.transformer_module.decoder
        levels = net.pixel_level_module(pixel_values=frames)
        pixels = levels.decoder_last_hidden_state  # [B, C, H/4, W/4]
        decoded = net.transformer_module(
            multi_scale_features=levels.decoder_hidden_states, mask_features=pixels
        )
        query = decoder.layernorm(decoded.last_hidden_state)  # [B, Q, D]
        logits = self.config.kept(self.net.class_predictor(query), no_object=True)
        masks = product_masks(decoder.mask_predictor.mask_embedder(query), pixels)
        return FrameQueries(logits, None, query, query, masks, maps=[pixels]), None


class MaskFormer(TransformersNetwork, OnlineModel):
    config: MaskFormerConfig

    def forward(self, frames: Tensor, pad: Tensor, state: State | None = None) -> tuple[FrameQueries, None]:
        seen = self.net.model(pixel_values=frames)
        query, pixels = seen.transformer_decoder_last_hidden_state, seen.pixel_decoder_last_hidden_state
        logits = self.config.kept(self.net.class_predictor(query), no_object=True)
        masks = product_masks(self.net.mask_embedder(query), pixels)
        return FrameQueries(logits, None, query, query, masks, maps=[pixels]), None
