"""Tracking with an exported model asks no host and leaves nothing in the home folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.exported import exported
from ookd.deploy.folder import Kind

TRACK = """
import socket, sys, threading, time

asked = []
for name in ("getaddrinfo", "gethostbyname"):
    setattr(socket, name, lambda host, *rest, **more: asked.append(host))
real = socket.socket.connect
socket.socket.connect = lambda self, address: asked.append(address)

import numpy as np
import ookd

session = ookd.load(sys.argv[1], runtime=sys.argv[2]).session()
session.step(np.zeros((64, 96, 3), np.uint8))
time.sleep(1)  # reports are sent in the background
print("asked", asked)
"""


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_nobody_is_told(kind: Kind, tmp_path: Path) -> None:
    home, calls = tmp_path / "home", tmp_path / "calls"
    home.mkdir()
    odd = ("CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY", "NO_TELEMETRY")  # switch it off, too
    environment = {name: value for name, value in os.environ.items() if name not in odd}
    words = [sys.executable, "-c", TRACK, str(exported(kind)), kind]
    if tracer := shutil.which("strace"):  # sees what the runtimes' own code does
        words = [tracer, "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(calls), *words]
    done = subprocess.run(
        words, env={**environment, "HOME": str(home)}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "asked []\n", done.stderr
    assert [path.relative_to(home) for path in home.rglob("*") if "Look" not in path.name] == []
    if tracer:
        assert [line for line in calls.read_text().splitlines() if "AF_INET" in line] == []
