"""EoMT: a plain vision transformer in which queries join the patches for the last few layers.

Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025. The network is the one of
`transformers`, on DINOv2 or DINOv3, called part by part, so that it takes frames of any size. The masked
attention of its training, which is faded out there, is left out.

Shapes: B frames, Q queries, K classes, D channels, h w a grid of patches.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ookd.models.image_network import ImageNetworkConfig
from ookd.models.parts.mask_product import product_masks
from ookd.models.parts.position_table import resized_table
from ookd.models.protocols import OnlineModel, State
from ookd.models.transformers_network import TransformersNetwork
from ookd.structures import FrameQueries


class EomtConfig(ImageNetworkConfig):
    family: Literal["eomt"] = "eomt"
    default_type = "eomt"
    classes: int = Field(80, ge=1, description="number of classes")


class Eomt(TransformersNetwork, OnlineModel):
    config: EomtConfig

    def __init__(self, config: EomtConfig) -> None:
        super().__init__(config)
        own = self.net.config
        self.side, self.patch = int(own.image_size), int(own.patch_size)
        self.queries = int(own.num_queries)
        self.prefix = 1 + int(own.num_register_tokens)
        self.joined = int(own.num_hidden_layers - own.num_blocks)  # layers without queries

    def forward(self, frames: Tensor, pad: Tensor, state: State | None = None) -> tuple[FrameQueries, None]:
        net, grid = self.net, (frames.shape[-2] // self.patch, frames.shape[-1] // self.patch)
        rotary = hasattr(net, "rope_embeddings")
        positions = {"position_embeddings": net.rope_embeddings(frames)} if rotary else {}
        tokens = net.embeddings(frames) if rotary else self._tokens(frames, grid)
        for number, layer in enumerate(net.layers):
            if number == self.joined:
                start = net.query.weight.expand(len(frames), -1, -1)
                tokens = torch.cat([start, tokens], 1)
            tokens = layer(tokens, None, **positions)
        tokens = net.layernorm(tokens)
        query = tokens[:, : self.queries]
        patches = tokens[:, self.queries + self.prefix :].transpose(1, 2).unflatten(2, grid)
        pixels = net.upscale_block(patches)  # [B, D, 4h, 4w]
        logits = self.config.kept(net.class_predictor(query), no_object=True)
        masks = product_masks(net.mask_head(query), pixels)
        return FrameQueries(logits, None, query, query, masks, maps=[pixels]), None

    def _tokens(self, frames: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches with learned positions, resized to the grid, behind the class and register tokens."""
        parts = self.net.embeddings
        table = resized_table(parts.position_embeddings.weight, grid)  # [hw, D]
        patches = parts.patch_embeddings.projection(frames).flatten(2).transpose(1, 2)
        prefix = [x.expand(len(frames), -1, -1) for x in (parts.cls_token, parts.register_tokens)]
        return torch.cat([*prefix, patches + table], 1)
