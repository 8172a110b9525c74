"""Cut long videos into overlapping parts, and join their tracks again over the shared frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from ookd.data import rle
from ookd.data.video.decoding import open_container, rate_of
from ookd.fleet.fetching import identity
from ookd.fleet.listing import is_url
from ookd.fleet.pool import FleetTask
from ookd.fleet.process import FleetSettings, Processed, path_of
from ookd.fleet.result import FleetTrack, FleetTracks, read_tracks, write_tracks

SHARED_SECONDS = 1.0  # overlap of neighbouring parts
JOIN = 0.5  # least IoU of two tracks over the shared frames


def cut(address: str, seconds: float, every: int = 1) -> list[FleetTask]:
    """The parts of a long local video; any other video whole. Parts start at frames that are processed."""
    whole = [FleetTask(address)]
    if is_url(address):
        return whole
    container, stream = open_container(Path(address))
    with container:
        rate, total = rate_of(stream), stream.frames
    length = every * max(1, round(seconds * rate / every))
    shared = every * max(1, round(SHARED_SECONDS * rate / every))
    if total <= length + shared:
        return whole
    starts = range(0, total - shared, length)
    return [FleetTask(address, (start, min(start + length + shared, total))) for start in starts]


def join(
    address: str,
    tasks: Sequence[FleetTask],
    done: Mapping[FleetTask, Processed],
    settings: FleetSettings,
    out: Path,
) -> Processed:
    """Write the result of a video from the results of its parts."""
    key = settings.key(identity(address) + " joined " + " ".join(str(task.part) for task in tasks))
    file = path_of(out, key)
    if file.is_file():
        return Processed(key, 0, kept=True)
    parts = [read_tracks(path_of(out, done[task].key)) for task in tasks]
    bounds = [task.part for task in tasks if task.part is not None]
    joined = parts[0]
    for part, (start, _), (_, before) in zip(parts[1:], bounds[1:], bounds, strict=False):
        _append(joined, part, start, before)
    joined.frames = -(-bounds[-1][1] // settings.every)
    write_tracks(file, joined)
    return Processed(key, 0, kept=False)


def _append(joined: FleetTracks, part: FleetTracks, start: int, stop: int) -> None:
    """Add a part's tracks. Its frames from `start` up to `stop` are already there."""
    partner = _partners(joined, part, range(start, stop))
    fresh = max((track.id for track in joined.tracks), default=-1) + 1
    known = {track.id: track for track in joined.tracks}
    for track in part.tracks:
        news = [place for place, frame in enumerate(track.frames) if frame >= stop]
        if not news:
            continue
        if track.id in partner:
            old = known[partner[track.id]]
        else:
            old = FleetTrack(fresh, track.label, track.name, track.score)
            fresh += 1
            joined.tracks.append(old)
        weight = [len(old.frames), len(news)]
        old.score = float(np.average([old.score, track.score], weights=weight))
        for name in ("frames", "scores", "boxes", "masks"):
            getattr(old, name).extend(getattr(track, name)[place] for place in news)


def _partners(joined: FleetTracks, part: FleetTracks, shared: range) -> dict[int, int]:
    """The earlier track that each track of a part continues: id in the part -> id so far."""
    size = [joined.height, joined.width]
    old, new = (_masks_in(tracks.tracks, shared) for tracks in (joined, part))
    if not old or not new:
        return {}
    overlap = np.zeros((len(new), len(old)))
    for n, ours in enumerate(new.values()):
        for o, theirs in enumerate(old.values()):
            overlap[n, o] = _tube_iou(ours, theirs, size)
    rows, columns = linear_sum_assignment(-overlap)
    ids, known = list(new), list(old)
    return {ids[n]: known[o] for n, o in zip(rows, columns, strict=True) if overlap[n, o] >= JOIN}


def _masks_in(tracks: Sequence[FleetTrack], shared: range) -> dict[int, dict[int, str]]:
    """The masks of each track by frame, in these frames only."""
    found = {}
    for track in tracks:
        masks = {
            frame: mask for frame, mask in zip(track.frames, track.masks, strict=True) if frame in shared
        }
        if masks:
            found[track.id] = masks
    return found


def _tube_iou(ours: Mapping[int, str], theirs: Mapping[int, str], size: list[int]) -> float:
    both = either = 0
    for frame in ours.keys() | theirs.keys():
        pair = [
            rle.decode({"size": size, "counts": masks[frame]}) if frame in masks else np.zeros(size, bool)
            for masks in (ours, theirs)
        ]
        both += int((pair[0] & pair[1]).sum())
        either += int((pair[0] | pair[1]).sum())
    return both / either if either else 0.0
