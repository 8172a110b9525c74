"""Names of weights in the published files and in ours, translated in both directions.

The official IDOL and SeqFormer files have the layout of VNext, which is also written back. Files of the
original SeqFormer, ResNets of detectron2 and torchvision, and Swin of ImageNet are first renamed to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import torch
from torch import Tensor

from ookd.errors import UserError
from ookd.models.backbones.swin import relative_position_index

_DETR = "detr.detr."
_TRANSFORMER = _DETR + "transformer."
_BACKBONE = _DETR + "backbone.0.backbone."
BACKBONE = "pixels.backbone."  # ours

_ATTENTION = {
    "offsets": "sampling_offsets",
    "weights": "attention_weights",
    "values": "value_proj",
    "output": "output_proj",
}


# Templates of two names for one weight: {x} is one step of the dotted path, {x*} one or more.
Pair = tuple[str, str]


def _vnext() -> Iterable[Pair]:
    """Our names and theirs."""
    ours, theirs = BACKBONE, _BACKBONE
    for part in ("patch_embed.{rest*}", "layers.{rest*}", "norm{i}.{leaf}"):  # Swin
        yield ours + part, theirs + part
    yield ours + "stem.0.weight", theirs + "stem.conv1.weight"
    yield ours + "stem.1.{leaf}", theirs + "stem.conv1.norm.{leaf}"
    conv = "{stage}.{block}.{conv}"
    yield f"{ours}stages.{conv}.0.weight", f"{theirs}{conv}.weight"
    yield f"{ours}stages.{conv}.1.{{leaf}}", f"{theirs}{conv}.norm.{{leaf}}"

    yield "pixels.projections.{level}.{part}.{leaf}", _DETR + "input_proj.{level}.{part}.{leaf}"
    yield "pixels.level_code", _TRANSFORMER + "level_embed"

    ours, theirs = "pixels.layers.{layer}.", _TRANSFORMER + "encoder.layers.{layer}."
    for name, upstream in _ATTENTION.items():
        yield f"{ours}attention.{name}.{{leaf}}", f"{theirs}self_attn.{upstream}.{{leaf}}"
    yield ours + "norm.{leaf}", theirs + "norm1.{leaf}"
    yield ours + "feed_forward.inner.{leaf}", theirs + "linear1.{leaf}"
    yield ours + "feed_forward.outer.{leaf}", theirs + "linear2.{leaf}"
    yield ours + "feed_forward.norm.{leaf}", theirs + "norm2.{leaf}"

    ours, theirs = "decoder.layers.{layer}.", _TRANSFORMER + "decoder.layers.{layer}."
    for name, upstream in _ATTENTION.items():
        yield f"{ours}attention.{name}.{{leaf}}", f"{theirs}cross_attn.{upstream}.{{leaf}}"
    yield ours + "box_output.{leaf}", theirs + "cross_attn.output_proj_box.{leaf}"
    yield ours + "time.{leaf}", theirs + "time_attention_weights.{leaf}"
    for prefix, suffix in (("", ""), ("box_", "_box")):
        yield f"{ours}{prefix}self_attention.attention.{{rest*}}", f"{theirs}self_attn{suffix}.{{rest*}}"
        yield f"{ours}{prefix}norm.{{leaf}}", f"{theirs}norm1{suffix}.{{leaf}}"
        yield f"{ours}{prefix}self_attention.norm.{{leaf}}", f"{theirs}norm2{suffix}.{{leaf}}"
        yield f"{ours}{prefix}feed_forward.inner.{{leaf}}", f"{theirs}linear1{suffix}.{{leaf}}"
        yield f"{ours}{prefix}feed_forward.outer.{{leaf}}", f"{theirs}linear2{suffix}.{{leaf}}"
        yield f"{ours}{prefix}feed_forward.norm.{{leaf}}", f"{theirs}norm3{suffix}.{{leaf}}"

    yield "decoder.start.codes.weight", _DETR + "query_embed.weight"
    yield "decoder.start.point.{leaf}", _TRANSFORMER + "reference_points.{leaf}"
    yield "decoder.box_heads.{layer}.{rest*}", _DETR + "bbox_embed.{layer}.{rest*}"
    yield "class_heads.{layer}.{leaf}", _DETR + "class_embed.{layer}.{leaf}"
    for name, upstream in (
        ("coarse", "lay3"),
        ("middle", "lay4"),
        ("fine", "dcn"),
        ("reduce", "lay1"),
        ("features", "lay2"),
    ):
        yield f"mask_head.{name}.{{leaf}}", f"detr.mask_head.{upstream}.{{leaf}}"
    yield "mask_head.controller.{rest*}", "detr.controller.{rest*}"
    yield "embed_head.{rest*}", "detr.reid_embed_head.{rest*}"


# Weights in the files that our models do not have, because they are unused or redundant. The decoder lists
# the box heads again. SeqFormer's encoder has projections, and Swin an output norm, that nothing uses.
# Indices and attention masks follow from the window's size. The classifier and the norm before it are for
# ImageNet only.
_ALIAS = re.compile(re.escape(_TRANSFORMER) + r"decoder\.(bbox_embed\..+)")
_UNUSED = re.compile(
    re.escape(_TRANSFORMER) + r"encoder\.layers\.\d+\.self_attn\.output_proj_box\.(weight|bias)"
    r"|" + re.escape(_BACKBONE) + r"(.+\.(relative_position_index|attn_mask)|.*num_batches_tracked"
    r"|(norm0|norm|head|fc|stem\.fc)\.(weight|bias))"
)


def _renaming(pairs: Iterable[Pair]) -> Callable[[str], str | None]:
    """A function that rewrites a name by the first pair whose left side matches, or returns None."""

    def pattern(template: str) -> re.Pattern[str]:
        escaped = re.sub(r"\\{(\w+)\\\*\\}", r"(?P<\1>.+)", re.escape(template))
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^.]+)", escaped))

    rules = [(pattern(source), target.replace("*}", "}")) for source, target in pairs]

    def rename(name: str) -> str | None:
        for source, target in rules:
            if match := source.fullmatch(name):
                return target.format(**match.groupdict())
        return None

    return rename


@cache
def _to_ours() -> Callable[[str], str | None]:
    return _renaming((theirs, ours) for ours, theirs in _vnext())


@cache
def _to_vnext() -> Callable[[str], str | None]:
    return _renaming(_vnext())


def from_upstream(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any known layout under our names. Unknown names are an error that lists them all."""
    ours: dict[str, Tensor] = {}
    odd = []
    layout = _layout(state)
    for name, tensor in state.items():
        vnext = layout(name)
        if vnext is not None and (_ALIAS.fullmatch(vnext) or _UNUSED.fullmatch(vnext)):
            continue
        translated = _to_ours()(vnext) if vnext is not None else None
        if translated is None:
            odd.append(name)
        else:
            ours[translated] = tensor
    if odd:
        raise UserError(f"{len(odd)} of {len(state)} weights have unknown names: {', '.join(sorted(odd))}")
    return ours


