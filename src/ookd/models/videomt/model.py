"""VidEoMT, streamed: one frame in, and the queries of the last frame are where the next one starts.

Norouzi et al., "VidEoMT: Your ViT is Secretly Also a Video Segmentation Model", 2026. The layers are those of
`transformers`, called one frame at a time, so memory does not grow. The first layers see the frame only; the
last `num_blocks` also see the queries.

Shapes: B streams, Q queries, K classes, D channels, h w the grid of patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ookd.errors import UserError
from ookd.models.hub import WEIGHTS, download
from ookd.models.parts.mask_product import product_masks
from ookd.models.parts.position_table import resized_table
from ookd.models.protocols import OnlineModel, State
from ookd.models.transformers_network import (
    TransformersModelConfig,
    TransformersNetwork,
    class_names,
    library_class,
)
from ookd.models.videomt.pretrained import from_dinov2
from ookd.structures import FrameQueries

if TYPE_CHECKING:
    from transformers import VideomtForUniversalSegmentation

MULTIPLE = 32  # of the sides of padded frames


class VideomtConfig(TransformersModelConfig):
    """The architecture, under the names of `transformers`. The defaults are those of the small model."""

    family: Literal["videomt"] = "videomt"
    backbone: str = Field("", description="a DINOv2 with registers to start training from")
    hidden_size: int = Field(384, ge=1, description="channels of all tokens")
    num_hidden_layers: int = Field(12, ge=1, description="transformer layers")
    num_attention_heads: int = Field(6, ge=1, description="attention heads of a layer")
    num_blocks: int = Field(3, ge=1, description="last layers, which also see the queries")
    num_queries: int = Field(200, ge=1, description="queries; each follows at most one object")
    image_size: int = Field(640, ge=16, description="side of the frames that the position table is for")
    patch_size: int = Field(16, ge=4, description="side of a patch")
    num_register_tokens: int = Field(4, ge=0, description="tokens without a place")
    num_upscale_blocks: int = Field(2, ge=0, description="doublings of the patch grid before masks are made")
    mlp_ratio: int = Field(
        4, ge=1, description="inner width of a layer's perceptron, relative to its channels"
    )
    use_swiglu_ffn: bool = Field(False, description="gated perceptrons, as the giant DINOv2 has")
    hidden_act: str = Field("gelu", description="activation function")
    layer_norm_eps: float = Field(1e-6, gt=0, description="epsilon of the layer norms")
    drop_path_rate: float = Field(0.0, ge=0, lt=1, description="chance that training skips a layer")
    train_num_points: int = Field(12544, ge=4, description="points at which training compares two masks")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} does not split into {self.num_attention_heads} heads"
            )
        if self.num_blocks > self.num_hidden_layers:
            raise ValueError(f"num_blocks {self.num_blocks} is more than all {self.num_hidden_layers} layers")
        if MULTIPLE % self.patch_size or self.image_size % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} must divide {MULTIPLE} and image_size")
        return self

    @classmethod
    def from_transformers(cls, fields: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """What config.json leaves out has the defaults of `transformers`, which are the large model's."""
        names = class_names(fields)
        usual = library_class("VideomtConfig")()
        ours = {name: fields.get(name, getattr(usual, name)) for name in cls._shared()}
        return cls.model_validate({"classes": len(names), **ours}), names

    @classmethod
    def _shared(cls) -> set[str]:
        return cls.model_fields.keys() - {"family", "classes", "backbone"}

    def build(self) -> VideomtForUniversalSegmentation:
        """The model of `transformers`, with random weights."""
        fields = {name: getattr(self, name) for name in self._shared()}
        names = {label: f"class {label}" for label in range(self.classes)}
        theirs = library_class("VideomtConfig")(**fields, id2label=names)
        model: VideomtForUniversalSegmentation = library_class("VideomtForUniversalSegmentation")(theirs)
        return model


class TokenAnswer(NamedTuple):
    """The tokens after some layer, as an answer."""

    logits: Tensor  # [B, Q, K + 1], the last column for "no object"
    query: Tensor  # [B, Q, D]
    key: Tensor  # [B, Q, D] a mask is key . pixels
    pixels: Tensor  # [B, D, 4h, 4w]

    def at(self, frames: int | slice) -> TokenAnswer:
        """Some of the frames."""
        rows = slice(frames, frames + 1) if isinstance(frames, int) else frames
        return TokenAnswer(*(part[rows] for part in self))

    def queries(self) -> FrameQueries:
        """The answer of an online model."""
        return FrameQueries(self.logits, None, self.query, self.query, self.masks, maps=[self.pixels])

    def masks(self, select: Tensor) -> Tensor:
        """select [B, N] -> mask logits [B, N, 4h, 4w]."""
        return product_masks(self.key, self.pixels)(select)


