"""`ookd bench`: how fast a model tracks on this machine, and where the time goes."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from ookd.errors import UserError

if TYPE_CHECKING:
    from ookd.deploy.measure import Speed

app = typer.Typer(rich_markup_mode=None)

SIZE = (160, 288)
FPS = 25


@app.command()
def bench(
    model: Annotated[
        str, typer.Argument(help="A model's name or folder, or a configuration (idol-r50): random weights.")
    ] = "nano",
    size: Annotated[str, typer.Option(help="Height x width that the network sees, as in 256x448.")] = "",
    runtime: Annotated[str, typer.Option(help="auto, torch, compiled, openvino or onnx.")] = "auto",
    precision: Annotated[str, typer.Option(help="Of an export on the way: fp32, fp16, bf16, int8.")] = "fp32",
    source: Annotated[str, typer.Option(help="A video, or world: a synthetic one of that size.")] = "world",
    frames: Annotated[int, typer.Option(min=10, help="At most so many frames.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="The numbers as JSON on standard output.")] = False,
) -> None:
    """Time each stage alone, then the whole way from a video file to JSON files with stages overlapping.

    Weights are exported for openvino and onnx on the way. Other work on the machine disturbs every number.
    """
    from ookd.deploy.measure import Job, measure_apart

    with tempfile.TemporaryDirectory() as scratch:
        shape = _shape(size, model)
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


def _shape(text: str, model: str) -> tuple[int, int]:
    """The size asked for, or the one that an exported model is bound to."""
    from ookd.deploy import folder

    bound = folder.read(model).manifest.size if folder.is_exported(model) else None
    if not text:
        return bound or SIZE
    if not re.fullmatch(r"\d+x\d+", text):
        raise UserError(f"size {text}: right is height x width, as in 256x448")
    height, width = map(int, text.split("x"))
    if bound and bound != (height, width):
        raise UserError(f"size {text}: {model} was exported for {bound[0]}x{bound[1]}")
    return height, width


def prepare_model(
    model: str, runtime: str, precision: str, size: tuple[int, int], scratch: Path
) -> Path | str:
    """A folder that the runtime reads: as it is, exported, or made of random weights."""
    from ookd.deploy.folder import is_exported
    from ookd.deploy.runtime import RUNTIMES
    from ookd.models import zoo
    from ookd.models.families import preset, presets

    place: Path | str = model
    if model in presets() and model not in zoo.bundled() and not Path(model).is_dir():
        import torch

        torch.manual_seed(0)
        config = preset(model)
        names = [f"class {label}" for label in range(config.classes)]
        place = scratch / "random"
        zoo.save_pretrained(zoo.build(config), place, names)
    if runtime not in RUNTIMES or is_exported(place):
        return place
    from ookd.deploy.export import export

    precisions = ("fp32", "fp16", "bf16", "int8")
    if precision not in precisions:
        raise UserError(f"precision {precision}: right are {', '.join(precisions)}")
    kind: Any = runtime
    how: Any = precision
    export(place, scratch / "exported", kind, how, size, scenes=0, required=False)
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


def machine() -> dict[str, str | int | float]:
    """What the numbers depend on besides the model."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "openvino", "onnxruntime") if _installed(name)},
        "load": round(os.getloadavg()[0], 2),
    }


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*: (.*)", text)
    return found[1] if found else platform.processor()


def _print(speed: Speed, title: str) -> None:
    console = Console()
    table = Table(title=title, box=None)
    table.add_column("stage")
    table.add_column("ms a frame", justify="right")
    for stage, milliseconds in speed.stages_ms.items():
        table.add_row(stage, f"{milliseconds:.2f}")
    console.print(table)
    latency = ", ".join(f"{rank} {value:.1f}" for rank, value in speed.latency_ms.items())
    console.print(
        f"\nimage to result (ms): {latency}\n"
        f"file to files, stages overlapping: {speed.fps:.1f} frames/s "
        f"({speed.frames} frames, {speed.objects} objects each)\n"
        f"import to first result: {speed.first_result_s:.1f} s, memory: {speed.memory_mb:.0f} MB\n"
        f"{', '.join(f'{name} {value}' for name, value in machine().items())}",
        highlight=False,
    )
