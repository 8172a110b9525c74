"""SeqFormer, the published offline model: one query for each instance in all frames of a clip.

Wu et al., "SeqFormer: Sequential Transformer for Video Instance Segmentation", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ookd.models.parts.deformable import Levels
from ookd.models.parts.heads import class_head
from ookd.models.parts.mask_head import MaskHead
from ookd.models.parts.pixel_encoder import DeformableConfig, EncoderMemory, PixelEncoder
from ookd.models.parts.query_start import QueryStart
from ookd.models.preprocess import unpadded_sizes
from ookd.models.protocols import OfflineModel
from ookd.models.seqformer.clip_decoder import ClipDecoded, ClipDecoder
from ookd.structures import ClipQueries


class SeqFormerConfig(DeformableConfig):
    """The published model; see `DeformableConfig` for what may differ."""

    family: Literal["seqformer"] = "seqformer"


@dataclass(slots=True)
class FrameMemory:
    """The encoder's output for F frames. Frames are independent before the decoder."""

    memory: EncoderMemory
    maps: Tensor  # [F, 8, h, w] shared maps of the mask head
    sizes: Tensor  # [F, 2] unpadded width and height

    @staticmethod
    def join(parts: Sequence[FrameMemory]) -> FrameMemory:
        """Frames of one size, one after another."""
        levels = [part.memory.levels for part in parts]
        joined = Levels(
            levels[0].shapes,
            torch.cat([level.pad for level in levels]),
            torch.cat([level.valid for level in levels]),
        )
        return FrameMemory(
            EncoderMemory(torch.cat([part.memory.tokens for part in parts]), joined),
            torch.cat([part.maps for part in parts]),
            torch.cat([part.sizes for part in parts]),
        )


class SeqFormer(OfflineModel):
    config: SeqFormerConfig

    def __init__(self, config: SeqFormerConfig) -> None:
        super().__init__()
        self.pixels = PixelEncoder(config, extra_pad="image")
        self.config = config.model_copy(update={"backbone": self.pixels.backbone.config})
        self.decoder = ClipDecoder(config)
        self.class_heads = nn.ModuleList(
            [class_head(config.dim, config.classes) for _ in range(config.decoder_layers)]
        )
        self.mask_head = MaskHead(config.dim)

    def load_pretrained(self) -> None:
        """Take pretrained weights of the backbone, if its configuration names a source."""
        self.pixels.load_pretrained()

    def forward(self, clip: Tensor, pad: Tensor) -> ClipQueries:
        """Normalised frames [B, T, 3, H, W], padding [B, T, H, W] -> the last layer's answer."""
        return self.decode(self.encode(clip, pad), clip.shape[1])

    def layers(self, clip: Tensor, pad: Tensor) -> list[ClipQueries]:
        """The answers of all decoder layers, for training; the last one is what `forward` returns."""
        return self.decode_layers(self.encode(clip, pad), clip.shape[1])

    def decode_layers(
        self, frames: FrameMemory, length: int, start: QueryStart | None = None
    ) -> list[ClipQueries]:
        """The same from the encoder's output. `start` replaces the model's own queries."""
        answers = zip(self.decoder(frames.memory, length, start), self.class_heads, strict=True)
        return [self._answer(decoded, class_head, frames) for decoded, class_head in answers]

    def encode(self, clip: Tensor, pad: Tensor) -> FrameMemory:
        """Encode every frame on its own.

        The attention takes the padding of a clip's first frame for all of its frames, as the published model
        does.
        """
        length = clip.shape[1]
        pads = pad.flatten(0, 1)
        memory = self.pixels(clip.flatten(0, 1), pads, clip_length=length)
        return FrameMemory(memory, self.mask_head.maps(memory.maps()), unpadded_sizes(pads))

    def decode(self, frames: FrameMemory, length: int) -> ClipQueries:
        """Follow the objects through clips of `length` frames."""
        return self._answer(self.decoder(frames.memory, length)[-1], self.class_heads[-1], frames)

    def _answer(self, decoded: ClipDecoded, class_head: nn.Module, frames: FrameMemory) -> ClipQueries:
        clip = decoded.boxes.shape[:2]
        sizes = frames.sizes.unflatten(0, clip).unsqueeze(2)  # [B, T, 1, 2]
        points = decoded.reference[..., :2] * sizes  # [B, T, Q, 2] pixels

        def masks(select: Tensor) -> Tensor:
            """select [B, N] -> mask logits [B, N, T, H/4, W/4], padding included."""
            queries = decoded.features.take_along_dim(select.unsqueeze(-1), 1)
            queries = queries.unsqueeze(1).expand(-1, clip[1], -1, -1)
            places = points.take_along_dim(select[:, None, :, None], 2)
            found = self.mask_head(queries.flatten(0, 1), places.flatten(0, 1), frames.maps)
            return found.unflatten(0, clip).transpose(1, 2)

        return ClipQueries(
            logits=class_head(decoded.features).float(),
            boxes=decoded.boxes,
            features=decoded.features,
            frame_features=decoded.frame_features,
            masks=masks,
            maps=[frames.maps.unflatten(0, clip)],
        )