class Videomt(TransformersNetwork, OnlineModel):
    queries_stay = True
    config: VideomtConfig
    net: VideomtForUniversalSegmentation
    idle = r"criterion\..+|attn_mask_probs|embeddings\.mask_token"

    def __init__(self, config: VideomtConfig) -> None:
        super().__init__(config)
        self.net.embeddings.mask_token.requires_grad_(False)  # of pretraining; nothing reads it
        self._fixed: tuple[tuple[int, int], Tensor] | None = None

    def load_pretrained(self) -> None:
        """Take the weights of a DINOv2, if the configuration names one."""
        source = self.config.backbone
        if not source:
            return
        folder = Path(source) if Path(source).is_dir() else download(source)
        side = self.config.image_size // self.config.patch_size
        try:
            weights = from_dinov2(load_file(folder / WEIGHTS), self.config.patch_size, side)
            state = self.net.state_dict()
            if odd := [
                name for name in weights if name not in state or weights[name].shape != state[name].shape
            ]:
                raise UserError(f"{odd[0]} does not fit")
        except (UserError, OSError, SafetensorError) as error:
            raise UserError(f"backbone {source}: {error}") from None
        self.net.load_state_dict(weights, strict=False)

    def begin(self, streams: int) -> State:
        return {"query": self.net.query.weight.expand(streams, -1, -1)}

    @torch.no_grad()
    def fix_size(self, height: int, width: int) -> None:
        """The position table as a constant: OpenVINO would resize it without antialiasing, silently."""
        grid = height // self.config.patch_size, width // self.config.patch_size
        self._fixed = grid, self.positions(grid).clone()

    def forward(self, frames: Tensor, pad: Tensor, state: State | None = None) -> tuple[FrameQueries, State]:
        """Padded patches are seen like any other, as in training."""
        tokens = self.encode(frames)
        query = (self.begin(len(frames)) if state is None else state)["query"]
        *_, last = self.follow(tokens, query)
        answer = self.decode(self.net.layernorm(last), self.grid(frames))
        return answer.queries(), {"query": self.next_query(last)}

    def encode(self, frames: Tensor) -> Tensor:
        """The tokens [B, 1 + registers + hw, D] of frames after the layers that see no queries."""
        parts = self.net.embeddings
        patches = parts.patch_embeddings(frames) + self.positions(self.grid(frames))
        streams = len(frames)
        tokens = torch.cat(
            [parts.cls_token.expand(streams, -1, -1), parts.register_tokens.expand(streams, -1, -1), patches],
            1,
        )
        for layer in self.net.layers[: -self.config.num_blocks]:
            tokens = layer(tokens)
        return tokens

    def follow(self, tokens: Tensor, query: Tensor) -> list[Tensor]:
        """Queries and tokens [B, Q + tokens, D] before each of the last layers, and after all of them."""
        steps = [torch.cat([query.to(tokens.dtype), tokens], 1)]
        for layer in self.net.layers[-self.config.num_blocks :]:
            steps.append(layer(steps[-1]))
        return steps

    def next_query(self, last: Tensor) -> Tensor:
        """The queries of the next frame from the tokens after the last layer, before its norm."""
        carried = self.net.query_updater(last[:, : self.config.num_queries]) + self.net.query.weight
        return carried.float()

    def decode(self, tokens: Tensor, grid: tuple[int, int]) -> TokenAnswer:
        """What the queries say."""
        first = self.config.num_queries + 1 + self.config.num_register_tokens
        query = tokens[:, : self.config.num_queries]
        patches = tokens[:, first:].transpose(1, 2).unflatten(2, grid)
        logits, key = self.net.class_predictor(query), self.net.mask_head(query)
        return TokenAnswer(logits, query, key, self.net.upscale_block(patches))

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """The learned position table [1, hw, D], resized to a grid of patches as published."""
        if self._fixed is not None and self._fixed[0] == grid:
            return self._fixed[1]
        return resized_table(self.net.embeddings.position_embeddings.weight, grid).unsqueeze(0)

    def grid(self, frames: Tensor) -> tuple[int, int]:
        """Rows and columns of patches."""
        return frames.shape[-2] // self.config.patch_size, frames.shape[-1] // self.config.patch_size