def to_upstream(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights in the layout of VNext, with zeros for the weights that its models do not use."""
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        vnext = _to_vnext()(name)
        if vnext is None:
            raise UserError(f"{name}: the published models have no such weight")
        theirs[vnext] = tensor
        if name.startswith("decoder.box_heads."):
            theirs[vnext.replace(_DETR, _TRANSFORMER + "decoder.", 1)] = tensor
        if vnext.endswith("relative_position_bias_table"):
            window = (round(len(tensor) ** 0.5) + 1) // 2
            index = vnext.replace("relative_position_bias_table", "relative_position_index")
            theirs[index] = relative_position_index(window)
        if vnext == _BACKBONE + "patch_embed.norm.weight":
            theirs |= {f"{_BACKBONE}norm0.{leaf}": torch.zeros_like(tensor) for leaf in ("weight", "bias")}
    if any(".time." in name for name in state):  # SeqFormer
        projection = re.compile(re.escape(_TRANSFORMER) + r"encoder\..+\.output_proj\.(weight|bias)")
        for name in [name for name in theirs if projection.fullmatch(name)]:
            theirs[name.replace("output_proj", "output_proj_box")] = torch.zeros_like(theirs[name])
    return theirs


def _layout(state: Mapping[str, Tensor]) -> Callable[[str], str | None]:
    """A function from the file's names to those of VNext. Each layout is recognised by one of its names."""
    if any(name.startswith(_DETR) for name in state):
        return lambda name: name
    if any(name.startswith("detr.transformer.") for name in state):
        return _from_original
    if "conv1.weight" in state:
        return _from_torchvision
    if "stem.conv1.weight" in state or "patch_embed.proj.weight" in state:
        return lambda name: _BACKBONE + name
    prefix = "backbone.bottom_up."
    if prefix + "stem.conv1.weight" in state:
        return lambda name: _BACKBONE + name.removeprefix(prefix) if name.startswith(prefix) else None
    raise UserError(
        "neither an IDOL nor a SeqFormer nor a ResNet nor a Swin file: its names begin with "
        + ", ".join(sorted({name.split(".")[0] for name in state})[:5])
    )


def _from_original(name: str) -> str | None:
    """The original SeqFormer: one prefix less, and torchvision's names in the backbone."""
    body = "detr.backbone.0.body."
    return _from_torchvision(name.removeprefix(body)) if name.startswith(body) else "detr." + name


@cache
def _torchvision() -> Callable[[str], str | None]:
    def pairs() -> Iterable[Pair]:
        yield "conv1.weight", "stem.conv1.weight"
        yield "bn1.{leaf}", "stem.conv1.norm.{leaf}"
        yield "fc.{leaf}", "fc.{leaf}"
        for layer in (1, 2, 3, 4):
            ours, theirs = f"res{layer + 1}.{{block}}.", f"layer{layer}.{{block}}."
            yield theirs + "conv{i}.weight", ours + "conv{i}.weight"
            yield theirs + "bn{i}.{leaf}", ours + "conv{i}.norm.{leaf}"
            yield theirs + "downsample.0.weight", ours + "shortcut.weight"
            yield theirs + "downsample.1.{leaf}", ours + "shortcut.norm.{leaf}"

    return _renaming(pairs())


def _from_torchvision(name: str) -> str | None:
    renamed = _torchvision()(name)
    return None if renamed is None else _BACKBONE + renamed
