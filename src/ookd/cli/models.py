"""`ookd models`: the names that work wherever a command takes a model."""

from __future__ import annotations

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

    Other hub ids of a listed family work too, and so do model folders. Scores are the authors' own.
    """
    known = [*_bundled(), *_on_hub()]
    if as_json:
        print(orjson.dumps(known, option=orjson.OPT_INDENT_2).decode())
        return
    from ookd.models.licence import described

    rows = [("name", "classes", "size", "score", "licence", "on disk")]
    for model in known:
        classes = f"{model['classes']} {model['labels']}".strip()
        size = f"{model['parameters'] / 1e6:.0f} M"
        here = "yes" if model["on_disk"] else "no"
        rows.append((model["name"], classes, size, model["score"], described(model["licence"]), here))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print("\nhub ids of the short names:")
    for model in known:
        if model["id"] and model["id"] != model["name"]:
            print(f"  {model['name'].ljust(widths[0])}  {model['id']}")


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
            "on_disk": downloaded(model.id),
        }
        for model in CATALOGUE
    ]
