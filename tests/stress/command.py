"""A command in a fork of this process, which has imported everything; bounded, and watched as it writes."""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

SECONDS = 60  # of a command
MEGABYTES = 2500  # of data that it may hold more than this process

# what Python tells an audit hook of, and which arguments name what is changed
_CHANGES = {
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.chmod": (0,),
    "os.truncate": (0,),
    "shutil.rmtree": (0,),
}
_HARMLESS = ("git", "fc-list")  # programs that tell the revision, and the fonts that there are
_RUNS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn"}


# what commands import, and what takes long
_IMPORTED = (
    "torch",
    "ookd.api",
    "ookd.data.formats",
    "ookd.drawing.overlay",
    "ookd.engine.run",
    "ookd.fleet",
    "ookd.label",
    "ookd.reports",
    "ookd.tracking.pipeline",
    "matplotlib.figure",
    "matplotlib.pyplot",
    "rich.progress",
    "rich.table",
    "supervision",
)


def warm_up() -> None:
    """Import here, once, what each command would import in its fork."""
    for name in _IMPORTED:
        import_module(name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int  # negative: the signal that ended it
    out: str
    err: str
    seconds: float
    trespasses: list[str]  # what it wrote or ran outside of its folder

    def faults(self) -> list[str]:
        """What must not be, whatever the command was given."""
        said = self.err.strip().split("\n")
        found = [f"outside: {what}" for what in self.trespasses]
        if self.code == -signal.SIGALRM:
            found.append("took too long")
        elif self.code not in (0, 2):
            found.append(f"exit code {self.code}: {said[-1][:300]}")
        if "Traceback" in self.err or "(unexpected; " in self.err:
            found.append(f"not a line for people: {said[-1][:300]}")
        if self.code == 2 and not re.search(r"^(error|Error): |problem", self.err + self.out, re.M):
            found.append(f"exit code 2 without a reason: {said[-1][:300]}")
        if re.search(
            r"[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.out + self.err)
        ):
            found.append("control characters")
        return found


def run(
    command: Sequence[str],
    folder: Path,
    main: Callable[[list[str]], int],
    own: Sequence[Path] = (),
    seconds: int = SECONDS,
) -> Outcome:
    """Run it in the folder, to which, and to `own`, it may write."""
    out, err, notes = (folder.parent / f"{folder.name}.{name}" for name in ("out", "err", "notes"))
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(folder, out, err, notes, own, seconds)
        try:
            code = main(list(command))
        except BaseException as error:
            print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    texts = [
        path.read_text("utf-8", "backslashreplace") if path.exists() else "" for path in (out, err, notes)
    ]
    for path in (out, err, notes):
        path.unlink(missing_ok=True)
    code = os.waitstatus_to_exitcode(status)
    return Outcome(code, texts[0], texts[1], time.monotonic() - began, texts[2].splitlines())


def _become(folder: Path, out: Path, err: Path, notes: Path, own: Sequence[Path], seconds: int) -> None:
    """Make this process one that runs a command there."""
    os.setsid()
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    held = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_DATA, (held + (MEGABYTES << 20),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    noted = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    allowed = [str(place.resolve()) for place in (folder, *own, Path("/dev/null"), Path("/dev/shm"))]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _RUNS and arguments[0] not in _HARMLESS:
            os.write(noted, f"ran {arguments!r:.200}\n".encode("utf-8", "backslashreplace"))
        for path in _changed(event, arguments):
            place = os.path.realpath(path)
            if not any(place == one or place.startswith(one + "/") for one in allowed):
                os.write(noted, f"{event} {place}\n".encode("utf-8", "backslashreplace"))

    sys.addaudithook(watch)


def _changed(event: str, arguments: tuple[Any, ...]) -> list[str]:
    if event == "open":
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR) if isinstance(flags, int) else "w" in str(mode)
        paths = [path] if writes else []
    else:
        paths = [arguments[i] for i in _CHANGES.get(event, ())]
    return [os.fsdecode(path) for path in paths if isinstance(path, str | bytes | os.PathLike)]
