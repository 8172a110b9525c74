"""Mask2Former for clips: one query per instance for all frames, offline.

Cheng et al., "Mask2Former for Video Instance Segmentation", 2021. Frames go through the pixel decoder one by
one; the queries then attend to all frames at once. The network is that of images in `transformers`: the
frames of a clip are stacked like the parts of one tall image, and positions get a code of the frame.

Shapes: B clips, T frames, Q queries, D channels, h w the cells of a level.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ookd.models.image_network import ImageNetworkConfig
from ookd.models.parts.mask_product import product_masks
from ookd.models.protocols import OfflineModel
from ookd.models.transformers_network import TransformersNetwork
from ookd.structures import ClipQueries

MULTIPLE = 32  # of the height, so that resizing the stack mixes no frames
TEMPERATURE = 10000.0  # of the sine codes, as published


class Mask2FormerClipConfig(ImageNetworkConfig):
    family: Literal["mask2former-clip"] = "mask2former-clip"
    default_type = "mask2former"
    classes: int = Field(40, ge=1, description="number of classes")


class Mask2FormerClip(TransformersNetwork, OfflineModel):
    config: Mask2FormerClipConfig

    def forward(self, clip: Tensor, pad: Tensor) -> ClipQueries:
        """A query is the same in all frames, and so are its features."""
        b, t, _, height, width = clip.shape
        frames = F.pad(clip.flatten(0, 1), (0, -width % MULTIPLE, 0, -height % MULTIPLE))
        net = self.net.model
        levels = net.pixel_level_module(pixel_values=frames)
        pixels = levels.decoder_last_hidden_state.unflatten(0, (b, t))  # [B, T, C, H/4, W/4]
        query = self._decode(levels.decoder_hidden_states, pixels)  # [B, Q, D]
        logits = self.config.kept(self.net.class_predictor(query), no_object=True)
        key = net.transformer_module.decoder.mask_predictor.mask_embedder(query)
        pixels = pixels[..., : -(-height // 4), : -(-width // 4)]
        by_frame = query.unsqueeze(1).expand(-1, t, -1, -1)
        return ClipQueries(logits, None, query, by_frame, product_masks(key, pixels), maps=[pixels])

    def _decode(self, levels: list[Tensor], pixels: Tensor) -> Tensor:
        """Levels [B * T, C, h, w] and pixels [B, T, C, H/4, W/4] -> queries [B, Q, D] after the last norm."""
        module = self.net.model.transformer_module
        b, t = pixels.shape[:2]
        keys, positions, sizes = [], [], []
        for number, level in enumerate(levels[: module.num_feature_levels]):
            h, w = level.shape[-2:]
            key = module.input_projections[number](level) + module.level_embed.weight[number][:, None, None]
            # [T * h * w, B, D], frame after frame
            keys.append(key.unflatten(0, (b, t)).permute(1, 3, 4, 0, 2).flatten(0, 2))
            code = clip_positions(t, h, w, key.shape[1], key.device).flatten(0, 2)
            positions.append(code.to(key.dtype).unsqueeze(1).expand(-1, b, -1))
            sizes.append((t * h, w))
        decoded = module.decoder(
            inputs_embeds=module.queries_features.weight.unsqueeze(1).expand(-1, b, -1),
            multi_stage_positional_embeddings=positions,
            pixel_embeddings=pixels.transpose(1, 2).flatten(2, 3),  # [B, C, T * H/4, W/4]
            encoder_hidden_states=keys,
            query_position_embeddings=module.queries_embedder.weight.unsqueeze(1).expand(-1, b, -1),
            feature_size_list=sizes,
            return_dict=True,
        )
        return module.decoder.layernorm(decoded.last_hidden_state)


def clip_positions(t: int, h: int, w: int, width: int, device: torch.device) -> Tensor:
    """Codes [T, h, w, D]: half of the channels for y, half for x, and all for the frame on top."""
    y, x = axis(h, width // 2, device)[:, None], axis(w, width // 2, device)
    place = torch.cat([y.expand(h, w, -1), x.expand(h, w, -1)], -1)
    return place + axis(t, width, device)[:, None, None]


def axis(count: int, width: int, device: torch.device) -> Tensor:
    """Sine code [count, width] of the places 1 to `count` of an axis, scaled to one turn."""
    at = torch.arange(1, count + 1, device=device) / (count + 1e-6) * 2 * math.pi
    channel = torch.arange(width, device=device)
    angle = at[:, None] / TEMPERATURE ** (2 * torch.div(channel, 2, rounding_mode="floor") / width)
    return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], 2).flatten(1)
