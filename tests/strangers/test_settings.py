"""Settings that are wrong: recipes, environment variables, options."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import small_set
from cli.data_and_model import write_data
from data.video_files import write_video
from engine.tiny import CHANGES
from strangers.trying import tried

UNFIT = "is not valid YAML: a value does not fit its tag"
THREADS = "must be a number of threads from 1 to 1024"
# what a YAML file holds, and what is said of it
TEXTS: dict[str, tuple[str, str]] = {
    "a bool that is none": ("run: {steps: !!bool perhaps}", UNFIT),
    "a number that is empty": ('run: {steps: !!int ""}', UNFIT),
    "a date that is none": ("run: {steps: !!timestamp never}", UNFIT),
    "a share of a text": ("optim: {lr: !!float high}", "is not valid YAML"),
    "bytes that are none": ("name: !!binary ö", "is not valid YAML"),
    "an object of Python": ("run: !!python/object/apply:os.system ['touch mine']", "is not valid YAML"),
    "a set of lists": ("run: !!set {[1]: null}", "is not valid YAML"),
    "pairs that are none": ("run: !!omap [1, 2]", "is not valid YAML"),
    "merged with itself": ("a: &a {<<: *a}", "a value contains itself"),
    "merged with a text": ("a: &a text\nrun: {<<: *a}", "is not valid YAML"),
    "merged a million times": (
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 7)),
        "more than 100000 values",
    ),
    "two documents": ("name: a\n---\nname: b\n", "is not valid YAML"),
    "two versions": ("%YAML 9.9\n---\nname: a\n", "is not valid YAML"),
    "a key that is a list": ("? [1, 2]\n: 3\n", "is not valid YAML"),
    "a key that is a number": ("1: 2\n", "Keys should be strings, not 1"),
    "tabs": ("run:\n\tsteps: 3\n", "is not valid YAML"),
    "a mark of another order": ("\ufffe" + "name: a", "is not valid YAML"),
    "a base that is a folder": ("base: ./x/..yaml", "no such file"),
    "a base of thousands of letters": ("base: " + "n" * 5000 + ".yaml", "File name too long"),
    "a base above all": ("base: ../../../../../../../../etc/passwd.yaml", "no such file"),
    "its own base by another name": ("base: ./recipe.yaml", "is its own base"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_odd_recipes(name: str, tmp_path: Path) -> None:
    text, says = TEXTS[name]

    def command(folder: Path) -> list[object]:
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")
        return ["train", "recipe.yaml", "--out", "run", "--device", "cpu"]

    tried(command, tmp_path, says)


# variable, its value, and what is said of it; None: it is passed over
VARIABLES: dict[str, tuple[str, str, str | None]] = {
    "no thread": ("OOKD_THREADS", "0", f"OOKD_THREADS=0: {THREADS}"),
    "a text of threads": ("OOKD_THREADS", "many", f"OOKD_THREADS=many: {THREADS}"),
    "a million threads": ("OOKD_THREADS", "1000000", f"OOKD_THREADS=1000000: {THREADS}"),
    "threads of thousands of digits": ("OOKD_THREADS", "9" * 5000, f"OOKD_THREADS=9{{40}}: {THREADS}"),
    "threads in other digits": ("OOKD_THREADS", "٣", f"OOKD_THREADS=.*: {THREADS}"),
    "a limit that is no number": ("OOKD_MAX_FILE", "nan", "OOKD_MAX_FILE=nan: must be a number"),
    "a limit below zero": ("OOKD_MAX_FILE", "-1", "OOKD_MAX_FILE=-1: must be a number"),
    "a screen of no columns": ("COLUMNS", "0", None),
    "a screen of odd columns": ("COLUMNS", "wide", None),
    "a home that is none": ("HOME", "/proc/none", None),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_odd_environment(name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, value, says = VARIABLES[name]

    def command(folder: Path) -> list[object]:
        write_data(folder)
        monkeypatch.setenv(variable, value)
        words = ["--model", model, "--out", "out", "--save", "csv", "--device", "cpu", "--end", "1"]
        return ["track", "frames/0", *words]

    tried(command, tmp_path, says)


# what the environment says of a launcher of several processes, and what is said of it
WHOLE = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29999",
}
LAUNCHERS: dict[str, tuple[dict[str, str], str]] = {
    "a text of processes": ({"WORLD_SIZE": "many"}, "WORLD_SIZE=many: must be a number"),
    "processes of no text": ({"WORLD_SIZE": ""}, "WORLD_SIZE=: must be a number"),
    "no process": ({"WORLD_SIZE": "0"}, "RANK=0 is for 1 or more processes, but WORLD_SIZE is 0"),
    "a rank of thousands of digits": ({"RANK": "9" * 5000}, "RANK=9{40}: must be a number"),
    "a rank below zero": ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK=-1: must be a number"),
    "a rank without others": ({"RANK": "1"}, "RANK=1 is for 2 or more processes, but WORLD_SIZE is 1"),
    "processes that nobody started": (
        {"WORLD_SIZE": "4"},
        "for 4 processes, RANK and LOCAL_RANK and MASTER_ADDR and MASTER_PORT must be set, too",
    ),
    "a place among none": (
        {"LOCAL_RANK": "0"},
        "RANK and WORLD_SIZE and MASTER_ADDR and MASTER_PORT must be",
    ),
    "a port that is a name": (WHOLE | {"MASTER_PORT": "http"}, "MASTER_PORT=http: must be a number"),
    "no GPUs": (WHOLE, "2 processes, but no GPUs for them; add --device cpu"),
}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_odd_launchers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, says = LAUNCHERS[name]
    device = "auto" if name == "no GPUs" else "cpu"
    if device == "auto" and torch.accelerator.is_available():
        pytest.skip("there are GPUs")

    def command(folder: Path) -> list[object]:
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        changes = [word for change in CHANGES for word in ("--set", change)]
        return ["train", "nano-ytvis-like", "--out", "run", "--device", device, *changes]

    tried(command, tmp_path, says)


# words of a command on a small set and model, and what is said of them; None: they are right
WORDS: dict[str, tuple[str, str | None]] = {
    "fullwidth digits": (
        "track frames/0 --end １ --model M --out out --device cpu",
        "is not a place in a video",
    ),
    "a score that is no number": (
        "track frames/0 --score nan --model M --out out --device cpu",
        "Invalid value for '--score'",
    ),
    "a score of the set that is no number": (
        "label data --score nan --model M --out out --device cpu",
        "Invalid value for '--score'",
    ),
    "parts that are no number": (
        "fleet frames --parts nan --model M --out out --device cpu",
        "Invalid value for '--parts'",
    ),
    "parts without end": (
        "fleet frames --parts inf --model M --out out --device cpu",
        "--parts inf: should be",
    ),
    "a wait that is no number": (
        "fleet frames --stall nan --model M --out out --device cpu",
        "Invalid value for '--stall'",
    ),
    "minutes that are no number": (
        "train nano --minutes nan --out out --device cpu",
        "Invalid value for '--minutes'",
    ),
    "minutes without end": (
        "train nano --minutes inf --out out --device cpu",
        "Invalid value for '--minutes'",
    ),
    "a size with another cross": ("export M out --size 64×96", "should be height x width"),
    "a size of thousands of digits": (f"export M out --size {'9' * 5000}x64", "should be height x width"),
    "a device in wide letters": (
        "track frames/0 --model M --out out --device ｃｐｕ",
        "is not available; choose from",
    ),
    "a verb in another alphabet": ("trасk frames/0", "No such command"),
    "an option with a long dash": ("track frames/0 —model M", "Got unexpected extra argument"),
    "a class in another alphabet": (
        "track frames/0 --classes square,bloсk --model M --out out",
        "has no class",
    ),
    "a name that turns the line": ("track \u202egpm.4 --model M --out out", r"\\u202e"),
    "a port that is taken by all": ("review data --port 70000", "Invalid value for '--port'"),
    "a seed of 31 digits": (
        f"data synth --videos 1 --out out --set frames=2 --seed 1{'0' * 30}",
        "Invalid value for '--seed'",
    ),
    "a demo of such a seed": (f"demo --out out --seed 1{'0' * 30}", "Invalid value for '--seed'"),
    "a preview of such a seed": (
        f"data preview data --minor-paste --out out --seed 1{'0' * 30}",
        "Invalid value for '--seed'",
    ),
    "a shard of none": ("fleet frames --shard 0/0 --model M --out out", "--shard 0/0: write the part"),
    "a shard in other digits": ("fleet frames --shard ٠/٢ --model M --out out", "--shard .*: write the part"),
}


@pytest.mark.parametrize("name", WORDS)
def test_odd_words(name: str, model: Path, tmp_path: Path) -> None:
    words, says = WORDS[name]

    def command(folder: Path) -> list[object]:
        write_data(folder)
        write_video(folder / "frames" / "v.mp4", 3)
        (folder / "data").mkdir()
        small_set.write_set(folder / "data")
        return [model if word == "M" else word for word in words.split()]

    tried(command, tmp_path, says)
