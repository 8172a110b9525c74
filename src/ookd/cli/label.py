"""`ookd label`: a training set from videos that nobody annotated."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ookd.cli.progress import FrameProgress
from ookd.errors import UserError

app = typer.Typer(rich_markup_mode=None)


@app.command()
def label(
    data: Annotated[Path, typer.Argument(help="A folder of videos or of image folders, or any data set.")],
    model: Annotated[str, typer.Option(help="Model folder: an offline teacher, or an online model.")],
    out: Annotated[Path, typer.Option(help="Folder for the annotations.")],
    score: Annotated[float, typer.Option(min=0, max=1, help="Least confidence of a track.")] = 0.5,
    score_of: Annotated[
        list[str] | None, typer.Option(metavar="CLASS=SCORE", help="Another least confidence for a class.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Least frames that show a track.")] = 3,
    device: Annotated[str, typer.Option(help="auto or cpu.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Let MODEL annotate the videos of DATA; what it is sure of becomes a YouTube-VIS training set.

    Annotations that DATA has are not looked at. The images stay where they are. Train on it as on any other
    data, beside labelled data by a source of its own in data.train.

    Stopped at any moment and called again, it goes on with the first video that is not done; until all are,
    what it found lies in OUT.begun.
    """
    from ookd.data.convert import MARKS, convert
    from ookd.data.new_folder import check_free
    from ookd.distill.pseudo_labels import Sure, annotated, sure_tracks, videos_of
    from ookd.models import zoo
    from ookd.tracking.observe import device_named
    from ookd.tracking.predict import recordings
    from ookd.tracking.result_folder import ResultFolder

    check_free(out, overwrite, MARKS)
    sure = Sure(score, dict(_of_class(text) for text in score_of or ()), frames)
    dataset = videos_of(data)
    saved = zoo.load(model)
    sure.check(saved.names)
    run = {
        "model": zoo.fingerprint(saved.model),
        "tracker": saved.tracker,
        "data": [
            str((dataset.root or Path()).resolve()),
            *([video.id, video.length, video.file_names[:1]] for video in dataset.videos),
        ],
        "score": [sure.score, sure.of_class],
        "frames": sure.frames,
    }
    found = ResultFolder(out.with_name(f"{out.name}.begun"), run, overwrite)
    left = [video for video in recordings(dataset) if not found.done(video.id)]
    saved.model.to(device_named(device))
    with FrameProgress(sum(video.length for video in left)) as progress:
        for video in left:
            found.add(video.id, sure_tracks(saved, video, sure))
            for _ in range(video.length):
                progress.step()
    labelled = annotated(dataset, saved.names, found.read)
    tracks = sum(len(video.tracks) for video in labelled.videos)
    if not tracks:
        found.remove()
        raise UserError(f"{data}: the model is sure of nothing in these videos; lower --score or --frames")
    convert(labelled, out, "ytvis", frames=False, overwrite=overwrite)
    found.remove()
    if as_json:
        summary = {"folder": str(out), "videos": len(labelled.videos), "tracks": tracks}
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        print(f"{out}: {tracks} tracks in {len(labelled.videos)} videos")


def _of_class(text: str) -> tuple[str, float]:
    name, found, value = text.rpartition("=")
    try:
        if found and 0 <= float(value) <= 1:
            return name, float(value)
    except ValueError:
        pass
    raise UserError(f"--score-of {text}: write a class and a number from 0 to 1, such as cat=0.7")
