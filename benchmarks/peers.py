"""idol-r50 against published peers of `transformers`, from a video file to tracks, in the same run.

All have random weights: speed does not need trained ones, but then hardly an object is found, so what each
does for every object that it reports is left out. Mask2Former (ResNet-50) segments frame by frame, with its
own image processor before and behind. VidEoMT-S sees 640 x 640 and clips of `--clip` frames, in which it
hands its queries on; its own processor needs torchvision, so its steps (resize, normalise, masks back to the
frame's size, class score x mask score of at least 0.5) are spelled out here. Through OpenVINO it sees single
frames, which saves it one small matrix product a frame.

The models take turns; printed is the median of the repeats with its spread, and the ratio to idol-r50.

    python benchmarks/peers.py VIDEO.mp4 --frames 24 --repeats 5
    python benchmarks/peers.py VIDEO.mp4 --runtime openvino --precision int8 --peers bf16
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ookd.api import load
from ookd.data import rle
from ookd.data.video import open_source
from ookd.models.families import preset
from ookd.models.preprocess import MEAN, STD
from ookd.models.zoo import build, save_pretrained
from ookd.tracking.pipeline import follow

OURS, MASK2FORMER, VIDEOMT = "idol-r50", "Mask2Former-R50", "VidEoMT-S"
SIZE = (384, 640)  # of idol-r50 and Mask2Former
SQUARE = 640  # side of VidEoMT's frames
CLASSES = 40
Run = Callable[[Path, int], int]  # video, frames -> frames done


def ours(runtime: str, precision: str, scratch: Path) -> Run:
    config = preset(OURS, classes=CLASSES)
    names = [f"class {label}" for label in range(CLASSES)]
    folder = scratch / "idol"
    save_pretrained(build(config), folder, names, {"short_side": SIZE[0]})
    if runtime == "openvino":
        from ookd.deploy.export import export

        exported: Any = precision
        export(folder, scratch / "exported", "openvino", exported, SIZE, scenes=0, required=False)
        folder = scratch / "exported"
    tracker = load(folder, "cpu", runtime)

    def run(video: Path, frames: int) -> int:
        session = tracker.session(final=True)
        with open_source(video) as source, closing(follow(session, source)) as results:
            done = sum(1 for _ in islice(results, frames))
        list(session.results.tracks(1, range(CLASSES)))
        return done

    return run


def mask2former(runtime: str, precision: str) -> Run:
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessorPil,
        ResNetConfig,
    )
    from transformers.models.mask2former.modeling_mask2former import (
        Mask2FormerForUniversalSegmentationOutput as Output,
    )

    backbone = ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    model = Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(backbone_config=backbone, num_labels=CLASSES)
    )
    processor = Mask2FormerImageProcessorPil(size={"height": SIZE[0], "width": SIZE[1]})
    network = answering(Answers(model, "pixel_values"), (1, 3, *SIZE), runtime, precision)

    def run(video: Path, frames: int) -> int:
        done = 0
        for image in images(video, frames):
            pixels = processor(image, return_tensors="pt")["pixel_values"]
            classes, masks = network(pixels)
            output = Output(class_queries_logits=classes, masks_queries_logits=masks)
            processor.post_process_instance_segmentation(
                output, target_sizes=[image.shape[:2]], return_coco_annotation=True
            )
            done += 1
        return done

    return run


def videomt(runtime: str, precision: str, clip: int) -> Run:
    from transformers import VideomtConfig, VideomtForUniversalSegmentation

    config = VideomtConfig(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        num_blocks=3,
        image_size=SQUARE,
        num_labels=CLASSES,
    )
    length = 1 if runtime == "openvino" else clip
    model = Answers(VideomtForUniversalSegmentation(config), "pixel_values_videos")
    network = answering(model, (1, length, 3, SQUARE, SQUARE), runtime, precision)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))

    def run(video: Path, frames: int) -> int:
        done, every = 0, images(video, frames)
        while len(some := list(islice(every, length))) == length:
            pixels = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).float()
            pixels = F.interpolate(pixels, (SQUARE, SQUARE), mode="bilinear", antialias=True)
            classes, masks = network(((pixels - mean) / std)[None])
            for logits, mask in zip(classes, masks, strict=True):
                instances(logits, mask, some[0].shape[:2])
                done += 1
        return done

    return run


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
    if runtime == "torch":
        return torch.inference_mode()(model)
    import openvino

    converted = openvino.convert_model(model, example_input=torch.zeros(shape), input=list(shape))
    hint = "bf16" if precision == "bf16" else "f32"
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
    }
    compiled = openvino.Core().compile_model(converted, "CPU", hints)

    def network(pixels: Tensor) -> tuple[Tensor, Tensor]:
        classes, masks = compiled([pixels.numpy()]).values()
        return torch.from_numpy(classes), torch.from_numpy(masks)

    return network


def images(video: Path, frames: int) -> Iterator[np.ndarray]:
    with open_source(video) as source:
        yield from islice(iter(source), frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--runtime", choices=["torch", "openvino"], default="torch")
    parser.add_argument(
        "--precision", choices=["fp32", "int8"], default="fp32", help="of idol-r50 through OpenVINO"
    )
    parser.add_argument(
        "--peers", choices=["fp32", "bf16"], default="fp32", help="precision of the others through OpenVINO"
    )
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clip", type=int, default=4, help="frames that VidEoMT sees together")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    how, theirs = (arguments.runtime, arguments.precision), (arguments.runtime, arguments.peers)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        make: dict[str, Callable[[], Run]] = {
            OURS: lambda: ours(*how, scratch),
            MASK2FORMER: lambda: mask2former(*theirs),
            VIDEOMT: lambda: videomt(*theirs, arguments.clip),
        }
        runs = {name: make[name]() for name in make}
        speed: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():  # to warm up
            run(arguments.video, arguments.clip)
        for _ in range(arguments.repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                done = run(arguments.video, arguments.frames)
                speed[name].append(done / (time.perf_counter() - start))
    print(
        f"{arguments.video.name}, {arguments.frames} frames, "
        f"{arguments.runtime} {arguments.precision} (peers {arguments.peers}), "
        f"{arguments.threads} threads, {platform.machine()}, torch {torch.__version__}, "
        f"median of {arguments.repeats}, random weights, load {os.getloadavg()[0]:.1f}\n"
    )
    print("| model | sees | frames/s | lowest - highest | idol-r50 is faster by |\n|---|---|---|---|---|")
    first = statistics.median(speed[OURS])
    for name, values in speed.items():
        sees = f"{SQUARE}x{SQUARE}" if name == VIDEOMT else f"{SIZE[0]}x{SIZE[1]}"
        median = statistics.median(values)
        spread = f"{min(values):.2f} - {max(values):.2f}"
        print(f"| {name} | {sees} | {median:.2f} | {spread} | {first / median:.2f} x |")


if __name__ == "__main__":
    main()
