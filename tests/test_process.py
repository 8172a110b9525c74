"""What differs between operating systems, as the others would have it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ookd import files, process

MIB = 2**20


def test_peak_memory_is_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 20 * MIB < process.peak_memory() < 64_000 * MIB
    monkeypatch.setattr(process, "_STATUS", Path("/nowhere"))
    most = 300 * MIB
    for platform, given in {"darwin": most, "freebsd14": most // 1024}.items():  # bytes, and KiB elsewhere
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(resource, "getrusage", lambda _, given=given: SimpleNamespace(ru_maxrss=given))
        assert process.peak_memory() == most


def test_a_folder_is_not_opened_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.open

    def windows(path: Path, flags: int) -> int:
        if path.is_dir():
            raise PermissionError(13, "Permission denied")
        assert flags & os.O_RDWR  # or it cannot be flushed there
        return plain(path, flags)

    (tmp_path / "file").write_text("kept")
    files.flush_to_disk(tmp_path)
    monkeypatch.setattr(os, "open", windows)
    monkeypatch.setattr(sys, "platform", "win32")
    files.flush_to_disk(tmp_path)
    files.flush_to_disk(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


def test_signals_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process.stop_signals() == [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    monkeypatch.delattr(signal, "SIGUSR1")
    assert process.stop_signals() == [signal.SIGINT, signal.SIGTERM]


def test_training_and_the_demo_load_without_what_windows_lacks() -> None:
    code = (
        "import signal, sys; del signal.SIGUSR1; sys.modules['resource'] = None;"
        "import ookd.cli.demo, ookd.engine.run, ookd.clips.loader, ookd.deploy.measure, ookd.api;"
        "from ookd.engine.loop import Interruption\n"
        "with Interruption(): print('caught', len(signal.Signals) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "caught True\n", done.stderr
