"""All videos of a server, the models that they share, and which video makes room for a new one."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

from ookd.data.video.container import ContainerSource
from ookd.deploy.loading import Tracker
from ookd.process import peak_memory
from ookd.serve.answers import State
from ookd.serve.batching import BatchedModel
from ookd.serve.live import LiveStream
from ookd.serve.metrics import Metrics
from ookd.serve.replay import replayed
from ookd.serve.rules import Refusal, ServeRules
from ookd.serve.uploads import open_upload, track_upload
from ookd.serve.videos import TrackedVideo
from ookd.tracking.video_tracker import ResultFilter

log = logging.getLogger(__name__)

OVER = ("done", "failed")


class Shelf:
    """Videos by their id, which cannot be guessed. All files are in a folder that `close` removes."""

    def __init__(self, trackers: Mapping[str, Tracker], rules: ServeRules) -> None:
        self.rules, self.metrics = rules, Metrics()
        self.folder = Path(tempfile.mkdtemp(prefix="ookd-serve-"))
        places = rules.streams + rules.uploads
        self.models = {
            name: BatchedModel(name, tracker, places, self.metrics.batch)
            for name, tracker in trackers.items()
        }
        self.steps = ThreadPoolExecutor(rules.streams, "stream")  # each live stream has one frame in flight
        self.downloads = ThreadPoolExecutor(rules.downloads, "download")
        self._uploads = ThreadPoolExecutor(rules.uploads, "upload")
        self._videos: dict[str, TrackedVideo] = {}  # the oldest first
        self._recordings: dict[str, ContainerSource] = {}
        self._live: dict[str, LiveStream] = {}
        self._lock = threading.RLock()

    def model(self, name: str | None) -> BatchedModel:
        """A model by name; the first one if none is named."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refusal(400, f"no model {name}; choose from {', '.join(self.models)}")
        return self.models[name]

    def new_upload(self) -> Path:
        """Where to write an upload."""
        return self.folder / f"{secrets.token_hex(8)}.upload"

    def add_upload(self, path: Path, name: str, model: BatchedModel, show: ResultFilter) -> TrackedVideo:
        """Track an uploaded file, which the server then owns."""
        source = open_upload(path, self.rules)
        video = self._place(name, model)
        self.metrics.add("ookd_uploads_total")
        path.rename(video.folder / "recording")
        source = open_upload(video.folder / "recording", self.rules)
        video.height, video.width, video.fps, video.length = (
            source.height,
            source.width,
            source.fps,
            source.length,
        )
        self._recordings[video.id] = source
        self._uploads.submit(self._track, video, source, model, show)
        return video

    def begin_live(self, model: BatchedModel, show: ResultFilter, holder: object) -> LiveStream:
        """A place for a camera. If there is none, the longest disconnected stream makes room."""
        with self._lock:
            running = [live for live in self._live.values() if live.video.state == "running"]
            if len(running) >= self.rules.streams:
                longest = max(running, key=lambda live: live.waits)
                if not longest.waits:
                    raise Refusal(503, f"all {self.rules.streams} places for live streams are taken")
                longest.end()
            stream = model.open(show)
            if stream is None:
                raise Refusal(503, "the model has no place left")
            try:
                video = self._place("camera", model, live=True)
            except Refusal:
                stream.release()
                raise
            live = self._live[video.id] = LiveStream(video, stream, self.rules, holder)
            return live

    def resume_live(self, id: str) -> LiveStream | None:
        """The stream that a client resumes, if it still exists."""
        with self._lock:
            live = self._live.get(id)
            return live if live is not None and live.video.state == "running" else None

    def video(self, id: str) -> TrackedVideo:
        with self._lock:
            if id not in self._videos:
                raise Refusal(404, "no such video; it may have been replaced by a newer one")
            return self._videos[id]

    def remove(self, id: str) -> None:
        with self._lock:
            video = self.video(id)
            del self._videos[id]
            live = self._live.pop(id, None)
            self._recordings.pop(id, None)
        video.stopping.set()
        if live is not None:
            live.end()
        video.spool.remove()
        shutil.rmtree(video.folder, ignore_errors=True)

    def sweep(self) -> None:
        """End the live streams whose clients did not return."""
        with self._lock:
            for id, live in list(self._live.items()):
                if live.video.state == "running" and live.waits > self.rules.resume_seconds:
                    live.end()
                    if not live.video.spool.stop:  # it never had a frame
                        self.remove(id)

    def download(
        self, video: TrackedVideo, kind: str, classes: Collection[str] | None, score: float
    ) -> tuple[Path, Path]:
        """A file with the results, and the folder to remove once it is sent."""
        out = self.folder / f"{secrets.token_hex(8)}.download"
        try:
            recording = self._recordings.get(video.id)
            return replayed(video, recording, kind, classes, score, out, self.rules), out
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)
            raise

    def metrics_text(self) -> str:
        with self._lock:
            states = [video.state for video in self._videos.values()]
            live = sum(live.video.state == "running" for live in self._live.values())
        gauges: dict[tuple[str, str], float] = {
            ("ookd_live_streams", ""): live,
            ("ookd_memory_bytes", ""): peak_memory(),
            ("ookd_threads", ""): threading.active_count(),
        }
        for state in get_args(State):
            gauges["ookd_videos", f'state="{state}"'] = states.count(state)
        return self.metrics.text(gauges)

    def close(self) -> None:
        """Stop everything and delete all files."""
        with self._lock:
            videos = list(self._videos.values())
        for video in videos:
            video.stopping.set()
        for model in self.models.values():
            model.close()
        for workers in (self._uploads, self.steps, self.downloads):
            workers.shutdown(cancel_futures=True)
        for video in videos:
            video.spool.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _track(
        self, video: TrackedVideo, source: ContainerSource, model: BatchedModel, show: ResultFilter
    ) -> None:
        stream = model.open(show)
        assert stream is not None, "uploads have their own places"
        track_upload(video, source, stream, self.rules)

    def _place(self, name: str, model: BatchedModel, live: bool = False) -> TrackedVideo:
        """A new video. The oldest finished one makes room."""
        with self._lock:
            while len(self._videos) >= self.rules.videos:
                old = next((video.id for video in self._videos.values() if video.state in OVER), None)
                if old is None:
                    raise Refusal(503, f"all {self.rules.videos} places for videos are in use")
                self.remove(old)
            id = secrets.token_urlsafe(12)
            keep = self.rules.kept_frames if live else None
            names = model.tracker.names
            video = TrackedVideo(id, name, model.name, names, self.folder / id, live=live, keep=keep)
            self._videos[id] = video
            return video
