"""`ookd export`: a model for runtimes that are faster and lighter than PyTorch."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import orjson
import typer

from ookd.cli.standard import say
from ookd.deploy.folder import Kind, Precision
from ookd.deploy.runtime import RUNTIMES
from ookd.errors import UserError

app = typer.Typer(rich_markup_mode=None)

WORLD = "ytvis-like"  # compares models whose training data are unknown


@app.command()
def export(
    model: str = typer.Argument(help="A model's name, folder or hub id; see `ookd models`."),
    out: Path = typer.Argument(help="Folder for the exported model."),
    to: Kind = typer.Option("openvino", help="The runtime to export for."),
    precision: Precision = typer.Option(
        "fp32", help="fp16 halves the files; bf16 (openvino only) and int8 also compute faster."
    ),
    size: str = typer.Option("160x288", help="Height x width of the frames, multiples of 32."),
    data: str | None = typer.Option(
        None,
        help="Annotated videos or a world, to compare and calibrate on. Default: those of the model's run.",
    ),
    scenes: int = typer.Option(20, min=0, help="Videos on which AP is compared; 0 skips it."),
    check: bool = typer.Option(
        True, "--check/--no-check", help="Refuse an export that differs too much, and compare AP."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an exported folder."),
    as_json: bool = typer.Option(False, "--json", help="The summary as JSON on standard output."),
) -> None:
    """Write a model for OpenVINO or ONNX Runtime, and check that it finds the same objects."""
    height_width = parse_size(size)
    require_packages(to, precision)
    from ookd.cli.progress import FrameProgress
    from ookd.deploy import export as exporting
    from ookd.engine.begun import data_of_run

    data = data or data_of_run(Path(model)) or WORLD
    videos = scenes if check else 0
    with FrameProgress(exporting.frames_tracked(data, videos, height_width)) as progress:
        summary = exporting.export(
            model,
            out,
            to,
            precision,
            height_width,
            data=data,
            scenes=videos,
            required=check,
            overwrite=overwrite,
            on_frame=progress.step,
        )
    size_bytes = sum(file.stat().st_size for file in out.iterdir())
    parity, before, after = summary.parity, summary.ap_before, summary.ap_after
    if as_json:
        fields = {
            "out": str(out),
            "bytes": size_bytes,
            "mask_overlap": parity.mask_iou,
            "score_distance": parity.score_difference,
            "ap": [before, after],
        }
        print(orjson.dumps(fields, option=orjson.OPT_INDENT_2).decode())
        return
    say(f"{out}: {to} {precision} {size}, {size_bytes / 1e6:.1f} MB")
    print(
        f"against PyTorch: masks overlap {parity.mask_iou:.4f}, "
        f"scores differ by {parity.score_difference:.4f}"
    )
    if before is not None and after is not None:
        change = 100 * (after - before)
        print(f"AP on {scenes} videos: {100 * before:.2f} -> {100 * after:.2f} ({change:+.2f})")


def parse_size(text: str) -> tuple[int, int]:
    """Height and width."""
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text.strip().lower())
    if not found:
        raise UserError(f"--size {text:.40}: should be height x width, as in 160x288")
    return int(found[1]), int(found[2])


def require_packages(kind: Kind, precision: Precision) -> None:
    """What exporting needs; quantisation to int8 uses ONNX Runtime's tools for every kind."""
    readers = {runtime.package for runtime in RUNTIMES.values() if kind in runtime.kinds}
    needed = {"onnx", "onnxscript", *readers, *(["onnxruntime"] if precision == "int8" else [])}
    missing = sorted(name for name in needed if find_spec(name) is None)
    if missing:
        raise UserError(f"export needs {', '.join(missing)}: pip install 'ookd[export]'")
