"""Every frame's objects as JSON, one frame per line."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from ookd.files import PartialText
from ookd.structures import FrameResult
from ookd.tracking.sinks.sink import Sink, rows


@dataclass
class FramesJson(Sink):
    """Every frame's objects: `{"source", ..., "frames": [{"frame", "seconds", "objects": [...]}]}`."""

    name = "json"
    file = "frames.json"

    def __post_init__(self) -> None:
        self._text = PartialText(self.path)
        self._frames = 0

    def write(self, result: FrameResult) -> None:
        if not self._frames:
            head = orjson.dumps(
                {
                    "source": self.source.name,
                    "fps": self.source.fps,
                    "width": self.source.width,
                    "height": self.source.height,
                    "classes": list(result.names),
                    "frames": [],
                }
            ).decode()
            self._text.write(head.removesuffix("]}"))
        frame = {
            "frame": result.index,
            "seconds": None if result.seconds is None else round(result.seconds, 4),
            "objects": [
                {
                    "id": row.id,
                    "label": row.label,
                    "class": row.name,
                    "score": round(row.score, 4),
                    "box_xyxy": [round(value, 2) for value in row.box],
                }
                for row in rows(result)
            ],
        }
        self._text.write((",\n" if self._frames else "\n") + orjson.dumps(frame).decode())
        self._frames += 1

    def close(self) -> None:
        if self._frames:
            self._text.write("\n]}\n")
        self._text.close()
