"""One set of annotations as it lies on disk, before it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ookd.errors import UserError

Kind = Literal["json", "davis", "mots", "yolo"]  # json: YTVIS, OVIS or COCO, told apart by content


@dataclass(frozen=True, slots=True)
class Source:
    kind: Kind
    path: Path  # the JSON file or the folder
    split: str = ""  # train, val, test, tune, or as the data calls it; empty where it has no name
    subset: str = ""  # the list of videos inside a DAVIS folder; empty: all
    frames: Path | None = None  # where file names start; None: to be found
    names: tuple[str, ...] = ()  # class names and their order, given from outside


def choose(sources: Sequence[Source], path: Path, split: str | None) -> Source:
    """The one that is meant; an error that lists the choices where that is not clear."""
    meant = [source for source in sources if split in (None, source.split, source.path.stem)]
    if len(meant) == 1:
        return meant[0]
    choices = ", ".join(source.split or source.path.name for source in sources)
    if split is not None and not meant:
        raise UserError(f"{path}: has no split '{split}'; it has {choices}")
    raise UserError(f"{path}: holds several sets ({choices}); name one as the split")
