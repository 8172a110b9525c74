"""The outputs of tracking, written frame by frame with constant memory.

A sink is one class in its own file, listed here by name. Its options are its further fields.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # the command line asks for the names only
    from ookd.data.video import FrameSource
    from ookd.structures import FrameResult
    from ookd.tracking.sinks.sink import Sink

# name -> where the class is; imported when first used
SINKS = {
    "mp4": "ookd.tracking.sinks.mp4:AnnotatedVideo",
    "json": "ookd.tracking.sinks.json:FramesJson",
    "rle": "ookd.tracking.sinks.rle:TracksRle",
    "png": "ookd.tracking.sinks.png:MaskImages",
    "csv": "ookd.tracking.sinks.csv:BoxesCsv",
    "mot": "ookd.tracking.sinks.mot:BoxesMot",
}
SPOOL = "tracks.spool"  # next to the file of `rle` while it is written


def own_parts() -> frozenset[str]:
    """The names under which sinks write before their files are complete."""
    return frozenset(f"{name}.part" for name in (*(sink_named(kind).file for kind in SINKS), SPOOL))


def sink_named(name: str) -> type[Sink]:
    sink: type[Sink] = pkgutil.resolve_name(SINKS[name])
    return sink


class Sinks:
    """Several sinks at once. Each takes those of the options that it declares.

    They are closed one by one, whatever happens to the others.
    """

    def __init__(self, folder: Path, names: Sequence[str], source: FrameSource, **options: Any) -> None:
        kinds = [sink_named(name) for name in names]
        self.files = [kind.file for kind in kinds]
        with ExitStack() as stack:  # if one cannot start, those before it are closed
            self._sinks = [stack.enter_context(_made(kind, folder, source, options)) for kind in kinds]
            self._stack = stack.pop_all()

    def write(self, result: FrameResult) -> None:
        for sink in self._sinks:
            sink.write(result)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _made(kind: type[Sink], folder: Path, source: FrameSource, options: dict[str, Any]) -> Sink:
    declared = {field.name for field in fields(kind)}
    return kind(folder, source, **{name: value for name, value in options.items() if name in declared})
