"""The command line in a process of its own, bounded in time and memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

SECONDS = 60  # far more than any command below takes, also on a busy machine
MEGABYTES = 1500


def ookd(*arguments: object, megabytes: int = MEGABYTES, **how: object) -> subprocess.CompletedProcess[str]:
    """Run a command that may hold so much memory."""
    options: dict[str, object] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "cwd": None} | how
    return subprocess.run(
        [sys.executable, "-m", "ookd", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        timeout=SECONDS,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20,) * 2),
        **options,  # type: ignore[call-overload]
    )


def refused(*arguments: object, says: str, **how: object) -> None:
    """Assert that a command ends with one line that says so, and with exit code 2."""
    done = ookd(*arguments, **how)
    told = (done.stdout or "") + done.stderr
    assert done.returncode == 2, told
    assert says in told, told
    assert "Traceback" not in told
    assert "(unexpected; " not in told
    assert not any(ord(letter) < 32 and letter != "\n" for letter in told), "control characters"


def device(path: Path, kind: str) -> Path:
    """Something at `path` that is no regular file, and that reading would wait for or never end."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name("pipe"))
        path.symlink_to(path.with_name("pipe"))
    else:
        path.symlink_to(kind)
    return path


DEVICES = ("pipe", "link to a pipe", "/dev/zero", "/dev/random", "/dev/tty")
