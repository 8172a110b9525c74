"""idol-r50 beside published peers of `transformers`, from a video file to tracks.

All have random weights: speed does not need trained ones, but then hardly an object is found, so what each
does for every object that it reports is left out. Mask2Former (ResNet-50) segments frame by frame, with its
own image processor. VidEoMT-S sees 640x640 and clips of `--clip` frames, in which it hands its queries on.
Its own processor needs torchvision, so its steps (resize, normalise, masks back to the frame's size, class
score x mask score of at least 0.5) are spelled out here. Through OpenVINO it sees single frames, which saves
it one small matrix product a frame. The models take turns.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from measuring import Table, alternate
from ookd.api import load
from ookd.data import rle
from ookd.data.video import open_source
from ookd.models.families import preset
from ookd.models.preprocess import MEAN, STD
from ookd.models.zoo import build, save_pretrained
from ookd.tracking.pipeline import follow

OURS = "idol-r50"
SIZE = (384, 640)  # of idol-r50 and Mask2Former
SQUARE = 640  # side of VidEoMT's frames
CLASSES = 40
Run = Callable[[Path, int], object]  # video, frames


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("video", type=Path)
    add("--runtime", choices=["torch", "openvino"], default="torch")
    add("--precision", choices=["fp32", "int8"], default="fp32", help="of idol-r50 through OpenVINO")
    add("--peers", choices=["fp32", "bf16"], default="fp32", help="precision of the others through OpenVINO")
    add("--frames", type=int, default=16)
    add("--repeats", type=int, default=3)
    add("--clip", type=int, default=4, help="frames that VidEoMT sees together")
    add("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> None:
    columns = {"model": "", "sees": "", **dict.fromkeys(["frames/s", "lowest", "highest"], ".2f")}
    with (
        tempfile.TemporaryDirectory() as scratch,
        Table(given, {**columns, "idol-r50 is faster by": ".2f"}) as table,
    ):
        clip = given.clip if given.runtime == "torch" else 1
        runs = {
            OURS: ours(given.runtime, given.precision, Path(scratch)),
            "Mask2Former-R50": mask2former_run(given.runtime, given.peers),
            "VidEoMT-S": videomt_run(given.runtime, given.peers, clip),
        }
        frames = len(list(images(given.video, given.frames))) // clip * clip
        times = alternate(
            {name: partial(one, given.video, frames) for name, one in runs.items()}, given.repeats
        )
        for name, one in times.items():
            height, width = (SQUARE, SQUARE) if name == "VidEoMT-S" else SIZE
            speeds = [frames / seconds for seconds in (one.median, max(one.clock), min(one.clock))]
            table.add(name, f"{height}x{width}", *speeds, one.median / times[OURS].median)


def ours(runtime: str, precision: str, scratch: Path) -> Run:
    names = [f"class {label}" for label in range(CLASSES)]
    folder = scratch / "idol"
    save_pretrained(build(preset(OURS, classes=CLASSES)), folder, names, {"short_side": SIZE[0]})
    if runtime == "openvino":
        from ookd.deploy.export import export

        exported: Any = precision
        export(folder, scratch / "exported", "openvino", exported, SIZE, scenes=0, required=False)
        folder = scratch / "exported"
    tracker = load(folder, "cpu", runtime)

    def track(video: Path, frames: int) -> object:
        session = tracker.session(final=True)
        with open_source(video) as source, closing(follow(session, source)) as results:
            for _ in islice(results, frames):
                pass
        return list(session.results.tracks(1, range(CLASSES)))

    return track


def mask2former(classes: int) -> nn.Module:
    """Six encoder and nine decoder layers over a ResNet-50, as published."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ResNetConfig(out_features=stages)
    return Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(backbone_config=backbone, num_labels=classes)
    )


def mask2former_run(runtime: str, precision: str) -> Run:
    from transformers import Mask2FormerImageProcessorPil
    from transformers.models.mask2former.modeling_mask2former import (
        Mask2FormerForUniversalSegmentationOutput as Output,
    )

    processor = Mask2FormerImageProcessorPil(size={"height": SIZE[0], "width": SIZE[1]})
    network = answering(Answers(mask2former(CLASSES), "pixel_values"), (1, 3, *SIZE), runtime, precision)

    def segment(video: Path, frames: int) -> None:
        for image in images(video, frames):
            classes, masks = network(processor(image, return_tensors="pt")["pixel_values"])
            output = Output(class_queries_logits=classes, masks_queries_logits=masks)
            processor.post_process_instance_segmentation(
                output, target_sizes=[image.shape[:2]], return_coco_annotation=True
            )

    return segment


def videomt_run(runtime: str, precision: str, clip: int) -> Run:
    from transformers import VideomtConfig, VideomtForUniversalSegmentation

    config = VideomtConfig(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        num_blocks=3,
        image_size=SQUARE,
        num_labels=CLASSES,
    )
    model = Answers(VideomtForUniversalSegmentation(config), "pixel_values_videos")
    network = answering(model, (1, clip, 3, SQUARE, SQUARE), runtime, precision)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))

    def segment(video: Path, frames: int) -> None:
        remaining = images(video, frames)
        while some := list(islice(remaining, clip)):
            pixels = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).float()
            pixels = F.interpolate(pixels, (SQUARE, SQUARE), mode="bilinear", antialias=True)
            classes, masks = network(((pixels - mean) / std)[None])
            for logits, mask in zip(classes, masks, strict=True):
                instances(logits, mask, some[0].shape[:2])

    return segment


def instances(logits: Tensor, masks: Tensor, size: tuple[int, int]) -> list[Any]:
    """Run lengths of what VidEoMT reports of a frame: logits [Q, K + 1], masks [Q, h, w]."""
    full = F.interpolate(masks[None], size, mode="bilinear")[0]
    inside = full > 0
    sure = (full.sigmoid() * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)
    keep = logits.softmax(-1)[:, :-1].amax(-1) * sure >= 0.5
    return rle.encode_many(inside[keep].numpy())


class Answers(nn.Module):
    """Class and mask logits of a peer, as a function of its pixels."""

    def __init__(self, model: nn.Module, pixels: str) -> None:
        super().__init__()
        self.model, self.pixels = model.eval().requires_grad_(False), pixels

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(**{self.pixels: pixels})
        return output.class_queries_logits, output.masks_queries_logits


def answering(
    model: Answers, shape: tuple[int, ...], runtime: str, precision: str
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The model as a function, through PyTorch or OpenVINO."""
    if runtime == "torch":
        return torch.inference_mode()(model)
    import openvino

    converted = openvino.convert_model(model, example_input=torch.zeros(shape), input=list(shape))
    hint = "bf16" if precision == "bf16" else "f32"
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    compiled = openvino.Core().compile_model(converted, "CPU", hints)

    def network(pixels: Tensor) -> tuple[Tensor, Tensor]:
        classes, masks = compiled([pixels.numpy()]).values()
        return torch.from_numpy(classes), torch.from_numpy(masks)

    return network


def images(video: Path, frames: int) -> Iterator[np.ndarray]:
    with open_source(video) as source:
        yield from islice(iter(source), frames)
