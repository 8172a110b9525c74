"""`ookd track`: follow the objects of any video, live or recorded."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import orjson
import typer

from ookd.errors import UserError
from ookd.tracking.sinks import SINKS

app = typer.Typer(rich_markup_mode=None)


@app.command()
def track(
    source: str = typer.Argument(
        help="A video, a folder or glob of images, a camera's number, an RTSP or HTTP URL, or - for stdin."
    ),
    out: Path = typer.Option(..., help="Folder for the results."),
    model: str = typer.Option("nano", help="A model's name or folder."),
    save: str = typer.Option("mp4,json", help=f"What to write: any of {','.join(SINKS)}."),
    classes: str = typer.Option("", help="Show only these classes, as in person,dog."),
    score: float | None = typer.Option(None, min=0, max=1, help="Show only objects with this score or more."),
    every: int = typer.Option(1, min=1, help="Keep every N-th frame."),
    start: str | None = typer.Option(None, help="Begin at a frame (120) or a time (1:30, 12.5s)."),
    end: str | None = typer.Option(None, help="Stop before a frame or a time."),
    device: str = typer.Option("auto", help="Where the model runs: auto, cpu, cuda, cuda:1, mps."),
    trails: bool = typer.Option(False, "--trails", help="Draw where objects came from (mp4)."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Use the folder though it holds something."),
    show_progress: bool = typer.Option(True, "--show-progress/--hide-progress", help="Show progress."),
    as_json: bool = typer.Option(False, "--json", help="The summary as JSON on standard output."),
) -> None:
    """Find, segment and follow objects; write an annotated video, tables or masks.

    Ctrl-C or SIGTERM ends early and leaves whole files of what was done.
    """
    from ookd.api import track as run
    from ookd.cli.progress import FrameProgress
    from ookd.data.threads import BackgroundWriter
    from ookd.data.video import open_source
    from ookd.files import claim_folder
    from ookd.tracking.sinks import Sinks

    names = _sinks(save)
    objects: dict[int, str] = {}
    interrupted = False
    with (
        open_source(source, start=start, end=end, every=every) as frames,
        FrameProgress(frames.length, show_progress) as progress,
        _sigterm_like_ctrl_c(),
    ):
        claim_folder(out, overwrite)
        shown = [name.strip() for name in classes.split(",") if name.strip()] or None
        with closing(run(frames, model=model, classes=shown, score=score, device=device)) as results:
            first = next(results, None)  # before any file is begun: the model may not load
            if first is None:
                raise UserError(f"{source}: no frames between start and end")
            with Sinks(out, names, frames, trails=trails) as sinks:
                try:
                    with BackgroundWriter(sinks.write) as writing:
                        for result in chain([first], results):
                            writing.put(result)
                            for id, label in zip(result.ids.tolist(), result.labels.tolist(), strict=True):
                                objects[id] = result.names[label]
                            progress.step()
                except KeyboardInterrupt:
                    interrupted = True
    counts = Counter(objects.values())
    if as_json:
        summary = {
            "source": source,
            "model": model,
            "frames": progress.done,
            "seconds": round(progress.seconds, 3),
            "fps": round(progress.speed, 2),
            "objects": counts,
            "files": [str(out / file) for file in sinks.files],
            "warnings": progress.warnings,
            "interrupted": interrupted,
        }
        print(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode())
    else:
        found = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no objects"
        print(f"{frames.name}: {progress.done} frames ({progress.speed:.1f} frames/s), {found}")
        print(f"written to {out}: {', '.join(sinks.files)}")
    if interrupted:
        raise typer.Exit(130)


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sinks(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in SINKS]
    if unknown or not names:
        what = repr(unknown[0]) if unknown else "nothing"
        raise UserError(f"--save {text}: {what} cannot be written; choose from {', '.join(SINKS)}")
    return names
