"""A saved model as a labeller: offline, or online with identities decided at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ookd.config.tracker import TrackerConfig
from ookd.files import fingerprint
from ookd.models.families import family_of
from ookd.models.zoo import Saved
from ookd.structures import TrackResult
from ookd.tracking.associators import make_associator
from ookd.tracking.predict import predict_video
from ookd.tracking.recordings import Recording


def origin(saved: Saved, source: str) -> dict[str, str]:
    """The origin of the weights; `source` is the name that the user gave."""
    id, _, revision = (saved.source or source).partition("@")
    return {"id": id, "revision": revision, "licence": saved.licence}


class SavedLabeller:
    """Every track is reported under its best class.

    For an online model with embeddings, identities are decided once all frames are known.
    """

    def __init__(self, saved: Saved, source: str) -> None:
        self.saved, self.source = saved, source

    @property
    def names(self) -> Sequence[str]:
        return self.saved.names

    @property
    def teacher(self) -> Mapping[str, Any]:
        found = origin(self.saved, self.source)
        return {**{key: value for key, value in found.items() if value}, "fingerprint": self._fingerprint}

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"model": self._fingerprint, "tracker": self.saved.tracker}

    @property
    def _fingerprint(self) -> str:
        return fingerprint(self.saved.model)

    def tracks(
        self, recording: Recording, on_frame: Callable[[], None] = lambda: None
    ) -> Iterator[TrackResult]:
        saved = self.saved
        constants = family_of(saved.model).tracker.changed({**saved.tracker, "every_class": False})
        categories = range(1, len(saved.names) + 1)
        linked = isinstance(constants, TrackerConfig) and make_associator(constants).by_looks
        return predict_video(saved.model, recording, constants, categories, on_frame, None if linked else 0)
