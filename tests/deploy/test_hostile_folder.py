"""Exported folders whose manifest or configuration says something else than was exported."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bounded import device
from deploy.exported import SIZE, exported, images
from ookd.deploy.folder import Kind
from ookd.deploy.runtime import load_exported
from ookd.errors import UserError
from ookd.files import checksum

Change = Callable[[dict[str, Any]], object]

MANIFESTS: dict[str, tuple[Change, str]] = {
    "no files": (lambda m: m.update(files={}), "has no checksum of config.json"),
    "a graph left out": (lambda m: m["files"].pop("frame.onnx"), "has no checksum of frame.onnx"),
    "nothing shared": (lambda m: m.update(shared=[]), "does not describe its graphs"),
    "something else shared": (lambda m: m.update(shared=["logits"]), "does not describe its graphs"),
    "an output too many": (lambda m: m["outputs"].append("boxes"), "does not describe its graphs"),
    "an output missing": (lambda m: m["outputs"].remove("embed"), "outputs lack embed"),
    "a size of zero": (lambda m: m.update(size=[0, 96]), "size.0"),
    "a huge size": (lambda m: m.update(size=[10**9, 10**9]), "size.0"),
    "a file elsewhere": (lambda m: m["files"].update({"../x": "0"}), "files"),
    "an absolute file": (lambda m: m["files"].update({"/etc/passwd": "0"}), "files"),
    "files as a list": (lambda m: m.update(files=["frame.onnx"]), "files"),
    "a kind unknown": (lambda m: m.update(kind="tflite"), "kind"),
    "a field unknown": (lambda m: m.update(run="rm"), "run"),
    "no fields": (lambda m: m.clear(), "Field required"),
    "deep": (lambda m: m.update(outputs=json.loads("[" * 500 + "]" * 500)), "outputs"),
}


def copy(tmp_path: Path, kind: Kind = "onnx") -> Path:
    return Path(shutil.copytree(exported(kind), tmp_path / "copy"))


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_not_believed(name: str, tmp_path: Path) -> None:
    change, says = MANIFESTS[name]
    path = copy(tmp_path) / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=says) as caught:
        load_exported(path.parent)
    assert "\n" not in str(caught.value)


def test_a_graph_that_the_manifest_does_not_name_is_not_opened(tmp_path: Path) -> None:
    folder = copy(tmp_path, "openvino")
    shutil.copy(folder / "frame.xml", folder / "dense.xml")
    with pytest.raises(UserError, match=r"has no checksum of dense\.xml"):
        load_exported(folder)


@pytest.mark.parametrize("file", ["manifest.json", "config.json", "frame.onnx"])
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero"])
def test_devices_are_no_part_of_a_model(file: str, kind: str, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    (folder / file).unlink()
    device(folder / file, kind)
    with pytest.raises(UserError, match=r"is a pipe or a device|not a model|neither a folder"):
        load_exported(folder)


CONFIGS: dict[str, tuple[Change, str]] = {
    "names with escape codes": (lambda c: c["names"].__setitem__(0, "\x1b[31m"), "names.0"),
    "names twice": (lambda c: c["names"].__setitem__(0, c["names"][1]), "appears twice"),
    "long names": (lambda c: c["names"].__setitem__(0, "x" * 10**6), "names.0"),
    "names that are lists": (lambda c: c["names"].__setitem__(0, ["cat"]), "names.0"),
    "no names": (lambda c: c.update(names=[]), "names"),
    "family as a number": (lambda c: c["model"].update(family=7), "model.family"),
    "model as a list": (lambda c: c.update(model=[1]), "model"),
    "trained_on as a number": (lambda c: c.update(trained_on=5), "trained_on"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_are_checked(name: str, tmp_path: Path) -> None:
    change, says = CONFIGS[name]
    folder = copy(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["config.json"] = checksum(folder / "config.json")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=says):
        load_exported(folder)


@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_threads_get_the_masks_of_their_own_frame(kind: Kind) -> None:
    model = load_exported(exported(kind))
    select = np.arange(4)[None]
    frames = images()
    alone = [model.infer([image], None)[0].masks(select) for image in frames]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(10):
            for i in range(number % len(frames), len(frames)):
                masks = model.infer([frames[i]], None)[0].masks(select)
                if not np.array_equal(masks, alone[i]):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert wrong == []
    assert model.size == SIZE
