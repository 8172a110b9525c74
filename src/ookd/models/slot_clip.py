"""A model whose queries stay with their objects, as a model of clips: query q is one instance in all frames.

So it can teach. It sees the frames of a clip one after another, each with what came before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ookd.models.protocols import OfflineModel, OnlineModel
from ookd.structures import ClipQueries


class SlotClip(OfflineModel):
    """Class logits are means over the frames; features are means that trust sure frames more."""

    def __init__(self, online: OnlineModel) -> None:
        super().__init__()
        self.online, self.config = online, online.config

    def forward(self, clip: Tensor, pad: Tensor) -> ClipQueries:
        state, answers = self.online.begin(len(clip)), []
        for t in range(clip.shape[1]):
            answer, state = self.online(clip[:, t], pad[:, t], state)
            answers.append(answer)
        logits = torch.stack([answer.logits for answer in answers], 1).float()  # [B, T, Q, K]
        features = torch.stack([answer.features for answer in answers], 1)
        sure = logits.amax(-1, keepdim=True).softmax(1)  # [B, T, Q, 1]

        def masks(select: Tensor) -> Tensor:
            return torch.stack([answer.masks(select) for answer in answers], 2)

        boxes = [answer.boxes for answer in answers if answer.boxes is not None]
        maps = zip(*(answer.maps for answer in answers), strict=True)
        return ClipQueries(
            logits.mean(1),
            torch.stack(boxes, 1) if boxes else None,
            (features * sure).sum(1),
            features,
            masks,
            maps=[torch.stack(level, 1) for level in maps],
        )
