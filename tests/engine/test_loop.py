"""Training runs: the same numbers every time, through interruptions too, and clear words when they fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from safetensors.torch import load_file

from engine.ranks import start_two
from ookd import config
from ookd.engine.loop import Interrupted, Trainer
from ookd.engine.run_log import RunLog
from ookd.errors import UserError
from ookd.models import zoo

TINY = [
    "data.train.0.videos=12",
    "data.train.0.change={height: 64, width: 96, frames: 6, crowd: [2, 3]}",
    "data.val=null",
    "data.workers=0",
    "data.batch=2",
    "model.change={width: 32, mask_width: 16, embed: 16, heads: 4, hidden: 64, queries: 8, frozen: 5}",
    "optim.warmup=4",
    "run.steps=20",
    "run.precision=fp32",
    "run.threads=1",
    "run.log_every=1",
    "run.save_every=4",
]

# Total loss of the first 20 steps of the tiny run. A refactor must not change it; a change of the method
# does, and then says so. Other CPUs and torch builds round differently, hence the tolerance.
CURVE = Path(__file__).with_name("golden_curve.json")


def train(folder: Path, *changes: str) -> Trainer:
    recipe = config.load("nano-ytvis-like", [*TINY, *changes])
    trainer = Trainer(recipe, folder, RunLog(recipe, folder, quiet=True), cpu=True)
    trainer.resume()
    trainer.fit()
    return trainer


def curve(folder: Path) -> list[float]:
    return [json.loads(line)["loss"]["total"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return saved(folder, "model")


def saved(folder: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / "step-00000020" / f"{part}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.skipif(cv2.__version__ < "5", reason="OpenCV 4 draws worlds a little differently")
def test_golden_curve(whole: Path) -> None:
    expected = json.loads(CURVE.read_text())
    assert curve(whole) == pytest.approx(expected, rel=2e-3)
    assert sum(expected[-5:]) < 0.9 * sum(expected[:5])


def test_two_runs_are_bit_identical(whole: Path, tmp_path: Path) -> None:
    train(tmp_path)
    assert curve(tmp_path) == curve(whole)
    assert same(final_weights(tmp_path), final_weights(whole))


def test_workers_do_not_change_the_numbers(whole: Path, tmp_path: Path) -> None:
    train(tmp_path, "data.workers=2")
    assert curve(tmp_path) == curve(whole)


def test_averaged_weights_survive_an_interruption(tmp_path: Path) -> None:
    averaged = train(tmp_path / "a", "run.ema=0.9").trained().state_dict()
    with pytest.raises(Interrupted):
        stop_at(7, tmp_path / "b", "run.ema=0.9")
    resumed = train(tmp_path / "b", "run.ema=0.9")
    assert same(averaged, resumed.trained().state_dict())
    assert not same(averaged, load_file(tmp_path / "b/checkpoints/step-00000020/model.safetensors"))


def command(folder: Path, *changes: str) -> list[str]:
    """The same run from the command line."""
    arguments = [sys.executable, "-m", "ookd", "train", "nano-ytvis-like", "--device", "cpu"]
    arguments += ["--out", str(folder)]
    for change in [*TINY, *changes]:
        arguments += ["--set", change]
    return arguments


def stop_at(step: int, folder: Path, *changes: str) -> None:
    """Train until SIGTERM arrives during `step`."""
    recipe = config.load("nano-ytvis-like", [*TINY, *changes])

    class Stopping(RunLog):
        def step(self, step_: int, *rest: Any) -> dict[str, float]:
            if step_ == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().step(step_, *rest)

    Trainer(recipe, folder, Stopping(recipe, folder, quiet=True), cpu=True).fit()


def test_sigterm_saves_and_resumes_to_the_same_numbers(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="after step 7; continue with --resume"):
        stop_at(7, tmp_path)
    assert len(curve(tmp_path)) == 7
    train(tmp_path)
    assert curve(tmp_path) == curve(whole)
    assert same(final_weights(tmp_path), final_weights(whole))
    assert same(*(saved(folder, "random") for folder in (tmp_path, whole)))  # of which dropout draws


def test_a_student_with_a_memory_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    small = "width: 32, mask_width: 16, embed: 16, heads: 4, hidden: 64, queries: 8, frozen: 5"
    changes = [
        "model.base=nano-memory",
        f"model.change={{{small}, birth: 0.0}}",
        "data.frames={kind: clip, length: 4, span: 4}",
        "run.steps=8",
    ]
    whole = train(tmp_path / "whole", *changes)
    with pytest.raises(Interrupted):
        stop_at(5, tmp_path / "parts", *changes)
    assert same(whole.model.state_dict(), train(tmp_path / "parts", *changes).model.state_dict())
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_a_signal_to_the_whole_job_saves_and_stops(whole: Path, tmp_path: Path) -> None:
    """As a terminal or SLURM sends it: to the trainer and to its loader processes at once."""
    arguments = command(tmp_path, "data.workers=2")
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    metrics = tmp_path / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step" in errors.splitlines()[-1]
    train(tmp_path)
    assert curve(tmp_path) == curve(whole)


def test_kill_at_any_moment_loses_nothing(whole: Path, tmp_path: Path) -> None:
    """Killed three times at moments that fall anywhere, in a step or while saving."""
    arguments = command(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    for lines in (3, 8, 15):
        process = subprocess.Popen([*arguments, "--resume"], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if metrics.exists() and len(metrics.read_text().splitlines()) >= lines:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run([*arguments, "--resume", "--json"], capture_output=True, text=True)
    assert json.loads(done.stdout)["steps"] == 20, done.stderr
    assert curve(tmp_path) == curve(whole)
    assert same(final_weights(tmp_path), final_weights(whole))


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        stop_at(10, tmp_path)
    weights = tmp_path / "checkpoints" / "step-00000010" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    recipe = config.load("nano-ytvis-like", TINY)
    record = RunLog(recipe, tmp_path, quiet=True)
    warnings: list[str] = []
    record.warn = warnings.append  # type: ignore[method-assign]
    trainer = Trainer(recipe, tmp_path, record, cpu=True)
    assert trainer.resume()
    assert trainer.step == 8
    assert len(warnings) == 1
    assert "model.safetensors does not match its checksum" in warnings[0]
    trainer.fit()
    assert curve(tmp_path) == curve(whole)


def test_a_loss_that_is_not_finite_skips_the_step_and_then_stops(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite 3 steps in a row") as caught:
        train(tmp_path, "optim.lr=1e30", "optim.warmup=0", "optim.clip=1e30", "run.patience=3")
    kept = sorted((tmp_path / "not-finite").iterdir())
    assert len(kept) == 3
    assert str(kept[-1]) in str(caught.value)
    assert "frames" in load_file(kept[-1])


def test_a_full_disk_is_one_line_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        stop_at(4, tmp_path)
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ookd.engine.checkpoint.save_file", full)
    with pytest.raises(UserError, match="No space left on device"):
        train(tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before


def test_accumulated_micro_batches_weigh_the_same(whole: Path, tmp_path: Path) -> None:
    """Not the same numbers (a loss divides by the objects of its micro-batch), but the same data."""
    trainer = train(tmp_path, "run.accumulate=2", "run.steps=4")
    assert trainer.loader.state_dict()["position"] == 8


def two_processes(folder: Path, *changes: str, resume: str = "--resume") -> None:
    for process in start_two([*command(folder, *changes), resume]):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


GLOBAL_BATCH = ["data.batch=4", "run.steps=6", "run.save_every=3", "run.channels_last=false", "run.ema=0.9"]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    train(folder, *GLOBAL_BATCH)
    return folder


def test_two_processes_equal_one(one_process: Path, tmp_path: Path) -> None:
    """One process with 4 clips a step and two with 2 each: same data, same losses."""
    two_processes(tmp_path, *GLOBAL_BATCH)
    assert curve(tmp_path) == pytest.approx(curve(one_process), rel=1e-5)


SHARED = [*GLOBAL_BATCH, "optim.kind=adamw"]


def test_two_processes_that_share_the_weights_equal_one(tmp_path: Path) -> None:
    """FSDP2, from a checkpoint of one process to one that any number of processes can go on from."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    train(alone, *SHARED)
    shutil.copytree(alone, shared)
    last = Path("checkpoints/step-00000006")
    shutil.rmtree(shared / last)
    two_processes(shared, *SHARED, "run.shard=true", "run.recompute=true", resume="--resume-changed")
    assert curve(shared) == pytest.approx(curve(alone), rel=1e-5)
    for part in ("model", "average", "optimizer"):
        found, expected = (load_file(folder / last / f"{part}.safetensors") for folder in (shared, alone))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-4, msg=f"{part} {name}")
    saved, averaged = (
        zoo.load(shared / "model").model.state_dict(),
        load_file(shared / last / "average.safetensors"),
    )
    assert same(saved, averaged)


