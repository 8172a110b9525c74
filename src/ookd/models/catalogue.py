"""Hub models that are known to run here, with the scores and licences of their authors.

A licence here is that of the weights, as their authors state it; tags on the hub sometimes differ.
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


_NC = "cc-by-nc-4.0"  # of Mask2Former's weights by their authors, whatever a tag on the hub says
_DINOV3 = "mit, dinov3-license"  # whose terms all weights carry on that were trained from DINOv3's


def _rf_detr(size: str, millions: float, ap: str) -> HubModel:
    name = f"rf-detr-seg-{size}"
    return HubModel(
        f"Roboflow/{name}", "rf-detr", "COCO", 80, millions, "apache-2.0", f"{ap} mask AP on COCO", name
    )


def _eomt(id: str, millions: float, score: str, alias: str = "", licence: str = "mit") -> HubModel:
    return HubModel(f"tue-mps/{id}", "eomt", "COCO", 80, millions, licence, score, alias)


def _mask2former(size: str, millions: float, ap: str) -> HubModel:
    id = f"facebook/mask2former-swin-{size}-coco-instance"
    return HubModel(
        id, "mask2former", "COCO", 80, millions, _NC, f"{ap} mask AP on COCO", f"mask2former-{size}"
    )


def _video_mask2former(backbone: str, millions: float, year: int, ap: str) -> HubModel:
    id = f"shivalikasingh/video-mask2former-swin-{backbone}-youtubevis-{year}-instance"
    score = f"{ap} AP on YTVIS-{year % 100}, offline"
    size = backbone.partition("-")[0]
    alias = f"video-mask2former-{size}-ytvis{year % 100}"
    return HubModel(id, "mask2former-clip", f"YTVIS-{year % 100}", 40, millions, _NC, score, alias)


CATALOGUE = (
    _videomt("small", "YTVIS-19", 40, 24, "52.8", "videomt-s"),
    _videomt("base", "YTVIS-19", 40, 94, "58.2", "videomt-b"),
    _videomt("large", "YTVIS-19", 40, 318, "68.6", "videomt-l"),
    _videomt("large", "YTVIS-21", 40, 318, "63.1", "videomt-l-ytvis21"),
    _videomt("large", "YTVIS-22", 40, 318, "42.6", "videomt-l-ytvis22"),
    _videomt("large", "OVIS", 25, 318, "52.5", "videomt-l-ovis"),
    _rf_detr("nano", 34, "40.3"),
    _rf_detr("small", 34, "43.1"),
    _rf_detr("medium", 36, "45.3"),
    _rf_detr("large", 36, "47.1"),
    _rf_detr("xlarge", 38, "48.8"),
    _rf_detr("xxlarge", 39, "49.9"),
    _eomt("coco_panoptic_eomt_small_640_2x", 24, "46.7 PQ on COCO", "eomt-s"),
    _eomt("coco_panoptic_eomt_base_640_2x", 94, "51.6 PQ on COCO", "eomt-b"),
    _eomt("coco_instance_eomt_large_640", 317, "45.2 mask AP on COCO", "eomt-l"),
    _eomt("coco_instance_eomt_large_1280", 319, "48.8 mask AP on COCO", "eomt-l-1280"),
    _eomt("eomt-dinov3-coco-panoptic-small-640", 23, "47.2 PQ on COCO", "eomt-dinov3-s", _DINOV3),
    _eomt("eomt-dinov3-coco-panoptic-base-640", 93, "53.1 PQ on COCO", "eomt-dinov3-b", _DINOV3),
    _eomt("eomt-dinov3-coco-panoptic-large-640", 315, "56.8 PQ on COCO", "eomt-dinov3-l", _DINOV3),
    _mask2former("tiny", 47, "45.0"),
    _mask2former("small", 69, "46.3"),
    _mask2former("base", 107, "48.1"),
    _mask2former("large", 216, "50.1"),
    _video_mask2former("tiny", 47, 2019, "51.5"),
    _video_mask2former("small", 69, 2019, "54.3"),
    _video_mask2former("base-IN21k", 107, 2019, "59.5"),
    _video_mask2former("large", 216, 2019, "60.4"),
    _video_mask2former("tiny", 47, 2021, "45.9"),
    _video_mask2former("small", 69, 2021, "48.6"),
    _video_mask2former("base-IN21k", 107, 2021, "52.0"),
    _video_mask2former("large", 216, 2021, "52.6"),
)


@dataclass(frozen=True, slots=True)
class LabelModel:
    """A model on the hub that only labels, for `ookd label`."""

    id: str
    use: str
    millions: float  # of parameters
    licence: str


_FINDS, _FOLLOWS = "finds the --text as boxes; SAM 2 follows", "--follow: masks, and who is who"

LABEL_MODELS = (
    LabelModel("facebook/sam3", "finds the --text as masks, and follows", 848, "sam-license"),
    LabelModel("IDEA-Research/grounding-dino-tiny", _FINDS, 172, "apache-2.0"),
    LabelModel("IDEA-Research/grounding-dino-base", _FINDS, 233, "apache-2.0"),
    LabelModel("facebook/sam2.1-hiera-tiny", _FOLLOWS, 39, "apache-2.0"),
    LabelModel("facebook/sam2.1-hiera-small", _FOLLOWS, 46, "apache-2.0"),
    LabelModel("facebook/sam2.1-hiera-base-plus", _FOLLOWS, 81, "apache-2.0"),
    LabelModel("facebook/sam2.1-hiera-large", _FOLLOWS, 224, "apache-2.0"),
)


def known_licence(hub_id: str) -> str | None:
    """The licence of a model that is listed here; `hub_id` may name a revision."""
    plain = hub_id.partition("@")[0]
    return next((model.licence for model in (*CATALOGUE, *LABEL_MODELS) if model.id == plain), None)
