"""`ookd weights`: published weight files to model folders."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from ookd.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Convert published weights.")


@app.callback()
def _root() -> None: ...


@app.command()
def convert(
    file: Path = typer.Argument(
        help="IDOL or SeqFormer (VNext or original), or a ResNet-50/101 or Swin of ImageNet."
    ),
    out: Path = typer.Argument(help="Folder to write: config.json and model.safetensors."),
    names: str = typer.Option(
        "", help="The classes: ytvis19, ytvis21, ovis, or a text file with one name a line."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a model that is already there."),
    as_json: bool = typer.Option(False, "--json", help="Print the answer as JSON."),
) -> None:
    """Convert FILE to the model folder OUT. From a ResNet or Swin it is a folder to start training from."""
    from ookd.models import convert, zoo
    from ookd.models.families import family_of
    from ookd.models.label_sets import LABEL_SETS
    from ookd.models.upstream import from_upstream

    state = convert.read_checkpoint(file)
    try:
        ours = from_upstream(state)
        if convert.is_backbone(ours):
            backbone = convert.to_backbone(ours)
            zoo.write_folder(out, ours, {"backbone": backbone.model_dump()}, overwrite=overwrite)
            answer: dict[str, Any] = {"kind": backbone.kind, "weights": len(ours)}
        else:
            model = convert.to_model(ours)
            config = model.config
            labels = _labels(names, config.classes)
            benchmark = next((name for name, known in LABEL_SETS.items() if known == labels), "")
            published = family_of(model).tracker_variants.get(benchmark)
            tracker = {} if published is None else published.model_dump(exclude_unset=True)
            zoo.save_pretrained(model, out, labels, tracker, overwrite=overwrite)
            answer = {"kind": config.family, "classes": config.classes, "weights": len(ours)}
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    if as_json:
        print(json.dumps(answer | {"out": str(out)}))
    else:
        print(f"{out}: " + ", ".join(f"{what} {value}" for what, value in answer.items()))


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
    if names in LABEL_SETS:
        labels = LABEL_SETS[names]
    else:
        try:
            lines = Path(names).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            known = ", ".join(LABEL_SETS)
            raise UserError(f"--names {names}: neither one of {known} nor a text file: {error}") from error
        labels = [line.strip() for line in lines if line.strip()]
    if len(labels) != classes:
        raise UserError(f"--names {names}: {len(labels)} names for {classes} classes")
    return labels
