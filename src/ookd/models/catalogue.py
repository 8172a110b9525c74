"""Hub models that are known to run here, with what their authors say of them.

A licence here is that of the weights, as their authors give it; the tags on the hub are sometimes others.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the hub."""

    id: str
    family: str
    labels: str  # the data set whose classes it knows
    classes: int
    millions: float  # of parameters
    licence: str
    score: str  # as published
    alias: str = ""  # a short name


def _videomt(size: str, labels: str, classes: int, millions: float, score: str, alias: str = "") -> HubModel:
    benchmark, _, year = labels.lower().partition("-")
    id = f"tue-mps/videomt-dinov2-{size}-{'ytvis20' + year if benchmark == 'ytvis' else benchmark}"
    return HubModel(id, "videomt", labels, classes, millions, "mit", f"{score} AP on {labels}", alias)


CATALOGUE = (
    _videomt("small", "YTVIS-19", 40, 24, "52.8", "videomt-s"),
    _videomt("base", "YTVIS-19", 40, 94, "58.2", "videomt-b"),
    _videomt("large", "YTVIS-19", 40, 318, "68.6", "videomt-l"),
    _videomt("large", "YTVIS-21", 40, 318, "63.1", "videomt-l-ytvis21"),
    _videomt("large", "YTVIS-22", 40, 318, "42.6", "videomt-l-ytvis22"),
    _videomt("large", "OVIS", 25, 318, "52.5", "videomt-l-ovis"),
)


def known_licence(hub_id: str) -> str | None:
    """The licence of a model that is listed here; `hub_id` may name a revision."""
    plain = hub_id.partition("@")[0]
    return next((model.licence for model in CATALOGUE if model.id == plain), None)
