"""The Dockerfile, as far as it can be tried without a build; `make test-image` runs its lines."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from image import SOURCE, context, instructions

LINES = instructions(SOURCE / "Dockerfile")
PROJECT = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]


def test_the_linter_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(SOURCE / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_there_and_is_enough_to_build() -> None:
    ours = [rest.split()[:-1] for word, rest in LINES if word == "COPY" and "--from" not in rest]
    copied = {source for sources in ours for source in sources}
    assert copied == set(context(SOURCE / ".dockerignore"))
    assert all((SOURCE / source).exists() for source in copied)
    assert {PROJECT["readme"], *PROJECT["license-files"], "src", "pyproject.toml"} <= copied


def test_its_extras_exist_and_hold_what_the_server_needs() -> None:
    (extras,) = [rest for word, rest in LINES if word == "ARG" and rest.startswith("EXTRAS=")]
    named = set(extras.partition("=")[2].split(","))
    assert "serve" in named <= set(PROJECT["optional-dependencies"])
