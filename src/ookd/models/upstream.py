"""Names of weights in the published files and in ours, translated in both directions.

Three layouts are read: that of VNext (the official IDOL and SeqFormer files), that of the original SeqFormer
repository, and ResNet files of detectron2 and torchvision. Ours can be written back in VNext's layout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

from torch import Tensor

from ookd.errors import UserError

_DETR = "detr.detr."
_TRANSFORMER = _DETR + "transformer."
_BACKBONE = _DETR + "backbone.0.backbone."

_ATTENTION = {
    "offsets": "sampling_offsets",
    "weights": "attention_weights",
    "values": "value_proj",
    "output": "output_proj",
}


def _rules() -> Iterable[tuple[str, str]]:
    """Pairs (ours, VNext's). {name} stands for one step of the dotted path, {name*} for one or more."""
    yield "pixels.backbone.stem.0.weight", _BACKBONE + "stem.conv1.weight"
    yield "pixels.backbone.stem.1.{leaf}", _BACKBONE + "stem.conv1.norm.{leaf}"
    yield (
        "pixels.backbone.stages.{stage}.{block}.{conv}.0.weight",
        _BACKBONE + "{stage}.{block}.{conv}.weight",
    )
    yield (
        "pixels.backbone.stages.{stage}.{block}.{conv}.1.{leaf}",
        _BACKBONE + "{stage}.{block}.{conv}.norm.{leaf}",
    )
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


class _Renaming:
    """A table of templates that rewrites whole names; a name that fits no template has no translation."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.rules = [(re.compile(self._pattern(source)), self._result(target)) for source, target in pairs]

    def __call__(self, name: str) -> str | None:
        for pattern, result in self.rules:
            if match := pattern.fullmatch(name):
                return result.format(**match.groupdict())
        return None

    @staticmethod
    def _pattern(template: str) -> str:
        pattern = re.escape(template)
        pattern = re.sub(r"\\{(\w+)\\\*\\}", r"(?P<\1>.+)", pattern)
        return re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^.]+)", pattern)

    @staticmethod
    def _result(template: str) -> str:
        return template.replace("*}", "}")


@cache
def _to_ours() -> _Renaming:
    return _Renaming((theirs, ours) for ours, theirs in _rules())


@cache
def _to_theirs() -> _Renaming:
    return _Renaming(_rules())


# The decoder lists the box heads a second time; SeqFormer's encoder owns projections that nothing reads.
_ALIAS = re.compile(re.escape(_TRANSFORMER) + r"decoder\.(bbox_embed\..+)")
_DEAD = re.compile(
    re.escape(_TRANSFORMER) + r"encoder\.layers\.\d+\.self_attn\.output_proj_box\.(weight|bias)"
)


def from_upstream(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """VNext's weights under our names. Names that mean nothing to us are an error that lists them all."""
    ours: dict[str, Tensor] = {}
    odd = []
    for name, tensor in state.items():
        if _ALIAS.fullmatch(name) or _DEAD.fullmatch(name):
            continue
        translated = _to_ours()(name)
        if translated is None:
            odd.append(name)
        else:
            ours[translated] = tensor
    if odd:
        raise UserError(f"{len(odd)} of {len(state)} weights have unknown names: {', '.join(sorted(odd))}")
    return ours
