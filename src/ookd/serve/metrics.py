"""The server's counters, in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds per batch

HELP = {
    "ookd_frames_total": ("counter", "Frames processed by a model."),
    "ookd_batch_seconds": ("histogram", "Time of a batch in the model."),
    "ookd_uploads_total": ("counter", "Accepted uploads."),
    "ookd_upload_bytes_total": ("counter", "Bytes of uploads that were read."),
    "ookd_refused_total": ("counter", "Refused requests, by HTTP status."),
    "ookd_live_streams": ("gauge", "Live streams with a place in a model."),
    "ookd_videos": ("gauge", "Stored videos, by state."),
    "ookd_memory_bytes": ("gauge", "Peak memory of the process."),
    "ookd_threads": ("gauge", "Python threads."),
}


class Metrics:
    """Counters that any thread may add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, amount: float = 1, labels: str = "") -> None:
        with self._lock:
            self._counts[name, labels] += amount  # type: ignore[assignment]  # seconds are added too

    def batch(self, model: str, frames: int, seconds: float) -> None:
        """One batch through a model."""
        label = f'model="{_escaped(model)}"'
        self.add("ookd_frames_total", frames, label)
        self.add("ookd_batch_seconds_sum", seconds, label)
        self.add("ookd_batch_seconds_count", 1, label)
        for bound in BOUNDS:
            self.add("ookd_batch_seconds_bucket", seconds <= bound, f'{label},le="{bound:g}"')
        self.add("ookd_batch_seconds_bucket", 1, f'{label},le="+Inf"')

    def text(self, now: Mapping[tuple[str, str], float]) -> str:
        """All counters, and these gauges."""
        with self._lock:
            values = {**self._counts, **now}
        lines: list[str] = []
        for name, (kind, what) in HELP.items():
            lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
            lines += _samples(name, kind, values.items())
        return "\n".join(lines) + "\n"


def _samples(name: str, kind: str, values: Iterable[tuple[tuple[str, str], float]]) -> list[str]:
    own = [f"{name}_{part}" for part in ("bucket", "sum", "count")] if kind == "histogram" else [name]
    return [
        f"{key}{{{labels}}} {value:.12g}" if labels else f"{key} {value:.12g}"
        for key, labels, value in sorted((key, labels, value) for (key, labels), value in values)
        if key in own
    ]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
