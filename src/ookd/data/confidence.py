"""How sure whoever made an annotation was: of a track, and of each of its frames.

Labels that a model made carry these fields; those that people drew have none and count as sure.
"""

from __future__ import annotations

from ookd.structures import Track

SCORE, SCORES = "score", "scores"  # fields of an annotation: of the track, and of each frame (null: not seen)
SURE = 0.5  # below this share of its track's confidence a frame is unsure, unless somebody chose another


def is_sure(track: Track, frame: int, share: float = SURE) -> bool:
    """Whether a frame reaches this share of the track's confidence."""
    scores, score = track.extra.get(SCORES), track.extra.get(SCORE)
    if not isinstance(scores, list) or not isinstance(score, int | float) or frame >= len(scores):
        return True
    return not isinstance(scores[frame], int | float) or scores[frame] >= share * score


def of_frame(track: Track, frame: int) -> float:
    """The confidence of a frame, 0 to 1; that of work without confidences is 1."""
    scores = track.extra.get(SCORES)
    score = scores[frame] if isinstance(scores, list) and frame < len(scores) else None
    return min(1.0, max(0.0, score)) if isinstance(score, int | float) else 1.0


def is_doubtful(track: Track) -> bool:
    """Whether a model took it for an object, but is too unsure for a label.

    It is a crowd with a confidence; the crowds that people drew have none.
    """
    return track.iscrowd and SCORE in track.extra
