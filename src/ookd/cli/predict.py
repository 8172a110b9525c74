"""`ookd predict`: a model's benchmark results for a whole data set."""

from __future__ import annotations

from pathlib import Path

import orjson
import typer

from ookd.cli.standard import say
from ookd.config.tracker import OfflineConfig
from ookd.errors import UserError

app = typer.Typer(rich_markup_mode=None)


@app.command()
def predict(
    data: Path = typer.Argument(help="A folder, an annotation file or a dataset.yaml."),
    model: str = typer.Option("nano", help="A model's name, folder or hub id; see `ookd models`."),
    out: Path = typer.Option(..., help="Folder for the results."),
    split: str | None = typer.Option(None, help="Which split, as in train or val."),
    frames: Path | None = typer.Option(None, help="Where file names start: a folder, an archive or a video."),
    delay: int = typer.Option(0, min=0, help="Decide identities this many frames later, using those frames."),
    offline: bool = typer.Option(False, "--offline", help="Decide identities once the whole video is known."),
    device: str = typer.Option("auto", help="Where the model runs: auto, cpu, cuda, cuda:1, mps."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace results in the folder."),
    as_json: bool = typer.Option(False, "--json", help="The summary as JSON on standard output."),
) -> None:
    """Track every video of a data set and write results.json, ready for `ookd eval` or a benchmark's server.

    The model can be online or offline. With --delay or --offline an online model still finds objects frame by
    frame; only their identities are decided later. If it is interrupted, the same command continues with the
    first unfinished video.
    """
    from ookd.api import load as load_model
    from ookd.cli.progress import FrameProgress
    from ookd.data.formats import load as load_data
    from ookd.locking import locked
    from ookd.tracking.predict import predict_video
    from ookd.tracking.recordings import category_ids, recordings
    from ookd.tracking.result_folder import ResultFolder

    if delay and offline:
        raise UserError("--delay and --offline: choose one")
    tracker = load_model(model, device)
    ahead = None if offline else delay
    if ahead != 0 and isinstance(tracker.config, OfflineConfig):
        raise UserError(f"{model} sees whole clips anyway; --delay and --offline are for online models")
    dataset = load_data(data, split, frames)
    categories = category_ids(dataset, tracker.names)
    run = {
        "model": tracker.fingerprint(),
        "tracker": tracker.config.model_dump(),
        "ahead": ahead,
        "data": [[video.id, video.length] for video in dataset.videos],
    }
    videos = recordings(dataset)
    with locked(out):
        results = ResultFolder(out, run, overwrite)
        left = [video for video in videos if not results.done(video.id)]
        with FrameProgress(sum(video.length for video in left)) as progress:
            for video in left:
                found = predict_video(tracker.model, video, tracker.config, categories, progress.step, ahead)
                results.add(video.id, found)
        path = results.finish(video.id for video in videos)
    if as_json:
        summary = {
            "results": str(path),
            "videos": len(videos),
            "predicted": len(left),
            "frames": progress.done,
            "seconds": round(progress.seconds, 3),
        }
        print(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode())
    else:
        before = f", {len(videos) - len(left)} of them finished before" if len(left) < len(videos) else ""
        speed = progress.done / progress.seconds
        say(f"{path}: {len(videos)} videos{before} ({speed:.1f} frames/s)")
