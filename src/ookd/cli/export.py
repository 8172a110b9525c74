"""`ookd export`: a model for runtimes that are faster and lighter than PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import orjson
import typer

from ookd.errors import UserError

app = typer.Typer(rich_markup_mode=None)

NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}


@app.command()
def export(
    model: str = typer.Argument(help="A model's name or folder."),
    out: Path = typer.Argument(help="Folder for the exported model."),
    to: Literal["openvino", "onnx"] = typer.Option("openvino", help="For which runtime."),
    precision: Literal["fp32", "fp16", "bf16", "int8"] = typer.Option(
        "fp32", help="fp16 halves the files; bf16 (openvino) and int8 also compute in it."
    ),
    size: str = typer.Option("160x288", help="Height x width of the frames, multiples of 32."),
    data: str = typer.Option("ytvis-like", help="Annotated videos or a world, to compare and calibrate on."),
    scenes: int = typer.Option(20, min=0, help="Videos on which AP is compared; 0: it is not."),
    check: bool = typer.Option(True, "--check/--no-check", help="Refuse what differs too much; compare AP."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an exported folder."),
    as_json: bool = typer.Option(False, "--json", help="The summary as JSON on standard output."),
) -> None:
    """Write a model for OpenVINO or ONNX Runtime, and make sure that it finds the same objects."""
    _installed(to, precision)
    from ookd.cli.progress import FrameProgress
    from ookd.deploy import export as exporting

    height_width = _size(size)
    videos = scenes if check else 0
    with FrameProgress(exporting.frames_compared(data, videos, height_width)) as progress:
        outcome = exporting.export(
            model,
            out,
            to,
            precision,
            height_width,
            data=data,
            scenes=videos,
            required=check,
            overwrite=overwrite,
            told=progress.step,
        )
    bytes_ = sum(file.stat().st_size for file in out.iterdir())
    found = outcome.agreement
    if as_json:
        summary = {
            "out": str(out),
            "bytes": bytes_,
            "mask_overlap": found.overlap,
            "score_distance": found.score,
            "ap": [outcome.ap_before, outcome.ap_after],
        }
        print(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode())
        return
    print(f"{out}: {to} {precision} {size}, {bytes_ / 1e6:.1f} MB")
    print(f"against PyTorch: masks overlap {found.overlap:.4f}, scores differ by {found.score:.4f}")
    if outcome.ap_before is not None and outcome.ap_after is not None:
        before, after = 100 * outcome.ap_before, 100 * outcome.ap_after
        print(f"AP on {scenes} videos: {before:.2f} -> {after:.2f} ({after - before:+.2f})")


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise UserError(f"--size {text}: should be height x width, as in 160x288") from None
    return height, width


def _installed(kind: str, precision: str) -> None:
    from importlib.util import find_spec

    needed = {*NEEDS[kind], *(NEEDS["onnx"] if precision == "int8" else ())}
    missing = sorted(name for name in needed if find_spec(name) is None)
    if missing:
        raise UserError(f"export needs {', '.join(missing)}: pip install 'ookd[export]'")
