"""`ookd demo`: tracks an unseen synthetic scene online and scores the result against its ground truth.

With --distill: trains with and without a teacher and compares (`demo_distill`).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ookd.errors import UserError

app = typer.Typer(rich_markup_mode=None)

SEED = 2026  # of the scene; training worlds have seed 0
HEIGHT, WIDTH = 320, 576  # of the video; the model sees it smaller
FPS = 12


@app.command()
def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; default: demo, or demo-distill with --distill."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name or folder of a model; default: nano.")] = None,
    scene: Annotated[
        str | None, typer.Option(help="World that the scene comes from; default: ytvis-like.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Seed of the scene, and of training.")
    ] = SEED,
    distill: Annotated[
        bool,
        typer.Option(
            "--distill", help="The whole method on a small scale: train with and without a teacher."
        ),
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="With --distill: training steps of each student; default: 300.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON on standard output.")
    ] = False,
) -> None:
    """Generate an unseen scene, track it with the bundled model, write an annotated video and scores.

    With --distill: train two students for a few minutes, one of them with a teacher, and compare them on
    unseen scenes. If it is stopped, the same command continues.
    """
    if distill:
        if model is not None or scene is not None:
            raise UserError("--distill uses its own model and world: leave out --model and --scene")
        _distill(out or Path("demo-distill"), steps, seed, overwrite, as_json)
    elif steps is not None:
        raise UserError("--steps needs --distill")
    else:
        _track(out or Path("demo"), model or "nano", scene or "ytvis-like", seed, overwrite, as_json)


def _distill(out: Path, steps: int | None, seed: int, overwrite: bool, as_json: bool) -> None:
    from ookd.cli import demo_distill
    from ookd.engine.loop import Interrupted

    try:
        summary = demo_distill.distill(out, steps, seed, overwrite)
    except Interrupted as stop:
        print("stopped; the same command continues from here", file=sys.stderr)
        raise typer.Exit(128 + stop.number) from None
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        demo_distill.show(summary, out)


def _track(out: Path, model: str, scene: str, seed: int, overwrite: bool, as_json: bool) -> None:
    from PIL import Image

    from ookd.api import load
    from ookd.data.video import VideoWriter
    from ookd.drawing.overlay import Overlay, contact_sheet
    from ookd.evaluation.run import evaluate
    from ookd.evaluation.submission import write_submission
    from ookd.files import new_folder
    from ookd.process import peak_memory
    from ookd.worlds import World

    world = World(scene, split="test", seed=seed, videos=1, height=HEIGHT, width=WIDTH)
    tracker = load(model)
    session = tracker.session(final=True)
    overlay, seconds = Overlay(trails=True), 0.0
    shown: list[tuple[Any, str]] = []
    frames = range(world.video_length(0))
    with new_folder(out, overwrite, ("demo.json",)) as folder:
        with (
            VideoWriter(folder / "tracked.mp4", FPS) as annotated,
            VideoWriter(folder / "scene.mp4", FPS) as raw,
        ):
            for frame in frames:
                image = world.clip(0, [frame]).images[0]
                began = time.perf_counter()
                result = session.step(image)
                seconds += time.perf_counter() - began
                drawn = overlay.draw(result)
                annotated.write(drawn)
                raw.write(image)
                if frame % (len(frames) // 8 or 1) == 0 and len(shown) < 8:
                    shown.append((drawn, f"frame {frame}"))
        truth = world.dataset()
        categories = {c.name: c.id for c in truth.categories}
        results = list(session.results.tracks(1, [categories.get(name) for name in tracker.names]))
        write_submission(results, folder / "results.json")
        sheet = contact_sheet([image for image, _ in shown], 2, [title for _, title in shown], WIDTH)
        Image.fromarray(sheet).save(folder / "contact-sheet.png")
        report = evaluate(truth, results)
        summary: dict[str, Any] = {
            "frames": len(frames),
            "objects": len(truth.videos[0].tracks),
            "ap": report.ap,
            "ap50": report.summary["AP50"],
            "hota": report.tracking.hota,
            "identity_switches": report.tracking.switches,
            "frames_per_s": round(len(frames) / seconds, 1),
            "memory_mb": round(peak_memory() / 2**20),
        }
        (folder / "demo.json").write_text(json.dumps(summary, indent=1) + "\n")
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
        return
    _print(summary, out)


def _print(summary: dict[str, Any], out: Path) -> None:
    table = Table(title="An unseen synthetic scene, tracked one frame at a time", box=None)
    table.add_column("")
    table.add_column("", justify="right")
    rows = {
        "objects in the scene": str(summary["objects"]),
        "track AP": f"{100 * summary['ap']:.1f}",
        "track AP at IoU 0.5": f"{100 * summary['ap50']:.1f}",
        "HOTA": f"{100 * summary['hota']:.1f}",
        "identity switches": str(summary["identity_switches"]),
        "frames per second": f"{summary['frames_per_s']:.1f}",
        "memory of the process": f"{summary['memory_mb']} MB",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console = Console()
    console.print(table)
    console.print(f"\n{out}/tracked.mp4, {out}/contact-sheet.png, {out}/results.json\n", highlight=False)
    console.print(
        "Next:\n"
        f"  ookd track {out}/scene.mp4 --out tracked\n"
        "  ookd track VIDEO --model videomt-s --out real   (real video; downloads a model once)\n"
        "  ookd data synth --preset identity --out my-world\n"
        "  ookd demo --distill",
        highlight=False,
    )
