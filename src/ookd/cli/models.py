"""`ookd models`: the names that work wherever a command takes a model, and models that only label."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import orjson
import typer

app = typer.Typer(rich_markup_mode=None)


@app.command()
def models(
    as_json: bool = typer.Option(False, "--json", help="The list as JSON on standard output."),
) -> None:
    """List the model names that `--model` takes: bundled models, and models of the Hugging Face hub.

    Below are models that only label, for `ookd label --teacher` and `--follow`. Other hub ids of a listed
    family work too, and so do model folders. Scores are the authors' own.
    """
    known, labelling = [*_bundled(), *_on_hub()], _that_label()
    if as_json:
        print(orjson.dumps([*known, *labelling], option=orjson.OPT_INDENT_2).decode())
        return
    from ookd.models.licence import described

    rows = [("name", "classes", "size", "score", "licence", "on disk")]
    for model in known:
        classes = f"{model['classes']} {model['labels']}".strip()
        facts = _size(model), model["score"], described(model["licence"]), _here(model)
        rows.append((model["name"], classes, *facts))
    _print(rows)
    print("\nhub ids of the short names:")
    short = [model for model in known if model["id"] and model["id"] != model["name"]]
    _print([(f"  {model['name']}", model["id"]) for model in short])
    print("\nfor `ookd label`:")
    table = [(m["name"], m["use"], _size(m), described(m["licence"]), _here(m)) for m in labelling]
    _print([("name", "use", "size", "licence", "on disk"), *table])


def _size(model: dict[str, Any]) -> str:
    return f"{model['parameters'] / 1e6:.0f} M"


def _here(model: dict[str, Any]) -> str:
    return "yes" if model["on_disk"] else "no"


def _print(rows: Sequence[Sequence[str]]) -> None:
    """In columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _bundled() -> list[dict[str, Any]]:
    from safetensors import safe_open

    from ookd.models import zoo

    found = []
    for name in zoo.bundled():
        config = zoo.config_of(name)
        with safe_open(zoo.BUNDLED / name / zoo.WEIGHTS, "numpy") as weights:
            shapes = [weights.get_slice(key).get_shape() for key in weights.keys()]  # noqa: SIM118 - no mapping
        found.append(
            {
                "name": name,
                "id": "",
                "family": config.family,
                "labels": "synthetic",
                "classes": config.classes,
                "parameters": sum(map(prod, shapes)),
                "licence": "apache-2.0",
                "score": "",
                "use": "",
                "on_disk": True,
            }
        )
    return found


def _on_hub() -> list[dict[str, Any]]:
    from ookd.models.catalogue import CATALOGUE
    from ookd.models.hub import downloaded

    return [
        {
            "name": model.alias or model.id,
            "id": model.id,
            "family": model.family,
            "labels": model.labels,
            "classes": model.classes,
            "parameters": int(model.millions * 1e6),
            "licence": model.licence,
            "score": model.score,
            "use": "",
            "on_disk": downloaded(model.id),
        }
        for model in CATALOGUE
    ]


def _that_label() -> list[dict[str, Any]]:
    from ookd.models.catalogue import LABEL_MODELS
    from ookd.models.hub import downloaded

    return [
        {
            "name": model.id,
            "id": model.id,
            "family": "",
            "labels": "",
            "classes": 0,
            "parameters": int(model.millions * 1e6),
            "licence": model.licence,
            "score": "",
            "use": model.use,
            "on_disk": downloaded(model.id),
        }
        for model in LABEL_MODELS
    ]
