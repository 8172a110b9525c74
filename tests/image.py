"""Builds and tries the image of the Dockerfile without Docker: its lines run in root folders of their own.

This machine's /usr, read-only, takes the place of the base image, with the running Python in /usr/local.
Everything else that a stage sees comes from its own lines. At the end the command of the image runs as its
user until the health check passes, and is stopped. This needs root on Linux:

    unshare --mount python tests/image.py --build-arg INDEX=https://pypi.org/simple
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from string import Template

SOURCE = Path(__file__).parents[1]
SECONDS = 120  # until the health check must pass
KEPT = re.compile(r"(PIP_.*|.*_PROXY|SSL_.*)", re.IGNORECASE)  # of this machine's environment, for downloads


@dataclass(slots=True)
class Stage:
    root: Path
    name: str
    environment: dict[str, str]
    folder: str = "/"
    user: str = "0"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def start(self, command: Sequence[str], **options: str) -> subprocess.Popen[bytes]:
        """A process in the stage, as its user."""
        inside = ["chroot", f"--userspec={self.user}:{self.user}", str(self.root), "/usr/bin/env", "--chdir"]
        home = {"HOME": "/root" if self.user == "0" else self.folder}
        return subprocess.Popen([*inside, self.folder, *command], env={**self.environment, **home, **options})

    def run(self, *command: str, **options: str) -> int:
        """The exit code of a command in the stage."""
        return self.start(command, **options).wait()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--bind", action="append", default=[], help="a folder of this machine to show to stages"
    )
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        try:
            try_out(build(Path(folder), dict(one.split("=", 1) for one in given.build_arg), given.bind))
        finally:
            subprocess.run(["umount", "--recursive", folder], check=True)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    return [
        (word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in whole if line)
    ]


def context(ignored: Path) -> list[str]:
    """What the build sees of the sources. All is left out but what a line with `!` lets in."""
    lines = ignored.read_text().split()
    assert lines[0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


def build(folder: Path, given: Mapping[str, str], binds: Sequence[str]) -> Stage:
    """Run all lines; the last stage."""
    stages: dict[str, Stage] = {}
    known: dict[str, str] = {}  # build arguments
    stage = None
    for word, rest in instructions(SOURCE / "Dockerfile"):
        if word not in ("RUN", "CMD", "HEALTHCHECK"):
            rest = Template(rest).safe_substitute({**known, **(stage.environment if stage else {})})
        print(f"{word} {rest}", flush=True)
        if word == "ARG":
            name, _, default = rest.partition("=")
            known[name] = given.get(name, default)
        elif word == "FROM":
            _, _, name = rest.partition(" AS ")
            environment = {key: value for key, value in os.environ.items() if KEPT.fullmatch(key)}
            environment["PATH"] = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            stage = stages[name] = Stage(empty_root(folder / (name or "image"), binds), name, environment)
        elif stage is None:
            raise ValueError(f"{word} before FROM")
        elif word == "RUN":
            if stage.run("sh", "-c", rest, **known):
                raise SystemExit(f"failed: {rest}")
        elif word == "COPY":
            copy(rest.split(), stage, stages)
        elif word == "ENV":
            stage.environment |= dict(one.split("=", 1) for one in shlex.split(rest))
        elif word == "USER":
            stage.user = rest
        elif word == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "CMD":
            stage.command = json.loads(rest)
        elif word == "HEALTHCHECK":
            stage.health = json.loads(rest.partition("CMD ")[2])
        elif word not in ("LABEL", "EXPOSE"):
            raise ValueError(f"{word} is not known here")
    assert stage is not None
    return stage


def empty_root(root: Path, binds: Sequence[str]) -> Path:
    """A root folder with system and Python, and nothing else."""
    for name in ("usr", "proc", "dev", "tmp", "root", "home", "var", "run"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    shutil.copytree("/etc", root / "etc", symlinks=True)
    bind("/usr", root / "usr")
    if sys.base_prefix != "/usr":
        bind(sys.base_prefix, root / "usr/local")
    for name in ("/proc", "/dev", *binds):
        (root / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
        bind(name, root / name.lstrip("/"))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(root / "dev/shm")], check=True)
    subprocess.run(["chroot", str(root), "ldconfig"], check=True)
    return root


def bind(source: str, place: Path) -> None:
    """Show a folder of this machine there. It cannot be changed."""
    subprocess.run(["mount", "--bind", source, str(place)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)


def copy(words: list[str], stage: Stage, stages: Mapping[str, Stage]) -> None:
    seen = context(SOURCE / ".dockerignore")
    other = words.pop(0).partition("--from=")[2] if words[0].startswith("--from=") else None
    *sources, target = words
    for source in sources:
        place = stage.root / os.path.join(stage.folder, target).lstrip("/")
        if other:
            shutil.copytree(stages[other].root / source.lstrip("/"), place, symlinks=True)
        elif not any(fnmatch(source, pattern) for pattern in seen):
            raise SystemExit(f"COPY {source}: .dockerignore hides it")
        elif (SOURCE / source).is_dir():
            shutil.copytree(SOURCE / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(SOURCE / source, place)


def try_out(image: Stage) -> None:
    """Run the command of the image until it is healthy, and stop it."""
    size = sum(file.lstat().st_size for file in (image.root / "opt/ookd").rglob("*"))
    print(f"besides the base image: {size / 1e6:.0f} MB")
    if image.user == "0" or not image.run("test", "-w", "/opt/ookd"):
        raise SystemExit("failed: the user of the image can change it")
    begin = time.monotonic()
    server = image.start(image.command)
    try:
        while image.run("sh", "-c", f"{shlex.join(image.health)} 2>/dev/null"):
            if server.poll() is not None or time.monotonic() - begin > SECONDS:
                raise SystemExit("failed: the health check does not pass")
            time.sleep(0.5)
        print(f"healthy after {time.monotonic() - begin:.1f} s as user {image.user}")
    finally:
        server.terminate()
        code = server.wait(30)
    if code:
        raise SystemExit(f"failed: it was stopped with code {code}")
    print("stopped")


if __name__ == "__main__":
    main()
