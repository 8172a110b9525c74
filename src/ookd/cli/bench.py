"""`ookd bench`: how fast a model tracks on this machine, and where the time goes."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from ookd.cli.export import parse_size
from ookd.deploy.folder import Precision, is_exported, read_exported
from ookd.deploy.runtime import RUNTIMES
from ookd.errors import UserError
from ookd.machine import machine

if TYPE_CHECKING:
    from ookd.deploy.measure import Speed

app = typer.Typer(rich_markup_mode=None)

SIZE = (160, 288)
FPS = 25


@app.command()
def bench(
    model: Annotated[
        str,
        typer.Argument(
            help="A model's name, folder or hub id, or a configuration such as idol-r50, which gets "
            "random weights."
        ),
    ] = "nano",
    size: Annotated[str, typer.Option(help="Height x width of the network's input, such as 256x448.")] = "",
    runtime: Annotated[str, typer.Option(help="auto, torch, compiled, openvino or onnx.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Precision of weights that are exported for openvino or onnx.")
    ] = "fp32",
    source: Annotated[str, typer.Option(help="A video, or world: a synthetic one of that size.")] = "world",
    frames: Annotated[int, typer.Option(min=10, help="At most this many frames.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON on standard output.")] = False,
) -> None:
    """Time each stage by itself, then the whole run from a video file to JSON files, stages overlapping.

    For openvino and onnx, weights are exported first. Other work on the machine disturbs every number.
    """
    from ookd.deploy.measure import Job, measure_apart

    with tempfile.TemporaryDirectory() as scratch:
        shape = _frame_size(size, model)
        folder = prepare_model(model, runtime, precision, shape, Path(scratch))
        video = prepare_video(source, shape, frames, Path(scratch))
        speed = measure_apart(Job(str(folder), str(video), frames, runtime, min(shape)))
    answer = {
        "model": model,
        "size": shape,
        "runtime": runtime,
        "source": source,
        **asdict(speed),
        "machine": machine(),
    }
    if as_json:
        print(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(speed, f"{model} at {shape[0]}x{shape[1]} through {runtime}")


def _frame_size(text: str, model: str) -> tuple[int, int]:
    """The size requested. An exported model has only one."""
    fixed = read_exported(model).manifest.size if is_exported(model) else None
    if not text:
        return fixed or SIZE
    size = parse_size(text)
    if fixed and fixed != size:
        raise UserError(f"--size {text}: {model} was exported for {fixed[0]}x{fixed[1]}")
    return size


def prepare_model(
    model: str, runtime: str, precision: Precision, size: tuple[int, int], scratch: Path
) -> Path | str:
    """A folder that the runtime reads: as given, exported, or with random weights."""
    from ookd.models import zoo
    from ookd.models.families import preset, presets

    folder: Path | str = model
    if model in presets() and model not in zoo.bundled() and not Path(model).is_dir():
        import torch

        torch.manual_seed(0)
        config = preset(model)
        names = [f"class {label}" for label in range(config.classes)]
        folder = scratch / "random"
        zoo.save_pretrained(zoo.build(config), folder, names)
    if runtime not in RUNTIMES or is_exported(folder):
        return folder
    from ookd.deploy.export import export

    kind = RUNTIMES[runtime].kinds[0]
    export(folder, scratch / "exported", kind, precision, size, scenes=0, required=False)
    return scratch / "exported"


def prepare_video(source: str, size: tuple[int, int], frames: int, scratch: Path) -> Path | str:
    """The source, or an H.264 file of a synthetic scene."""
    if source != "world":
        return source
    from ookd.data.video import VideoWriter
    from ookd.worlds import World

    world = World(split="test", videos=1, frames=frames, height=size[0], width=size[1])
    with VideoWriter(scratch / "world.mp4", FPS) as writer:
        for frame in range(frames):
            writer.write(world.clip(0, [frame]).images[0])
    return scratch / "world.mp4"


def _print(speed: Speed, title: str) -> None:
    console = Console()
    table = Table(title=title, box=None)
    table.add_column("stage")
    table.add_column("ms per frame", justify="right")
    for stage, milliseconds in speed.stages_ms.items():
        table.add_row(stage, f"{milliseconds:.2f}")
    console.print(table)
    latency = ", ".join(f"{rank} {value:.1f}" for rank, value in speed.latency_ms.items())
    console.print(
        f"\nimage to result (ms): {latency}\n"
        f"video to JSON files, stages overlapping: {speed.fps:.1f} frames/s "
        f"({speed.frames} frames, {speed.objects} objects each)\n"
        f"import to first result: {speed.first_result_s:.1f} s, memory: {speed.memory_mb:.0f} MB\n"
        f"{', '.join(f'{name} {value}' for name, value in machine().items())}",
        highlight=False,
    )
