"""Loss terms as pure functions of tensors; the training modules decide what is compared with what.

Everything is computed in float32, whatever precision the model ran in. Functions return one value for each
element or instance and leave the sum and its normaliser to the caller, because families differ there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

DrawSample = Callable[[range, int], list[int]]  # draws without replacement, like `random.Random(seed).sample`


def sigmoid_focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Cross-entropy that fades where the answer is already right: [...] from logits and targets in 0..1."""
    logits, targets = logits.float(), targets.float()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = logits.sigmoid()
    wrong = p * (1 - targets) + (1 - p) * targets
    return (alpha * targets + (1 - alpha) * (1 - targets)) * wrong**gamma * entropy


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Cross-entropy towards a score that says how good the answer is: [...] from logits and quality in 0..1.

    Quality 0 means that nothing is there. There the loss fades with the square of the error, because such
    elements are many; elsewhere with the error. "Generalized Focal Loss" has one exponent for both.
    """
    logits, quality = logits.float(), quality.float()
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    wrong = (quality - logits.sigmoid()).abs()
    return torch.where(quality > 0, wrong, wrong**2) * entropy


def heatmap_focal(logits: Tensor, heat: Tensor, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """Focal loss for peaks: cells near a peak (heat close to 1) are forgiven. Positive where heat is 1.

    From "Objects as Points" (CenterNet), equation 1; normalise by the number of peaks.
    """
    logits, heat = logits.float(), heat.float()
    p = logits.sigmoid()
    peak = -F.logsigmoid(logits) * (1 - p) ** alpha
    background = -F.logsigmoid(-logits) * p**alpha * (1 - heat) ** beta
    return torch.where(heat == 1, peak, background)


def mask_focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of masks or tubes [N, ...], mean over pixels: [N]."""
    return sigmoid_focal(logits, targets, alpha, gamma).flatten(1).mean(1)


def mask_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of masks or tubes [N, ...], its sum relative to twice the true area: [N].

    In a mean over all pixels, the outline of a small object would hardly count. The added cells keep tiny
    masks from dominating.
    """
    targets = targets.float().flatten(1)
    entropy = F.binary_cross_entropy_with_logits(logits.float().flatten(1), targets, reduction="none")
    return entropy.sum(1) / (2 * targets.sum(1) + 16)


def dice(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the soft overlap of masks or tubes [N, ...]: [N]. Adding 1 gives empty masks a loss of 0."""
    p, t = logits.float().sigmoid().flatten(1), targets.float().flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


@torch.no_grad()
def mask_quality(logits: Tensor, targets: Tensor) -> Tensor:
    """Overlap of the binary masks or tubes [N, ...] with the truth: [N]."""
    p, t = (logits > 0).float().flatten(1), targets.float().flatten(1)
    return torch.minimum(p, t).sum(1) / torch.maximum(p, t).sum(1).clamp(min=1e-6)


def pair_logsumexp(similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """log(1 + sum over pairs exp(s_negative - s_positive)) of each row: similarity, masks [N, M] -> [N].

    The double sum factorises, so no pairs are formed. A row without positives or negatives costs 0.
    """
    similarity = similarity.float()
    never = torch.finfo(similarity.dtype).min / 4  # finite, so that an empty row has a zero gradient, not NaN
    worst = similarity.masked_fill(~negative, never).logsumexp(-1)
    best = (-similarity).masked_fill(~positive, never).logsumexp(-1)
    return F.softplus(worst + best)


def cosine_aux(
    keys: Tensor, candidates: Tensor, positive: Tensor, negative: Tensor, sample: DrawSample, ratio: int = 10
) -> Tensor:
    """Squared error of cosines, towards 1 for positives and 0 for some random negatives: [N], their mean.

    Keys [N, D], candidates [M, D], masks [N, M]. For each positive, `ratio` negatives are drawn (`ratio` in
    all if there is none). A candidate may be both, and then counts twice.
    """
    cosine = F.normalize(keys.float(), dim=-1) @ F.normalize(candidates.float(), dim=-1).T  # [N, M]
    drawn = torch.zeros_like(negative)
    for row, positives in enumerate(positive.sum(1).tolist()):
        places = negative[row].nonzero()[:, 0]
        size = min(ratio * max(positives, 1), len(places))
        drawn[row, places[sample(range(len(places)), size)]] = True
    error = (cosine - 1) ** 2 * positive + cosine**2 * drawn
    return error.sum(1) / (positive.sum(1) + drawn.sum(1)).clamp(min=1)


def stride4(masks: Tensor) -> Tensor:
    """Mask targets [..., H, W] at the resolution of mask logits: the pixel next to each cell's centre."""
    return masks[..., 2::4, 2::4].float()


def mean_over_ranks(count: float | Tensor, device: torch.device) -> Tensor:
    """The mean of a number over the processes. Divided by it, instances weigh the same in all of them."""
    total = torch.as_tensor(count, dtype=torch.float32, device=device).clone()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
        total /= dist.get_world_size()
    return total