def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path: Path) -> None:
    ranks = start_two(
        [*command(tmp_path, *GLOBAL_BATCH, "run.steps=2000", "run.save_every=2000"), "--resume"]
    )
    metrics = tmp_path / "metrics.jsonl"
    while ranks[0].poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.01)
    ranks[1].send_signal(signal.SIGTERM)
    for process in ranks:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGTERM, errors
    (saved,) = (tmp_path / "checkpoints").iterdir()
    assert saved.name == f"step-{len(curve(tmp_path)):08d}"


def test_layers_computed_again_change_no_number(whole: Path, tmp_path: Path) -> None:
    train(tmp_path, "run.recompute=true", "run.steps=2")
    assert curve(tmp_path) == curve(whole)[:2]


def test_a_compiled_step_gives_the_same_losses(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is traced is run as it is: compiling kernels would take minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    train(tmp_path, "run.compile=true", "run.steps=2")
    assert curve(tmp_path) == pytest.approx(curve(whole)[:2], rel=1e-4)


def test_fp16_on_a_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        train(tmp_path, "run.precision=fp16")


def test_the_scaler_is_part_of_a_checkpoint(tmp_path: Path) -> None:
    recipe = config.load("nano-ytvis-like", TINY)
    scales = []
    for scale in (1024.0, 2.0):
        trainer = Trainer(recipe, tmp_path, RunLog(recipe, tmp_path, quiet=True), cpu=True)
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer.accelerator.scaler.scale(torch.zeros(1))  # begins to count
        trainer.resume()
        trainer.save()
        scales.append(trainer.accelerator.scaler.get_scale())
    assert scales == [1024.0, 1024.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fp16_with_a_scaler_resumes(tmp_path: Path) -> None:
    recipe = config.load("nano-ytvis-like", [*TINY, "run.precision=fp16"])
    for folder in (tmp_path / "whole", tmp_path / "resumed"):
        Trainer(recipe, folder, RunLog(recipe, folder, quiet=True)).fit()
    shutil.rmtree(tmp_path / "resumed" / "checkpoints" / "step-00000020")
    trainer = Trainer(recipe, tmp_path / "resumed", RunLog(recipe, tmp_path / "resumed", quiet=True))
    assert trainer.resume()
    trainer.fit()
    assert curve(tmp_path / "resumed") == pytest.approx(curve(tmp_path / "whole"), rel=2e-2)


def test_batch_must_divide(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.batch = 2 must be a multiple of 1 processes x 3"):
        train(tmp_path, "run.accumulate=3")


def test_minor_paste_adds_real_targets(whole: Path, tmp_path: Path) -> None:
    trainer = train(tmp_path, "run.steps=4", "data.minor_paste={probability: 1}")
    assert curve(tmp_path) != curve(whole)[:4]
    batch = next(iter(trainer.loader))
    assert all((tracks.ids >= 2**32).any() for tracks in batch.tracks)


def test_wrong_minor_paste_settings_name_the_right_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.minor_paste\.often.*choose from probability"):
        train(tmp_path, "data.minor_paste={often: 1}")
