"""`ookd serve`: a page and an HTTP API for live and recorded video."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import orjson
import typer

from ookd.errors import UserError

app = typer.Typer(rich_markup_mode=None)

TOKEN = "OOKD_TOKEN"  # environment variable


@app.command()
def serve(
    model: list[str] = typer.Option(
        ["nano"], help="A model's name, folder or hub id. Repeat it to offer several models."
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; 0.0.0.0 is all interfaces."),
    port: int = typer.Option(8000, min=0, max=65535, help="Port to listen on; 0 takes a free one."),
    token: str | None = typer.Option(
        None, help=f"Token that clients need with another --host. Default: {TOKEN}, or a random one."
    ),
    streams: int = typer.Option(8, min=1, max=256, help="Most live streams at a time."),
    max_upload: float = typer.Option(2048, min=0.001, help="Largest upload, in megabytes."),
    max_seconds: float = typer.Option(600, min=1, help="Longest upload, in seconds."),
    device: str = typer.Option("auto", help="Where models run: auto, cpu, cuda, cuda:1, mps."),
    as_json: bool = typer.Option(False, "--json", help="The address as JSON on standard output."),
) -> None:
    """Follow objects in a browser: drop a video or pick the camera. Programs use the API at /docs.

    Listens on this machine only, unless --host says otherwise; then clients need a token. Camera streams
    share one model in batches. Ctrl-C or SIGTERM stops the server, which deletes all uploads.
    """
    try:
        from ookd.serve.app import make_app
        from ookd.serve.listen import bound, listen
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install 'ookd[serve]'") from None
    from ookd.api import load
    from ookd.serve.guard import LOOPBACK
    from ookd.serve.rules import ServeRules

    token = token or os.environ.get(TOKEN) or None
    if host not in LOOPBACK and token is None:
        token = secrets.token_urlsafe(16)
    models = {Path(named).name if Path(named).is_dir() else named: named for named in model}
    rules = ServeRules(streams=streams, upload_bytes=int(max_upload * 1e6), seconds=max_seconds)
    with bound(host, port) as listening:
        trackers = {name: load(named, device) for name, named in models.items()}
        for tracker in trackers.values():
            tracker.online()  # or an error
        shown = "localhost" if host in (*LOOPBACK, "0.0.0.0", "::") else host
        address = f"http://{shown}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")
        if as_json:
            print(orjson.dumps({"address": address, "models": list(models)}).decode(), flush=True)
        else:
            print(f"{address}  ({', '.join(models)}; Ctrl-C stops)", flush=True)
        listen(make_app(trackers, rules, token), listening)
    print("stopped", file=sys.stderr)
