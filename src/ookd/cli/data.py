"""`ookd data`: check, describe, convert, generate and preview data."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import typer

from ookd.cli.standard import say
from ookd.data.formats import writable
from ookd.errors import UserError

if TYPE_CHECKING:
    from ookd.clips.stats import Stats
    from ookd.data.formats import AnnotationSource

T = TypeVar("T")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check, describe, convert, generate and preview data.",
)

DATA = typer.Argument(help="A folder, an annotation file or a dataset.yaml.")
SPLIT = typer.Option(None, help="Only this split, such as train or val.")
ROOT = typer.Option(None, "--frames", help="Folder, archive or video that file names are relative to.")
JSON = typer.Option(False, "--json", help="The answer as JSON on standard output.")
LAST_SEED = 2**31 - 1
OUT = typer.Option(..., help="Output folder.")
OVERWRITE = typer.Option(False, "--overwrite", help="Replace the folder if this command wrote it.")


@app.command()
def check(
    data: Path = DATA,
    split: str | None = SPLIT,
    frames: Path | None = ROOT,
    quick: bool = typer.Option(False, "--quick", help="Read only the headers of images."),
    as_json: bool = JSON,
) -> None:
    """Find every problem in files, annotations and frames, one line each.

    The exit code is 2 if anything is wrong.
    """
    from ookd.data.check import check as run

    checked = run(_sources(data, split, frames), pixels=not quick, show_progress=_show_progress)
    if as_json:
        _answer(checked.as_dict())
    else:
        for problem in checked.problems:
            print(problem)
        counts = [(checked.videos, "video"), (checked.frames, "frame"), (checked.masks, "mask")]
        counts.append((len(checked.problems), "problem"))
        say(f"{data}: {', '.join(_count(number, what) for number, what in counts)}")
    if checked.problems:
        raise typer.Exit(2)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


@app.command()
def stats(
    data: Path = DATA,
    split: str | None = SPLIT,
    minor_paste: bool = typer.Option(False, "--minor-paste", help="Also count classes with Minor-Paste."),
    plot: Path | None = typer.Option(None, help="Draw diagrams into this PNG; into one for each set."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the PNG."),
    as_json: bool = JSON,
) -> None:
    """Describe classes, tracks, lengths, sizes, occlusion and imbalance."""
    from ookd.clips import stats as room
    from ookd.data.formats import load_source

    sources = _sources(data, split, None)
    plots = [] if plot is None else _plots(plot, sources)
    for path in plots:
        if path.exists() and not overwrite:
            raise UserError(f"{path}: exists; give another name or --overwrite")
    described = []
    for i, source in enumerate(sources):
        dataset = load_source(source)
        described.append(room.describe(dataset, source.split or dataset.name, minor_paste))
        if plots:
            room.plot(dataset, described[-1], plots[i])
    if as_json:
        _answer([item.as_dict() for item in described])
    else:
        for item in described:
            _print_stats(item)


def _plots(plot: Path, sources: list[AnnotationSource]) -> list[Path]:
    """The PNG of each set: as it was named, or with the name of the set where there are several."""
    if len(sources) == 1:
        return [plot]
    return [plot.with_name(f"{plot.stem}-{source.split or source.path.stem}.png") for source in sources]


def _print_stats(stats: Stats) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    rows = {
        "videos": f"{stats.videos}, {_count(stats.frames, 'frame')}; {_spread(stats.video_length)} a video",
        "tracks": f"{stats.tracks}; {_spread(stats.tracks_per_video)} a video",
        "returning": f"{stats.returning} of them disappear and come back",
        "masks": f"{stats.masks}; {_spread(stats.track_length)} a track",
        "crowds": str(stats.crowds),
        "size": f"{_spread(stats.side)} pixels (root of mean area); "
        + ", ".join(f"{count} {size}" for size, count in stats.sizes.items()),
        "overlap": f"{stats.overlap:.3f} of the area under boxes is under more than one",
        "occlusion": ", ".join(f"{count} {level}" for level, count in stats.occlusion.items()),
        "imbalance": f"1 : {stats.imbalance:.1f} from the rarest to the most frequent class; "
        f"as diverse as {stats.effective_classes:.1f} equal classes",
    }
    table = Table(title=stats.name, title_justify="left", show_header=False, box=None)
    for name, value in rows.items():
        if value not in ("", "0"):
            table.add_row(name, value)
    console.print(table)
    pasted = ["with Minor-Paste"] if stats.with_minor_paste else []
    classes = Table("class", "tracks", "masks", *pasted, box=None)
    for label, item in sorted(enumerate(stats.classes), key=lambda pair: -pair[1].tracks):
        after = [f"{stats.with_minor_paste[label]:.1f}"] if stats.with_minor_paste else []
        classes.add_row(item.name, str(item.tracks), str(item.masks), *after)
    console.print(classes)


def _spread(spread: Any) -> str:
    if spread.least == spread.most:
        return f"{spread.most:.0f}"
    return f"{spread.least:.0f} to {spread.most:.0f} (mean {spread.mean:.1f})"


@app.command()
def convert(
    data: Path = DATA,
    to: str = typer.Option(..., help=f"Format: {', '.join(writable())}."),
    out: Path = OUT,
    split: str | None = SPLIT,
    frames: Path | None = ROOT,
    annotations_only: bool = typer.Option(False, "--annotations-only", help="Do not copy the frames."),
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Convert one set to another format.

    The folder is complete in itself. Warnings list what the format cannot hold.
    """
    from ookd.cli.progress import FrameProgress
    from ookd.data.convert import convert as run
    from ookd.data.formats import choose, load_source
    from ookd.files import check_apart

    source = choose(_sources(data, split, frames), data, split)
    check_apart(out, source.path)
    dataset = load_source(source)
    with FrameProgress(sum(video.length for video in dataset.videos)) as progress:
        lost = run(dataset, out, to, source.split, not annotations_only, overwrite, progress.step)
    for line in lost:
        print(f"warning: not held by {to}: {line}", file=sys.stderr)
    if as_json:
        _answer({"out": str(out), "format": to, "videos": len(dataset.videos), "lost": lost})
    else:
        say(f"{out}: {_count(len(dataset.videos), 'video')} as {to}")


