"""IDOL, the published online model: frames to classes, boxes, masks and embeddings for the tracker.

Wu et al., "In Defense of Online Models for Video Instance Segmentation", ECCV 2022.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ookd.models.parts.decoder import Decoded, Decoder
from ookd.models.parts.heads import Mlp, class_head
from ookd.models.parts.mask_head import MaskHead
from ookd.models.parts.pixel_encoder import DeformableConfig, EncoderMemory, PixelEncoder
from ookd.models.parts.query_start import QueryStart
from ookd.models.preprocess import unpadded_sizes
from ookd.models.protocols import OnlineModel, State
from ookd.structures import FrameQueries


class IdolConfig(DeformableConfig):
    """The published model; see `DeformableConfig` for what may differ."""

    family: Literal["idol"] = "idol"


class Idol(OnlineModel):
    config: IdolConfig

    def __init__(self, config: IdolConfig) -> None:
        super().__init__()
        self.pixels = PixelEncoder(config, extra_pad="stride 8")
        self.config = config.model_copy(update={"backbone": self.pixels.backbone.config})
        self.decoder = Decoder(config)
        self.class_heads = nn.ModuleList(
            [class_head(config.dim, config.classes) for _ in range(config.decoder_layers)]
        )
        self.mask_head = MaskHead(config.dim)
        self.embed_head = Mlp(config.dim, config.dim)

    def load_pretrained(self) -> None:
        """Take pretrained weights of the backbone, if its configuration names a source."""
        self.pixels.load_pretrained()

    def forward(self, frames: Tensor, pad: Tensor, state: State | None = None) -> tuple[FrameQueries, None]:
        """Normalised frames [B, 3, H, W], padding [B, H, W] -> the last layer's answer, and no state."""
        memory = self.pixels(frames, pad)
        maps = self.mask_head.maps(memory.maps())
        return self._answer(self.decoder(memory)[-1], self.class_heads[-1], maps, unpadded_sizes(pad)), None

    def layers(self, frames: Tensor, pad: Tensor, masks: bool = True) -> list[FrameQueries]:
        """The answers of all decoder layers, for training; the last one is what `forward` returns.

        Without `masks`, the answers have no masks, and the maps for them are not computed.
        """
        return self.decode(self.pixels(frames, pad), pad, masks)

    def decode(
        self, memory: EncoderMemory, pad: Tensor, masks: bool = True, start: QueryStart | None = None
    ) -> list[FrameQueries]:
        """The layers' answers from the encoder's output. `start` replaces the model's own queries."""
        maps = self.mask_head.maps(memory.maps()) if masks else None
        sizes = unpadded_sizes(pad)
        answers = zip(self.decoder(memory, start), self.class_heads, strict=True)
        return [self._answer(decoded, class_head, maps, sizes) for decoded, class_head in answers]

    def _answer(
        self, decoded: Decoded, class_head: nn.Module, maps: Tensor | None, sizes: Tensor
    ) -> FrameQueries:
        points = decoded.reference[..., :2] * sizes[:, None]  # [B, Q, 2] pixels

        def masks(select: Tensor) -> Tensor:
            """select [B, N] -> mask logits [B, N, H/4, W/4], padding included."""
            assert maps is not None, "these answers were computed without masks"
            rows = select.unsqueeze(-1)
            queries = decoded.features.take_along_dim(rows, 1)
            return self.mask_head(queries, points.take_along_dim(rows, 1), maps)

        return FrameQueries(
            logits=class_head(decoded.features).float(),
            boxes=decoded.boxes,
            embed=self.embed_head(decoded.features),
            features=decoded.features,
            masks=masks,
            maps=[] if maps is None else [maps],
        )
