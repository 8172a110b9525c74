"""`ookd weights`: published weights to model folders."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from ookd.cli.standard import say
from ookd.errors import UserError
from ookd.untrusted import read_text

app = typer.Typer(no_args_is_help=True, help="Convert published weights.")


@app.callback()
def _root() -> None: ...


@app.command()
def convert(
    source: str = typer.Argument(
        help="A file: IDOL or SeqFormer (VNext or original), or a ResNet-50/101 or Swin of ImageNet. "
        "Or a hub id, a short name of `ookd models`, or a folder that transformers wrote."
    ),
    out: Path = typer.Argument(help="Folder to write: config.json and model.safetensors."),
    names: str = typer.Option(
        "", help="The classes: ytvis19, ytvis21, ovis, or a text file with one name per line."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a model that is already there."),
    as_json: bool = typer.Option(False, "--json", help="Print the answer as JSON."),
) -> None:
    """Convert SOURCE to the model folder OUT. A ResNet or Swin becomes a backbone to start training from.

    The folder of a hub model is complete: it works without the hub and keeps the licence.
    """
    from ookd.models.hub import hub_id

    if Path(source).is_dir() or (not Path(source).exists() and hub_id(source)):
        answer = _from_hub(source, out, names, overwrite)
    else:
        answer = _from_file(Path(source), out, names, overwrite)
    if as_json:
        print(json.dumps(answer | {"out": str(out)}))
    else:
        say(f"{out}: " + ", ".join(f"{what} {value}" for what, value in answer.items()))


def _from_hub(source: str, out: Path, names: str, overwrite: bool) -> dict[str, Any]:
    """Copy a model of the hub, or of a folder, into a folder of our own."""
    from ookd.models import zoo

    saved = zoo.load(source, names=_named(names) if names else None)
    zoo.save_pretrained(
        saved.model,
        out,
        saved.names,
        saved.tracker,
        trained_on=saved.trained_on,
        licence=saved.licence,
        source=saved.source,
        overwrite=overwrite,
    )
    config = saved.model.config
    return {"kind": config.family, "classes": config.classes, "licence": saved.licence}


def _from_file(file: Path, out: Path, names: str, overwrite: bool) -> dict[str, Any]:
    """Convert a file of a training program."""
    from ookd.models import convert, zoo
    from ookd.models.families import family_of
    from ookd.models.upstream import from_upstream

    state = convert.read_checkpoint(file)
    try:
        ours = from_upstream(state)
        if convert.is_backbone(ours):
            backbone = convert.to_backbone(ours)
            zoo.write_folder(out, ours, {"backbone": backbone.model_dump()}, overwrite=overwrite)
            return {"kind": backbone.kind, "weights": len(ours)}
        model = convert.to_model(ours)
        config = model.config
        labels = _labels(names, config.classes)
        tracker = family_of(model).published_constants(labels)
        zoo.save_pretrained(model, out, labels, tracker, overwrite=overwrite)
        return {"kind": config.family, "classes": config.classes, "weights": len(ours)}
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _labels(names: str, classes: int) -> list[str]:
    """The class names."""
    from ookd.models.label_sets import LABEL_SETS

    fitting = [known for known, labels in LABEL_SETS.items() if len(labels) == classes]
    if not names and len(fitting) == 1:
        names = fitting[0]
    if not names:
        known = f", {', '.join(fitting)}" if fitting else ""
        print(f"the {classes} classes are numbered; name them with --names{known}", file=sys.stderr)
        return [f"class {label}" for label in range(classes)]
    labels = _named(names)
    if len(labels) != classes:
        raise UserError(f"--names {names}: {len(labels)} names for {classes} classes")
    return labels


def _named(names: str) -> list[str]:
    """The class names that the option selects: those of a benchmark, or the lines of a file."""
    from ookd.models.label_sets import LABEL_SETS

    if names in LABEL_SETS:
        return LABEL_SETS[names]
    try:
        lines = read_text(Path(names)).splitlines()
    except UserError as error:
        known = ", ".join(LABEL_SETS)
        raise UserError(f"--names {names}: neither one of {known} nor a text file: {error}") from error
    return [line.strip() for line in lines if line.strip()]
