"""`ookd track`: follow the objects of any video, live or recorded."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from itertools import chain, count
from pathlib import Path

import orjson
import typer

from ookd.cli.standard import say
from ookd.errors import UserError
from ookd.tracking.sinks import SINKS

app = typer.Typer(rich_markup_mode=None)

# lowest score of drawn objects, if the model knows only synthetic worlds and --score is not given
DRAWN_SCORE = 0.5


@app.command()
def track(
    source: str = typer.Argument(
        help="A video, a folder or glob of images, a camera's number, an RTSP or HTTP URL, or - for stdin."
    ),
    out: Path | None = typer.Option(
        None, help="Folder for the results. Default: tracked/NAME, with a number if that exists."
    ),
    model: str = typer.Option("nano", help="A model's name, folder or hub id; see `ookd models`."),
    save: str = typer.Option("mp4,json", help=f"What to write: any of {','.join(SINKS)}."),
    classes: str = typer.Option("", help="Show only these classes, as in person,dog."),
    score: float | None = typer.Option(
        None,
        min=0,
        max=1,
        help="Lowest score of written objects. Default: 0; the bundled nano draws objects from 0.5.",
    ),
    every: int = typer.Option(1, min=1, help="Keep every N-th frame."),
    start: str | None = typer.Option(None, help="Start at a frame (120) or a time (1:30, 12.5s)."),
    end: str | None = typer.Option(None, help="Stop before a frame or a time."),
    delay: int = typer.Option(0, min=0, help="Decide identities this many frames later, using those frames."),
    device: str = typer.Option("auto", help="Where the model runs: auto, cpu, cuda, cuda:1, mps."),
    trails: bool = typer.Option(False, "--trails", help="Draw the paths of objects (mp4)."),
    show: bool = typer.Option(
        False, "--show", help="Also show the result in a window; q closes it and stops."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Use the folder even if it is not empty."),
    show_progress: bool = typer.Option(True, "--show-progress/--hide-progress", help="Show progress."),
    as_json: bool = typer.Option(False, "--json", help="The summary as JSON on standard output."),
) -> None:
    """Find, segment and follow objects; write an annotated video, tables or masks.

    Ctrl-C or SIGTERM stops early and leaves complete files of the frames so far.
    """
    from ookd.api import load
    from ookd.api import track as run
    from ookd.cli.progress import FrameProgress
    from ookd.cli.window import Window
    from ookd.data.threads import BackgroundWriter
    from ookd.data.video import open_source
    from ookd.drawing.overlay import Overlay
    from ookd.files import claim_folder
    from ookd.locking import locked
    from ookd.tracking.sinks import Sinks, own_parts

    names, overlay = _sinks(save), Overlay(trails)
    objects: dict[int, str] = {}
    sure: set[int] = set()  # those that are drawn
    interrupted = False
    with (
        _stopping_signals(),
        open_source(source, start=start, end=end, every=every) as frames,
        FrameProgress(frames.length, show_progress) as progress,
        Window(frames.name) if show else nullcontext() as window,
        locked(out := out or _free_folder(frames.name)),
    ):
        claim_folder(out, overwrite, own_parts())
        tracker = load(model, device)
        least = score or 0.0
        if tracker.trained_on:
            progress.warn(_not_for_real_video(model, tracker.trained_on))
            least = DRAWN_SCORE if score is None else score
        shown = [name.strip() for name in classes.split(",") if name.strip()] or None
        with closing(run(frames, tracker, classes=shown, score=score, delay=delay)) as results:
            first = next(results, None)  # before any file is written: the model may fail to load
            if first is None:
                raise UserError(f"{source}: no frames between start and end")
            with Sinks(out, names, frames, trails=trails, score=least) as sinks:
                try:
                    with BackgroundWriter(sinks.write) as writing:
                        for result in chain([first], results):
                            writing.put(result)
                            for id, label in zip(result.ids.tolist(), result.labels.tolist(), strict=True):
                                objects[id] = result.names[label]
                            sure.update(result.ids[result.scores >= least].tolist())
                            progress.step()
                            if window is not None:
                                window.show(overlay.draw(result[result.scores >= least]))
                                if window.closed:
                                    break
                except KeyboardInterrupt:
                    interrupted = True
    if as_json:
        summary = {
            "source": source,
            "model": model,
            "frames": progress.done,
            "seconds": round(progress.seconds, 3),
            "fps": round(progress.speed, 2),
            "objects": Counter(objects.values()),
            "files": [str(out / file) for file in sinks.files],
            "warnings": progress.warnings,
            "interrupted": interrupted,
        }
        print(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode())
    else:
        counts = Counter(objects[id] for id in sure)
        found = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no objects"
        found += f" (and {len(objects) - len(sure)} below {least})" if len(sure) < len(objects) else ""
        say(f"{frames.name}: {progress.done} frames ({progress.speed:.1f} frames/s), {found}")
        say(f"written to {out}: {', '.join(sinks.files)}")
    if interrupted:
        raise typer.Exit(130)


def _free_folder(name: str) -> Path:
    """A folder for the results of a source that does not exist yet."""
    first = Path("tracked") / (re.sub(r"[^\w.-]+", "-", Path(name).stem).strip(".-") or "video")
    others = (first.with_name(f"{first.name}-{number}") for number in count(2))
    return next(folder for folder in chain([first], others) if not folder.exists())


def _not_for_real_video(model: str, trained_on: str) -> str:
    """What a model that has seen no real video does on one, and what to use instead."""
    return (
        f"{model} was trained on {trained_on} only and mistakes real things for its classes; for real video "
        "use a model that has seen some (--model videomt-s; ookd models lists more) "
        "or train on your own classes (ookd train nano --data DATA)"
    )


@contextmanager
def _stopping_signals() -> Iterator[None]:
    """SIGTERM stops like Ctrl-C. So does SIGINT, which a script's background job starts with ignored."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _sinks(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in SINKS]
    if unknown or not names:
        what = repr(unknown[0]) if unknown else "nothing"
        raise UserError(f"--save {text}: {what} cannot be written; choose from {', '.join(SINKS)}")
    return names
