"""`ookd review`: a local page to review and correct labels."""

from __future__ import annotations

import json
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None)


@app.command()
def review(
    labels: Annotated[Path, typer.Argument(help="A folder of `ookd label`, or any JSON annotations.")],
    split: Annotated[str | None, typer.Option(help="Which split, if there are several.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes a free one.")] = 8140,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The address as JSON.")] = False,
) -> None:
    """Review LABELS in a browser: play videos, and drop, rename, join, cut or confirm tracks.

    The least certain tracks are listed first. Every edit is a line in a log next to the annotations, which
    stay unchanged. Every command that reads the labels applies the log. Only this machine can reach the page.
    Ctrl-C stops it.
    """
    from ookd.review.labels import ReviewedLabels
    from ookd.review.server import ADDRESS, make_server

    reviewed = ReviewedLabels(labels, split)
    with make_server(reviewed, port) as server:
        address = f"http://{ADDRESS}:{server.server_address[1]}/"
        if as_json:
            sys.stdout.write(json.dumps({"address": address, "log": str(reviewed.log)}) + "\n")
        else:
            print(f"{address}  (edits go to {reviewed.log}; Ctrl-C ends)")
        sys.stdout.flush()
        if browser:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
