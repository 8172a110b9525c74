"""The detection losses of IDOL and SeqFormer: five terms for each decoder layer, matched on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ookd.boxes import giou, to_xyxy
from ookd.losses import dice, mask_focal, sigmoid_focal
from ookd.matching import Match
from ookd.models.preprocess import unpadded_sizes

WEIGHTS: Mapping[str, float] = {"class": 2.0, "box": 5.0, "giou": 2.0, "mask": 2.0, "dice": 5.0}
GRID = 64  # cells on each side of a frame's map of what is to be ignored
PROBES = 5  # points on each side of a box at which the map is read


@dataclass(slots=True)
class ClipTargets:
    """The ground truth of one clip. A single frame is a clip of length 1."""

    labels: Tensor  # [N]
    boxes: Tensor  # [N, T, 4]
    masks: Tensor  # [N, T, h, w] at stride 4
    ignore: Tensor | None = None  # [T, g, g] covered share of what is to be ignored, over the unpadded frame

    def __getitem__(self, rows: Tensor) -> ClipTargets:
        return ClipTargets(self.labels[rows], self.boxes[rows], self.masks[rows], self.ignore)


def over_frames(ignore: Tensor | None, pad: Tensor) -> Tensor | None:
    """[T, g, g] the region `ignore` [T, H, W] relative to frames without their padding `pad` [T, H, W]."""
    if ignore is None:
        return None
    sizes = unpadded_sizes(pad).long().tolist()
    return torch.stack(
        [
            F.adaptive_avg_pool2d(region[None, :height, :width].float(), GRID)[0]
            for region, (width, height) in zip(ignore, sizes, strict=True)
        ]
    )


@torch.no_grad()
def boxes_in(boxes: Tensor, targets: Sequence[ClipTargets]) -> Tensor:
    """[B, Q] whether more than half of a query's boxes [B, T, Q, 4] lies in ignored areas."""
    side = (torch.arange(PROBES, device=boxes.device) + 0.5) / PROBES - 0.5
    spread = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).flatten(0, 1)  # [P, 2]
    unknown = torch.zeros(boxes.shape[0], boxes.shape[2], dtype=torch.bool, device=boxes.device)
    for clip, target in enumerate(targets):
        if target.ignore is not None:
            own = boxes[clip].float()  # [T, Q, 4]
            points = own[..., None, :2] + spread * own[..., None, 2:]  # [T, Q, P, 2]
            covered = F.grid_sample(target.ignore.unsqueeze(1), 2 * points - 1, align_corners=False)
            unknown[clip] = covered[:, 0].mean((0, 2)) > 0.5
    return unknown


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
    judged = sigmoid_focal(logits, wanted)
    if any(target.ignore is not None for target in targets):
        unknown = boxes_in(boxes, targets)
        unknown[clip, query] = False
        judged = judged.masked_fill(unknown.unsqueeze(2), 0.0)
    return {
        "class": judged.sum() / count,
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
