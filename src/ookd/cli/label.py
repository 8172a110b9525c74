"""`ookd label`: a training set from videos without annotations."""

from __future__ import annotations

import json
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import typer

from ookd.cli.progress import FrameProgress
from ookd.data.formats.json_file import ANNOTATIONS
from ookd.errors import UserError
from ookd.untrusted import is_file

app = typer.Typer(rich_markup_mode=None)


@app.command()
def label(
    data: Annotated[Path, typer.Argument(help="A folder of videos or of image folders, or any data set.")],
    model: Annotated[
        str, typer.Option(help="A model's name, folder or hub id: an offline teacher, or an online model.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the annotations.")],
    score: Annotated[float, typer.Option(min=0, max=1, help="Lowest confidence of a track.")] = 0.5,
    score_of: Annotated[
        list[str] | None, typer.Option(metavar="CLASS=SCORE", help="Another lowest confidence for a class.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames that a track must be seen in, at least.")] = 3,
    device: Annotated[str, typer.Option(help="Where the model runs: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Let MODEL annotate the videos of DATA; what it is sure of becomes a YouTube-VIS training set.

    Annotations in DATA are ignored. The images stay where they are. Train on the result as on any other data.
    To train on labelled data, too, give each a source of its own in data.train.

    Stopped and called again, it goes on with the first video that is not done. Until all are done, results
    are in OUT.begun.
    """
    from ookd.clips.opening import videos_of
    from ookd.data.convert import convert, markers
    from ookd.data.formats import load as load_data
    from ookd.distill.labeller import LabelThresholds, annotated, confident_tracks
    from ookd.files import check_free, fingerprint
    from ookd.locking import locked
    from ookd.models import zoo
    from ookd.tracking.recordings import recordings
    from ookd.tracking.result_folder import ResultFolder
    from ookd.tracking.torch_model import device_named

    begun = out.with_name(f"{out.name}.begun")
    was_begun = begun.is_dir()
    if not was_begun:
        check_free(out, overwrite, markers())
    thresholds = LabelThresholds(score, dict(_of_class(text) for text in score_of or ()), frames)
    dataset = videos_of(data)
    saved = zoo.load(model)
    thresholds.check(saved.names)
    run = {
        "model": fingerprint(saved.model),
        "tracker": saved.tracker,
        "data": [
            str((dataset.root or Path()).resolve()),
            *([video.id, video.length, video.file_names[:1]] for video in dataset.videos),
        ],
        "score": [thresholds.score, thresholds.of_class],
        "frames": thresholds.frames,
    }
    digest = blake2b(json.dumps(run).encode(), digest_size=8).hexdigest()
    with locked(begun):
        found = ResultFolder(begun, run, overwrite)
        if was_begun and _wrote(out, digest):  # and was killed before it could remove `begun`
            labelled = load_data(out)
        else:
            check_free(out, overwrite, markers())
            left = [video for video in recordings(dataset) if not found.done(video.id)]
            saved.model.to(device_named(device))
            with FrameProgress(sum(video.length for video in left)) as progress:
                for video in left:
                    found.add(video.id, confident_tracks(saved, video, thresholds, progress.step))
            labelled = annotated(dataset, saved.names, found.read)
            if not any(video.tracks for video in labelled.videos):
                found.remove()
                raise UserError(f"{data}: no track passes the thresholds; lower --score or --frames")
            labelled.extra["info"] = {"labels": digest}
            if saved.licence:
                teacher = {"id": saved.source or model, "licence": saved.licence, "fingerprint": run["model"]}
                labelled.extra["info"]["teacher"] = teacher
            convert(labelled, out, "ytvis", frames=False, overwrite=overwrite)
        found.remove()
    tracks = sum(len(video.tracks) for video in labelled.videos)
    if as_json:
        summary = {"folder": str(out), "videos": len(labelled.videos), "tracks": tracks}
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        print(f"{out}: {tracks} tracks in {len(labelled.videos)} videos")


def _wrote(out: Path, digest: str) -> bool:
    """Whether a folder holds the labels of this very call."""
    file = out / ANNOTATIONS
    return is_file(file) and digest.encode() in file.read_bytes()


def _of_class(text: str) -> tuple[str, float]:
    name, found, value = text.rpartition("=")
    try:
        if found and 0 <= float(value) <= 1:
            return name, float(value)
    except ValueError:
        pass
    raise UserError(f"--score-of {text}: write a class and a number from 0 to 1, such as cat=0.7")
