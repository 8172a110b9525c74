"""The frames of videos that are labelled."""

from __future__ import annotations

from dataclasses import replace

from ookd.data.frames import video_name
from ookd.data.video.source import Span
from ookd.errors import UserError
from ookd.structures import Dataset, Video


def selected(dataset: Dataset, span: Span) -> Dataset:
    """The videos with only the frames of the span; videos without any are left out."""
    videos = [some for video in dataset.videos if (some := _selected(video, span)).file_names]
    if not videos:
        raise UserError(f"{dataset.root}: no video has a frame between --start and --end")
    return replace(dataset, videos=videos)


def _selected(video: Video, span: Span) -> Video:
    fps = video.extra.get("fps")
    by_time = any(moment is not None and moment.frame is None for moment in (span.start, span.end))
    if by_time and not isinstance(fps, int | float):
        raise UserError(
            f"video {video_name(video)}: its images have no times; give --start and --end as frame numbers"
        )
    rate = fps if isinstance(fps, int | float) and fps > 0 else 1.0
    frames = ((n, n / rate, name) for n, name in enumerate(video.file_names))
    names = [name for _, _, name in span.select(frames)]
    own = {"fps": round(rate / span.every, 3)} if isinstance(fps, int | float) else {}
    return replace(video, file_names=names, extra={**video.extra, **own})
