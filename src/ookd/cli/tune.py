"""`ookd tune`: find a model's tracker constants and write them into its config."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import typer

from ookd.cores import usable_cores
from ookd.errors import UserError
from ookd.tracking.associators import ASSOCIATORS

app = typer.Typer(rich_markup_mode=None)

HELD_OUT = 3  # every third video is kept out of the search
LINE_SECONDS = 5.0


@app.command()
def tune(
    model: Path = typer.Argument(help="A model's folder; its config.json gets the constants."),
    data: Path = typer.Argument(help="Annotated videos: a folder, an annotation file or a dataset.yaml."),
    split: str | None = typer.Option(None, help="Which split, as in train or val."),
    frames: Path | None = typer.Option(None, help="Where file names start: a folder, an archive or a video."),
    trials: int = typer.Option(200, min=1, help="Number of sets of constants to try."),
    seed: int = typer.Option(0, help="The same seed finds the same constants."),
    associator: str = typer.Option("", help=f"Start from another one: {', '.join(ASSOCIATORS)}."),
    offline: bool = typer.Option(
        False, "--offline", help="Search only the linker's constants, with the whole video known."
    ),
    jobs: int = typer.Option(0, min=0, help="Processes that try constants; 0: one per core."),
    device: str = typer.Option("auto", help="Where the model runs: auto, cpu, cuda, cuda:1, mps."),
    as_json: bool = typer.Option(False, "--json", help="The summary as JSON on standard output."),
) -> None:
    """Search for tracker constants on two thirds of the videos and check the best on the others.

    They are written only if AP does not fall on the videos that the search did not see. The linker's
    constants (--offline) are for `predict --offline`, `--delay` and `label`; search the others first.
    """
    from ookd.api import load as load_model
    from ookd.cli.progress import FrameProgress
    from ookd.data.formats import load as load_data
    from ookd.models.zoo import save_tracker
    from ookd.tune.replay import gain, linked
    from ookd.tune.search import cache_queries
    from ookd.tune.search import tune as search

    if not model.is_dir():
        raise UserError(
            f"{model}: not a model folder, so there is no config.json to write to. For a model of the hub, "
            f"first make one: ookd weights convert {model} FOLDER"
        )
    tracker = load_model(model, device)
    network, config = tracker.online()
    start = config.changed({"associator": associator} if associator else {})
    ahead = None if offline else 0
    dataset = load_data(data, split, frames)
    dataset.videos = [video for video in dataset.videos if not all(track.iscrowd for track in video.tracks)]
    if len(dataset.videos) < HELD_OUT:
        raise UserError(f"{data}: tuning needs at least {HELD_OUT} annotated videos")
    with FrameProgress(sum(video.length for video in dataset.videos)) as progress:
        cache = cache_queries(network, dataset, dataset, tracker.names, config, progress.step)
    searched, unseen = cache[[i for i in range(len(cache.videos)) if i % HELD_OUT]], cache[::HELD_OUT]
    tuned = search(searched, start, trials, seed, jobs or len(usable_cores()), _progress(trials), ahead)
    gained = gain(unseen, config, tuned.config, linked(ahead))
    old, new = config.model_dump(), tuned.config.model_dump()
    changed = {name: [old[name], new[name]] for name in new if new[name] != old[name]}
    better = bool(changed) and gained.difference >= 0
    if better:
        save_tracker(model, new)
    if as_json:
        summary = {
            "model": str(model),
            "searched": {"videos": len(searched.videos), "before": tuned.start_ap, "after": tuned.ap},
            "unseen": {
                "videos": len(unseen.videos),
                "before": gained.b,
                "after": gained.a,
                "interval": [gained.low, gained.high],
            },
            "changed": changed,
            "written": better,
        }
        print(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode())
        return
    for name, (was, now) in changed.items():
        print(f"{name:>16}  {_short(was)} -> {_short(now)}")
    print(f"AP on {len(searched.videos)} searched videos: {_points(tuned.start_ap, tuned.ap)}")
    print(
        f"AP on {len(unseen.videos)} unseen videos: {_points(gained.b, gained.a)}"
        f" (gain {100 * gained.low:+.1f} to {100 * gained.high:+.1f}, 95 % of resamplings)"
    )
    why = "AP falls on unseen videos" if changed else "nothing better was found"
    print(f"{model}: {'written' if better else f'not changed, because {why}'}")


def _progress(trials: int) -> Callable[[int, float], None]:
    """Prints a line now and then: how many trials are done, and the best AP."""
    last = time.monotonic()

    def show(done: int, best: float) -> None:
        nonlocal last
        if time.monotonic() - last > LINE_SECONDS or done == trials:
            last = time.monotonic()
            print(f"trial {done} of {trials}, best AP {100 * best:.1f}", file=sys.stderr, flush=True)

    return show


def _points(before: float, after: float) -> str:
    return f"{100 * before:.1f} -> {100 * after:.1f}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
