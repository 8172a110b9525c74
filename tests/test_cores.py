"""How many threads compute, whoever asks: this process, its children, PyTorch and the runtimes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deploy.exported import exported
from ookd.cores import thread_count, usable_cores, use_threads
from ookd.deploy.onnx import OnnxRunner
from ookd.deploy.openvino import OpenVinoRunner
from ookd.errors import UserError

SAY = "import sys, torch; from ookd.cores import thread_count; print(torch.get_num_threads(), thread_count())"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OOKD_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")


def test_there_is_one_thread_a_core_unless_someone_knows_better(monkeypatch: pytest.MonkeyPatch) -> None:
    assert thread_count() == len(usable_cores())
    for nonsense in ("0", "-1", "many", "²", "٣", "1025", "9" * 5000):
        monkeypatch.setenv("OOKD_THREADS", nonsense)
        with pytest.raises(UserError, match=r"OOKD_THREADS=.* must be a number of threads from 1 to 1024"):
            thread_count()
    use_threads(1)
    assert thread_count() == 1
    said = subprocess.run([sys.executable, "-c", SAY], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["1", "1"]


def test_the_runtimes_compute_with_as_many() -> None:
    use_threads(1)
    openvino = OpenVinoRunner(*(exported("openvino") / f"{name}.xml" for name in ("frame", "masks")))
    assert openvino._graphs[0].get_property("INFERENCE_NUM_THREADS") == 1
    onnx = OnnxRunner(*(exported("onnx") / f"{name}.onnx" for name in ("frame", "masks")))
    assert onnx._frame.get_session_options().intra_op_num_threads == 1


def test_the_command_line_takes_it_before_the_verb() -> None:
    code = "from ookd.cli import main; main(); from ookd.cores import thread_count; print(thread_count())"
    command = [sys.executable, "-c", code, "--threads", "5", "train", "--list"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1] == "5"
    refused = subprocess.run([*command[:4], "0", *command[5:]], capture_output=True, text=True)
    assert "--threads" in refused.stderr
