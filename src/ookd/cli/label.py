"""`ookd label`: a training set from videos without annotations."""

from __future__ import annotations

import json
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any

import typer

from ookd.cli.progress import FrameProgress
from ookd.data.formats.json_file import ANNOTATIONS
from ookd.errors import UserError
from ookd.untrusted import is_file

app = typer.Typer(rich_markup_mode=None)


@app.command()
def label(
    videos: Annotated[Path, typer.Argument(help="A folder of videos or of image folders, or any data set.")],
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher",
            "--model",
            help="A model's name, folder or hub id: an offline or online model, or a text teacher such as "
            "facebook/sam3 or IDEA-Research/grounding-dino-tiny.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the annotations.")],
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT[=CLASS]", help="What a text teacher looks for; repeat it for more."),
    ] = None,
    follow: Annotated[
        str | None,
        typer.Option(help="A SAM 2 that follows what the teacher finds on key frames: a hub id or folder."),
    ] = None,
    key_frames: Annotated[
        int, typer.Option(min=1, help="With --follow: run the teacher on every N-th frame.")
    ] = 5,
    both_ways: Annotated[
        bool,
        typer.Option("--both-ways", help="Also label backwards and join both runs: more certain, slower."),
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Label every N-th frame only.")] = 1,
    start: Annotated[str | None, typer.Option(help="First frame (120) or time (1:30, 12.5s).")] = None,
    end: Annotated[str | None, typer.Option(help="The frame or time to stop at.")] = None,
    max_objects: Annotated[
        int | None, typer.Option(min=1, help="Most objects in a video; the most confident are kept.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of SAM 3's input frames.")] = None,
    score: Annotated[float, typer.Option(min=0, max=1, help="Lowest confidence of a track.")] = 0.5,
    score_of: Annotated[
        list[str] | None, typer.Option(metavar="CLASS=SCORE", help="Lowest confidence for one class.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Least number of frames that show a track.")] = 3,
    sure: Annotated[
        float,
        typer.Option(min=0, max=1, help="A frame below this share of its track's confidence is unsure."),
    ] = 0.5,
    device: Annotated[str, typer.Option(help="Where the model runs: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Let a teacher annotate VIDEOS. Its confident tracks become a YouTube-VIS training set.

    Annotations in VIDEOS are ignored. The images stay where they are. Train on the result as on any other
    data. Tracks that miss the thresholds are kept as crowd regions, which training ignores.

    If it is interrupted, the same command continues with the first unfinished video. Until all are done,
    results are in OUT.begun.
    """
    from ookd.clips.opening import videos_of
    from ookd.data.convert import convert, markers
    from ookd.data.formats import load as load_data
    from ookd.data.formats.edits import check_no_edits
    from ookd.data.video.source import Span
    from ookd.files import check_free
    from ookd.label.labeller import LabelThresholds, annotated, plausible
    from ookd.label.opening import LabellerChoice, open_labeller
    from ookd.label.selection import selected
    from ookd.locking import locked
    from ookd.tracking.recordings import recordings
    from ookd.tracking.result_folder import ResultFolder

    begun = out.with_name(f"{out.name}.begun")
    was_begun = begun.is_dir()
    if not was_begun:
        check_free(out, overwrite, markers())
    check_no_edits(out)
    of_class = dict(_of_class(text) for text in score_of or ())
    thresholds = LabelThresholds(score, of_class, frames, sure, objects=max_objects)
    span = Span.parse(start, end, every)
    dataset = selected(videos_of(videos), span)
    choice = LabellerChoice(
        teacher, text or (), follow, key_frames, size, max_objects, both_ways=both_ways, device=device
    )
    labeller = open_labeller(choice)
    thresholds.check(labeller.names)
    run: dict[str, Any] = {
        "teacher": dict(labeller.settings),
        "data": [
            str((dataset.root or Path()).resolve()),
            *([video.id, video.length, video.file_names[:2]] for video in dataset.videos),
        ],
        "score": [thresholds.score, of_class],
        "sure": [thresholds.sure, thresholds.objects],
    }
    digest = blake2b(json.dumps(run).encode(), digest_size=8).hexdigest()
    with locked(begun):
        found = ResultFolder(begun, run, overwrite, frame_scores=True)
        if was_begun and _wrote(out, digest):  # and was killed before it could remove `begun`
            labelled = load_data(out)
        else:
            check_free(out, overwrite, markers())
            left = [video for video in recordings(dataset) if not found.done(video.id)]
            with FrameProgress(sum(video.length for video in left) * (1 + both_ways)) as progress:
                for video in left:
                    tracks = labeller.tracks(video, progress.step)
                    found.add(video.id, plausible(tracks, labeller.names, thresholds))
            labelled = annotated(dataset, labeller.names, found.read, thresholds)
            if all(track.iscrowd for video in labelled.videos for track in video.tracks):
                found.remove()
                raise UserError(f"{videos}: no track passes the thresholds; lower --score or --frames")
            labelled.extra["info"] = {"teacher": dict(labeller.teacher), "labels": digest}
            convert(labelled, out, "ytvis", frames=False, overwrite=overwrite)
        found.remove()
    doubtful = [track.iscrowd for video in labelled.videos for track in video.tracks]
    summary = {
        "folder": str(out),
        "videos": len(labelled.videos),
        "tracks": doubtful.count(False),
        "doubtful": doubtful.count(True),
    }
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        print(
            f"{out}: {summary['tracks']} tracks in {summary['videos']} videos, and {summary['doubtful']} "
            f"doubtful ones; review them with: ookd review {out}"
        )


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
