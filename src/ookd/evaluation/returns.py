"""Objects that return: do they get their id back, and how long does it take if not at once?

A sighting is a frame in which an object is matched to a prediction, whose id it then carries. Everything here
follows from the sightings alone, so it needs no masks.

A return is a sighting after `GAP` or more frames without one: the object was out of sight, or was missed. It
is kept if the object carries the id of its last sighting.

A switch is a sighting with another id than the last one, after any gap. It loses the id of the last sighting,
unless it brings a lost id of the object back: then that id is recovered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GAP = 4  # frames

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReturnCounts:
    """Counts that add up over videos."""

    switches: int = 0  # at returns and elsewhere
    returns: int = 0
    kept: int = 0
    waits: tuple[int, ...] = ()  # for each recovered id, the frames from its loss until it was back
    never: int = 0  # lost ids that did not come back

    def __add__(self, other: ReturnCounts) -> ReturnCounts:
        return ReturnCounts(
            self.switches + other.switches,
            self.returns + other.returns,
            self.kept + other.kept,
            self.waits + other.waits,
            self.never + other.never,
        )


@dataclass(frozen=True, slots=True)
class ReturnScores:
    """Shares are in 0..1, and None where there is nothing to divide by."""

    returns: int
    kept: int
    share_kept: float | None
    switches_at_returns: int
    lost: int  # ids, at returns and elsewhere
    recovered: int  # of these
    share_never_recovered: float | None
    frames_to_recover: float | None  # median over the ids that were recovered


def count_returns(frame: Ints, true_id: Ints, found_id: Ints) -> ReturnCounts:
    """Count for N sightings in one video, in any order."""
    order = np.lexsort((frame, true_id))
    frame, true_id, found_id = frame[order], true_id[order], found_id[order]
    again = np.diff(true_id) == 0  # [N - 1] not the first sighting of its object
    switch = again & (np.diff(found_id) != 0)
    back = again & (np.diff(frame) > GAP)
    waits, never = _recoveries(frame, true_id, found_id, np.flatnonzero(switch) + 1)
    return ReturnCounts(int(switch.sum()), int(back.sum()), int((back & ~switch).sum()), waits, never)


def _recoveries(frame: Ints, true_id: Ints, found_id: Ints, switches: Ints) -> tuple[tuple[int, ...], int]:
    """How long each recovered id was away, and the number of ids that stayed lost."""
    waits: list[int] = []
    lost: dict[tuple[int, int], int] = {}  # object and id -> frame of the loss
    for n in switches.tolist():
        thing, now = int(true_id[n]), int(frame[n])
        since = lost.pop((thing, int(found_id[n])), None)
        if since is None:
            lost[thing, int(found_id[n - 1])] = now
        else:
            waits.append(now - since)
    return tuple(waits), len(lost)


def return_scores(counts: ReturnCounts) -> ReturnScores:
    """The scores of summed counts."""
    once = resampled([counts], np.ones((1, 1), np.int64))
    kept, never, wait = (
        None if np.isnan(once[name][0]) else float(once[name][0])
        for name in ("share_kept", "share_never_recovered", "frames_to_recover")
    )
    return ReturnScores(
        returns=counts.returns,
        kept=counts.kept,
        share_kept=kept,
        switches_at_returns=counts.returns - counts.kept,
        lost=len(counts.waits) + counts.never,
        recovered=len(counts.waits),
        share_never_recovered=never,
        frames_to_recover=wait,
    )


def resampled(counts: Sequence[ReturnCounts], weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """[R] scores if each of V videos counts as often as `weights` [R, V] says; nan where nothing counts."""
    table = np.array([(c.switches, c.returns, c.kept, len(c.waits), c.never) for c in counts])
    switches, returns, kept, recovered, never = (weights @ table).T.astype(float)
    waits, which = np.unique([wait for c in counts for wait in c.waits], return_inverse=True)
    often = np.zeros((len(counts), len(waits)))
    np.add.at(often, (np.repeat(np.arange(len(counts)), table[:, 3]), which), 1)
    return {
        "switches": switches,
        "share_kept": _share(kept, returns),
        "switches_at_returns": returns - kept,
        "share_never_recovered": _share(never, recovered + never),
        "frames_to_recover": _median(waits, weights @ often),
    }


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _median(values: NDArray[np.float64], often: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R] the median of n rising values, each as often as `often` [R, n] says; nan where none is."""
    if not len(values):
        return np.full(len(often), np.nan)
    reached, total = often.cumsum(1), often.sum(1, keepdims=True)
    lower, upper = (values[(reached > half).argmax(1)] for half in ((total - 1) // 2, total // 2))
    return np.where(total[:, 0] > 0, (lower + upper) / 2, np.nan)
