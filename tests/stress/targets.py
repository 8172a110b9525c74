"""What is attacked: each target fills a folder with something odd and gives a command that reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

import small_set
from ookd.data.formats import writable
from ookd.files import checksum
from ookd.tracking.sinks import SINKS
from stress.material import Material
from stress.odd import ODD_NUMBERS, ODD_TEXTS, damaged, documents, texts

Draw = Callable[[st.SearchStrategy[Any]], Any]
Target = Callable[[Draw, Path, Material], list[str]]

VIDEOS = {
    "v.mp4": "libx264",
    "v.webm": "libvpx",
    "v.mkv": "mpeg4",
    "v.avi": "mjpeg",
    "v.ts": "mpeg2video",
    "v.gif": "gif",
}
READERS = (
    "check",
    "check --quick",
    "stats --minor-paste",
    "stats --plot plot.png",
    "convert",
    "preview --videos 2",
)


def annotations(draw: Draw, folder: Path, given: Material) -> list[str]:
    shutil.copytree(given.set, folder, dirs_exist_ok=True)
    (folder / "instances.json").write_bytes(draw(texts(small_set.document())))
    return draw(st.just(_reader(draw, ".")) | st.just(_eval(draw, "instances.json", _listed(folder, given))))


def predictions(draw: Draw, folder: Path, given: Material) -> list[str]:
    (folder / "truth.json").write_text(json.dumps(small_set.document()))
    (folder / "results.json").write_bytes(draw(texts(given.predictions)))
    return _eval(draw, "truth.json", "results.json")


def formats(draw: Draw, folder: Path, given: Material) -> list[str]:
    """A file of another format with some bytes changed: pictures of labels, text files, YAML."""
    shutil.copytree(given.converted(draw(st.sampled_from(writable()))), folder, dirs_exist_ok=True)
    _damage_one(draw, folder)
    return _reader(draw, ".")


def archives(draw: Draw, folder: Path, given: Material) -> list[str]:
    kind, name = draw(
        st.sampled_from(
            [
                ("zip", "f.zip"),
                ("gztar", "f.tar.gz"),
                ("xztar", "f.tar.xz"),
                ("tar", "f.tar"),
                ("bztar", "f.tar.bz2"),
            ]
        )
    )
    (folder / name).write_bytes(draw(damaged(given.archive(kind).read_bytes())))
    (folder / "instances.json").write_text(json.dumps(small_set.document()))
    return ["data", draw(st.sampled_from(["check", "preview"])), "instances.json", "--frames", name, *_out()]


def images(draw: Draw, folder: Path, given: Material) -> list[str]:
    for i in range(2):
        suffix = draw(st.sampled_from([".png", ".jpg", ".tiff", ".webp", ".bmp", ".ppm", ".gif"]))
        wrong = draw(st.sampled_from([suffix, suffix, ".png", ".jpg"]))
        (folder / f"{i}{wrong}").write_bytes(draw(damaged(given.image(suffix))))
    return _track(draw, given, str(folder))


def videos(draw: Draw, folder: Path, given: Material) -> list[str]:
    name, codec = draw(st.sampled_from(sorted(VIDEOS.items())))
    (folder / name).write_bytes(draw(damaged(given.video(name, codec))))
    return _track(draw, given, name)


def models(draw: Draw, folder: Path, given: Material) -> list[str]:
    shutil.copytree(given.model, folder / "model")
    _damage(
        draw, folder / "model" / draw(st.sampled_from(["config.json", "config.json", "model.safetensors"]))
    )
    frames = str(given.data / "frames" / "0")
    return ["track", frames, "--model", "model", "--out", "out", "--save", "csv", "--device", "cpu"]


def exported(draw: Draw, folder: Path, given: Material) -> list[str]:
    """With checksums that agree, as from somebody who knows how."""
    shutil.copytree(given.exported, folder / "model")
    name = draw(st.sampled_from(["manifest.json", "config.json", "frame.onnx", "masks.onnx"]))
    _damage(draw, folder / "model" / name)
    if name != "manifest.json":
        manifest = json.loads((folder / "model" / "manifest.json").read_text())
        manifest["files"][name] = checksum(folder / "model" / name)
        (folder / "model" / "manifest.json").write_text(json.dumps(manifest))
    frames = str(given.data / "frames" / "0")
    return ["track", frames, "--model", "model", "--out", "out", "--save", "csv", "--end", "2"]


def runs(draw: Draw, folder: Path, given: Material) -> list[str]:
    shutil.copytree(given.run, folder / "run")
    newest = folder / "run" / "checkpoints" / "step-00000004"
    names = ["recipe.yaml", "metrics.jsonl", "environment.json"]
    files = [*(folder / "run" / name for name in names), *newest.iterdir()]
    file = draw(st.sampled_from(sorted(files)))
    _damage(draw, file)
    manifest = newest / "manifest.json"
    if file.parent == newest and file != manifest and draw(st.booleans()):
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {file.name: checksum(file)}))
    if draw(st.booleans()):
        return ["train", "--page", "run"]
    return ["train", "run/recipe.yaml", "--resume", "--out", "run", "--device", "cpu", "--set", "run.steps=6"]


def results(draw: Draw, folder: Path, given: Material) -> list[str]:
    shutil.copytree(given.results, folder / "out")
    _damage_one(draw, folder / "out")
    words = ["--frames", str(given.data / "frames"), "--model", str(given.model), "--device", "cpu"]
    return ["predict", str(given.data / "instances.json"), "--out", "out", *words]


def recipes(draw: Draw, folder: Path, given: Material) -> list[str]:
    recipe = yaml.safe_load((given.run / "recipe.yaml").read_text())
    try:
        text = yaml.safe_dump(draw(documents(recipe)), allow_unicode=draw(st.booleans())).encode(
            "utf-8", "surrogatepass"
        )
    except (ValueError, RecursionError, yaml.YAMLError):
        text = yaml.safe_dump(recipe).encode()
    (folder / "recipe.yaml").write_bytes(draw(damaged(text)) if draw(st.integers(0, 4)) == 0 else text)
    return [
        "train",
        "recipe.yaml",
        *draw(st.sampled_from([["--show"], ["--show"], ["--out", "run", "--device", "cpu"]])),
    ]


def words(draw: Draw, folder: Path, given: Material) -> list[str]:
    """Odd values of options."""
    word = draw(ODD_TEXTS | ODD_NUMBERS.map(str) | st.text(max_size=8)).replace("\0", "")
    frames, model = str(given.data / "frames" / "0"), str(given.model)
    track = ["track", frames, "--model", model, "--out", "out", "--save", "csv", "--device", "cpu"]
    options = [
        "--start",
        "--end",
        "--every",
        "--classes",
        "--score",
        "--delay",
        "--save",
        "--device",
        "--model",
        "--out",
    ]
    commands = [
        *([*track, option, word] for option in options),
        ["track", word, *track[2:]],
        ["data", "check", word],
        ["data", "check", str(given.set), "--split", word],
        ["data", "check", str(given.set), "--frames", word],
        ["data", "convert", str(given.set), "--to", word, "--out", "out"],
        ["data", "synth", "--videos", "1", "--out", "out", "--set", "frames=2", "--set", word],
        ["data", "synth", "--videos", "1", "--out", "out", "--set", "frames=2", "--preset", word],
        ["data", "synth", "--videos", "1", "--out", "out", "--set", "frames=2", "--seed", word],
        ["train", word, "--show"],
        ["train", "nano", "--show", "--set", word],
        ["train", "nano", "--show", "--set", f"run.seed={word}"],
        ["train", "nano", "--show", "--data", word],
        ["eval", "--gt", str(given.set), "--pred", word],
        ["predict", word, "--model", model, "--out", "out"],
        ["label", word, "--model", model, "--out", "out"],
        ["label", str(given.data / "frames"), "--model", model, "--out", "out", "--score-of", word],
        ["export", model, "out", "--size", word],
        ["models", word],
        [word],
    ]
    return list(draw(st.sampled_from(commands)))


_ALL = (
    annotations,
    predictions,
    formats,
    archives,
    images,
    videos,
    models,
    exported,
    runs,
    results,
    recipes,
    words,
)
TARGETS: dict[str, Target] = {target.__name__: target for target in _ALL}


def _reader(draw: Draw, data: str) -> list[str]:
    verb, *options = draw(st.sampled_from(READERS)).split()
    if verb == "convert":
        options = ["--to", draw(st.sampled_from(writable()))]
    return ["data", verb, data, *options, *(_out() if verb in ("convert", "preview") else [])]


def _out() -> list[str]:
    return ["--out", "out"]


def _eval(draw: Draw, truth: str, results: str) -> list[str]:
    options = [
        "--lenient",
        "--official-quirks",
        "--class-agnostic",
        "--json",
        "--report report.html",
        "--min-score 0",
    ]
    chosen = draw(st.lists(st.sampled_from(options), max_size=3, unique=True))
    return ["eval", "--gt", truth, "--pred", results, *" ".join(chosen).split()]


def _listed(folder: Path, given: Material) -> str:
    (folder / "results.json").write_text(json.dumps(given.predictions))
    return "results.json"


def _track(draw: Draw, given: Material, source: str) -> list[str]:
    save = ",".join(draw(st.lists(st.sampled_from(sorted(SINKS)), min_size=1, max_size=3, unique=True)))
    where = draw(
        st.sampled_from([[], [], ["--start", "3"], ["--start", "0.2s", "--every", "2"], ["--end", "2"]])
    )
    return [
        "track",
        source,
        "--model",
        str(given.model),
        "--out",
        "out",
        "--save",
        save,
        "--device",
        "cpu",
        *where,
    ]


def _damage_one(draw: Draw, folder: Path) -> None:
    _damage(draw, draw(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file()))))


def _damage(draw: Draw, path: Path) -> None:
    content = path.read_bytes()
    if path.suffix == ".json" and draw(st.integers(0, 3)):
        path.write_bytes(draw(texts(json.loads(content))))
    elif path.suffix == ".jsonl" and draw(st.integers(0, 3)):
        lines = content.splitlines()
        place = draw(st.integers(0, len(lines) - 1))
        lines[place] = draw(texts(json.loads(lines[place])))
        path.write_bytes(b"\n".join(lines) + b"\n")
    else:
        path.write_bytes(draw(damaged(content)))
