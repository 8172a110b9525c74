"""Output to pipes, devices, links and files; streams that are closed, full or of another encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import small_set
from cli.data_and_model import write_data
from data.video_files import write_video
from ookd.errors import UserError
from ookd.files import PartialText, new_file, new_folder
from strangers.test_videos import png
from strangers.trying import listing, tried

# kinds of things that may lie where a file is to be written
THINGS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "link to a device": lambda path: path.symlink_to("/dev/null"),
    "link to a pipe": lambda path: (
        os.mkfifo(path.with_name("pipe")),
        path.symlink_to(path.with_name("pipe")),
    ),
    "folder": Path.mkdir,
}
TRACK = "track frames/0 --model M --device cpu --end 2 --save csv"
# a command, and where in its folder it writes a file
WRITERS = {
    "report": ("eval --gt data/instances.json --pred results.json --report out --overwrite", "out"),
    "plot": ("data stats data --plot out --overwrite", "out"),
    "track": (f"{TRACK} --out tracked --overwrite", "tracked/boxes.csv"),
    "video": (f"{TRACK.replace('csv', 'mp4')} --out tracked --overwrite", "tracked/annotated.mp4"),
}


def fill(folder: Path) -> None:
    write_data(folder)
    (folder / "data").mkdir()
    small_set.write_set(folder / "data")
    (folder / "results.json").write_text("[]")


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_no_file_is_not_replaced(writer: str, thing: str, model: Path, tmp_path: Path) -> None:
    words, place = WRITERS[writer]

    def command(folder: Path) -> list[object]:
        fill(folder)
        (folder / place).parent.mkdir(exist_ok=True)
        THINGS[thing](folder / place)
        return [model if word == "M" else word for word in words.split()]

    done = tried(command, tmp_path, "cannot be written: is a (pipe or a device|folder), not a")
    assert "\n" not in done.err.strip()


FOLDERS = {
    "track": f"{TRACK} --out out",
    "convert": "data convert data --to ytvis --out out",
    "synth": "data synth --out out --videos 1 --set frames=2",
    "predict": "predict instances.json --frames frames --model M --out out --device cpu",
    "label": "label frames/v.mp4 --model M --out out --device cpu",
    "fleet": "fleet frames/v.mp4 --model M --out out --device cpu",
    "train": "train nano-ytvis-like --out out --device cpu",
    "export": "export M out --to onnx --size 64x96 --scenes 0 --no-check",
}


@pytest.mark.parametrize(
    ("writer", "thing"),
    [
        *((name, "pipe") for name in FOLDERS),
        ("track", "file"),
        ("fleet", "file"),
        ("label", "link to a device"),
    ],
)
def test_what_is_no_folder_is_none_for_output(writer: str, thing: str, model: Path, tmp_path: Path) -> None:

    def command(folder: Path) -> list[object]:
        fill(folder)
        (folder / "frames" / "v.mp4").write_bytes(b"")
        if thing == "file":
            (folder / "out").write_text("mine")
        else:
            THINGS[thing](folder / "out")
        return [model if word == "M" else word for word in FOLDERS[writer].split()]

    tried(command, tmp_path, "out: (exists|cannot be the output folder)")


@pytest.mark.parametrize("thing", ["pipe", "link to a pipe"])
def test_writers_look_before_they_write(thing: str, tmp_path: Path) -> None:
    THINGS[thing](tmp_path / "a.txt")
    before = listing(tmp_path)
    with pytest.raises(UserError, match="is a pipe or a device"), new_file(tmp_path / "a.txt"):
        pass
    with pytest.raises(UserError, match="is a pipe or a device"):
        PartialText(tmp_path / "a.txt")
    with pytest.raises(UserError, match="exists"), new_folder(tmp_path / "a.txt", False, ()):
        pass
    assert listing(tmp_path) == before


# --- streams and encodings ---------------------------------------------------------------------------------

OLD = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # ASCII everywhere
ENCODINGS = {
    "an old locale": OLD,
    "a locale that is none": {"LC_ALL": "xx_YY.klingon"},
    "ASCII alone": {"PYTHONIOENCODING": "ascii"},
    "strict ASCII": {"PYTHONIOENCODING": "ascii:strict"},
}
COMMANDS = {
    "stats": "data stats in",
    "check": "data check in",
    "convert": "data convert in --to cvat --out out",
    "convert to yolo": "data convert in --to yolo --out out",
    "eval": "eval --gt in --pred results.json --report out.html",
}


def set_in_another_alphabet(folder: Path) -> None:
    """Classes and frames have names beyond ASCII."""
    (folder / "in").mkdir()
    document = small_set.document()
    document["categories"][0]["name"] = "Käfer 甲虫"
    document["videos"][0]["file_names"] = [f"ä甲/{n}.png" for n in range(3)]
    path = small_set.write_set(folder / "in", document)
    (path.parent / "JPEGImages" / "a").rename(path.parent / "JPEGImages" / "ä甲")
    for n in range(3):
        (path.parent / "JPEGImages" / "ä甲" / f"0000{n}.png").rename(
            path.parent / "JPEGImages" / "ä甲" / f"{n}.png"
        )
    (folder / "results.json").write_text("[]")


def run(
    words: str, folder: Path, script: str = '"$@"', **environment: str
) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "ookd", *words.split()]
    return subprocess.run(
        ["sh", "-c", script, "sh", *program],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=60,
    )


@pytest.mark.parametrize(
    ("encoding", "command"),
    [*(("an old locale", name) for name in COMMANDS), *((name, "convert") for name in list(ENCODINGS)[1:])],
)
def test_names_beyond_ascii_in_any_locale(command: str, encoding: str, tmp_path: Path) -> None:
    set_in_another_alphabet(tmp_path)
    done = run(COMMANDS[command], tmp_path, **ENCODINGS[encoding])
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    if encoding == "an old locale" and done.returncode:  # which has no such names of files
        assert done.returncode == 2
        assert "is not a file name" in done.stdout or "set PYTHONUTF8=1" in done.stderr
        return
    assert done.returncode == 0, done.stdout + done.stderr
    if command == "convert":
        assert "Käfer 甲虫" in (tmp_path / "out" / "labels.txt").read_text("utf-8")


STREAMS = {
    "no standard error": ("2>&-", "data check none"),
    "a full standard error": ("2>/dev/full", "data check none"),
    "no stream at all": ("<&- >&- 2>&-", "data check none"),
    "a full standard error and a wrong option": ("2>/dev/full", "data check --none"),
    "a full standard output and error": (">/dev/full 2>/dev/full", "data check none"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_refusal_that_nobody_hears(name: str, tmp_path: Path) -> None:
    streams, words = STREAMS[name]
    done = run(words, tmp_path, script=f'"$@" {streams}')
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_source_that_is_a_closed_stream(tmp_path: Path) -> None:
    done = run("track - --out out", tmp_path, script='"$@" <&-')
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard input: ")
    assert not (tmp_path / "out").exists()


# --- names -------------------------------------------------------------------------------------------------

STEERING = "a\x1b]0;mine\x07\u202e"
NAMED = {
    "out": "track frames/0 --model M --device cpu --end 2 --save csv --out N",
    "source": "track N.mp4 --model M --device cpu --end 2 --save csv --out out",
    "unreadable image": "track images --model M --device cpu --end 2 --save csv --out out",
    "data": "data check N --quick",
    "convert": "data convert data --to ytvis --out N",
    "fleet": "fleet films --model M --device cpu --retries 0 --out N --workers 1",
}


@pytest.mark.parametrize("name", NAMED)
def test_names_of_files_that_steer_terminals(name: str, model: Path, tmp_path: Path) -> None:

    def command(folder: Path) -> list[object]:
        fill(folder)
        write_video(folder / f"{STEERING}.mp4", 3)
        for place in ("films", "images"):
            (folder / place).mkdir()
        write_video(folder / "films" / f"{STEERING}.mp4", 3)
        (folder / "images" / "1.png").write_bytes(png(12, 8))
        (folder / "images" / f"{STEERING}.png").write_bytes(b"")
        if name == "data":
            (folder / STEERING).mkdir()
            small_set.write_set(folder / STEERING)
        return [model if word == "M" else word.replace("N", STEERING) for word in NAMED[name].split()]

    tried(command, tmp_path, None)
