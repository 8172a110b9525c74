"""The detection losses of IDOL and SeqFormer: five terms for each decoder layer, matched on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ookd.boxes import giou, to_xyxy
from ookd.losses import dice, mask_focal, sigmoid_focal
from ookd.matching import Match

WEIGHTS: Mapping[str, float] = {"class": 2.0, "box": 5.0, "giou": 2.0, "mask": 2.0, "dice": 5.0}


@dataclass(slots=True)
class ClipTargets:
    """The ground truth of one clip. A single frame is a clip of length 1."""

    labels: Tensor  # [N]
    boxes: Tensor  # [N, T, 4]
    masks: Tensor  # [N, T, h, w] at stride 4

    def __getitem__(self, rows: Tensor) -> ClipTargets:
        return ClipTargets(self.labels[rows], self.boxes[rows], self.masks[rows])


def detection_terms(
    logits: Tensor,
    boxes: Tensor,
    masks: Callable[[Tensor], Tensor],
    targets: Sequence[ClipTargets],
    matches: Sequence[Match],
    count: Tensor | float,
) -> dict[str, Tensor]:
    """Sums over the matched queries of all clips (for `class`: over all queries), divided by `count`.

    Logits [B, Q, K], boxes [B, T, Q, 4], masks: select [B, M] -> logits [B, M, T, h, w]. Box terms are
    averaged over the frames; the masks of a tube count as one mask.
    """
    select = pad_sequence([match.query for match in matches], batch_first=True, padding_value=-1)  # [B, M]
    clip, place = (select >= 0).nonzero(as_tuple=True)
    query = select[clip, place]
    matched = [target[match.instance] for target, match in zip(targets, matches, strict=True)]

    wanted = torch.zeros_like(logits)
    wanted[clip, query, torch.cat([target.labels for target in matched])] = 1
    found, truth = boxes[clip, :, query], torch.cat([target.boxes for target in matched])  # [P, T, 4]
    drawn, shape = masks(select.clamp(min=0))[clip, place], torch.cat([target.masks for target in matched])
    distance = (found - truth).abs().sum(-1).mean(1)
    overlap = giou(to_xyxy(found), to_xyxy(truth), eps=1e-7).mean(1)
    return {
        "class": sigmoid_focal(logits, wanted).sum() / count,
        "box": distance.sum() / count,
        "giou": (1 - overlap).sum() / count,
        "mask": mask_focal(drawn, shape).sum() / count,
        "dice": dice(drawn, shape).sum() / count,
    }


def name_layers(layers: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Terms of all decoder layers: those of the last keep their names, earlier ones end in _0, _1, ..."""
    early = {f"{name}_{i}": term for i, terms in enumerate(layers[:-1]) for name, term in terms.items()}
    return layers[-1] | early


def layer_weights(
    weights: Mapping[str, float], layers: int, last_only: Sequence[str] = ()
) -> dict[str, float]:
    """A term's weight for every decoder layer, under the names that `name_layers` gives."""
    repeated = {name: weight for name, weight in weights.items() if name not in last_only}
    early = {f"{name}_{i}": weight for i in range(layers - 1) for name, weight in repeated.items()}
    return dict(weights) | early