@app.command()
def synth(
    out: Path = OUT,
    preset: str = typer.Option("ytvis-like", help="ytvis-like, ovis-like or identity."),
    composite: Path | None = typer.Option(
        None,
        metavar="DATA",
        help="Instead of a preset: paste real tracks of this data over its other videos.",
    ),
    split: str | None = typer.Option(
        None, help="train (default), tune, val or test; with --composite, a split of the data."
    ),
    videos: int = typer.Option(100, min=1, help="Number of videos."),
    seed: int = typer.Option(
        0, min=0, max=LAST_SEED, help="Random seed; the same seed gives the same videos."
    ),
    changes: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="appearance=0.8, association=0.2, frames=40, crowd=[3, 9], ..."
    ),
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Generate labelled videos.

    Two settings control their difficulty: appearance and association.
    """
    from ookd.cli.progress import FrameProgress
    from ookd.data.formats import load
    from ookd.files import check_apart, check_free
    from ookd.worlds import World, write
    from ookd.worlds.composite import Composite

    check_free(out, overwrite, ("instances.json",))
    fields = dict(_field(change) for change in changes)
    source: World | Composite
    if composite is None:
        source = World(preset, split or "train", seed, videos, **fields)
    else:
        check_apart(out, composite)
        dataset = load(composite, split)
        check_apart(out, dataset.root or composite)
        source = Composite(dataset, seed=seed, videos=videos, **fields)
    with FrameProgress(videos * source.config.frames) as progress:

        def one_video() -> None:
            for _ in range(source.config.frames):
                progress.step()

        write(source, out, overwrite, one_video)
    if as_json:
        _answer({"out": str(out), "videos": videos, "recipe": source.recipe})
    else:
        say(f"{out}: {_count(videos, 'video')} of {_count(source.config.frames, 'frame')}")


def _field(change: str) -> tuple[str, Any]:
    from ookd.untrusted import parse_yaml

    key, equals, value = change.partition("=")
    if not (key and equals):
        raise UserError(f"--set {change}: write KEY=VALUE, such as appearance=0.8")
    return key, parse_yaml(value, f"--set {change}")


@app.command()
def preview(
    data: Path = DATA,
    out: Path = OUT,
    split: str | None = SPLIT,
    frames: Path | None = ROOT,
    videos: int = typer.Option(8, min=1, help="Number of videos, evenly spread over the set."),
    mp4: bool = typer.Option(False, "--mp4", help="Also write each of these videos as MP4."),
    fps: float = typer.Option(
        6.0, min=0.1, help="Frame rate of the MP4; benchmarks label 5 or 6 frames a second."
    ),
    minor_paste: bool = typer.Option(False, "--minor-paste", help="Paste in objects of rare classes."),
    seed: int = typer.Option(0, min=0, max=LAST_SEED, help="Random seed of Minor-Paste."),
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Draw masks over frames.

    Writes sheet.png with a row for each video, and the videos with --mp4.
    """
    from PIL import Image

    from ookd.clips.preview import Preview, spaced
    from ookd.data.formats import choose, load_source
    from ookd.data.video import VideoWriter
    from ookd.files import check_apart, check_free, new_folder

    check_free(out, overwrite, ("sheet.png",))
    check_apart(out, data)
    shown = Preview(load_source(choose(_sources(data, split, frames), data, split)), minor_paste, seed)
    chosen = spaced(len(shown.names), videos)
    with new_folder(out, overwrite, ("sheet.png",)) as folder:
        Image.fromarray(shown.sheet(chosen)).save(folder / "sheet.png")
        for video in chosen if mp4 else ():
            with VideoWriter(folder / f"{shown.names[video]}.mp4", fps) as writer:
                for image in shown.video(video):
                    writer.write(image)
        written = sorted(path.name for path in folder.iterdir())
    if as_json:
        _answer({"out": str(out), "files": written})
    else:
        say(f"{out}: {', '.join(written)}")


def _sources(data: Path, split: str | None, frames: Path | None) -> list[AnnotationSource]:
    from ookd.data.formats import choose, find

    sources = find(data)
    if split is not None:
        sources = [choose(sources, data, split)]
    return sources if frames is None else [replace(source, frames=frames) for source in sources]


def _show_progress(items: Iterable[T], total: int) -> Iterable[T]:
    from ookd.cli.progress import FrameProgress

    with FrameProgress(total) as progress:
        for item in items:
            yield item
            progress.step()


def _answer(document: Any) -> None:
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
