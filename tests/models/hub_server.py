"""A hub on this machine: serves folders as repositories, and refuses in the words of the real one."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "5f3c" * 10


@contextmanager
def serving(repositories: dict[str, Path | int], uploads: Path | None = None) -> Iterator[str]:
    """The address of a hub that has these repositories: a folder, or the status with which it refuses one.

    It takes others into the folder `uploads`.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_POST(self) -> None:
            """Takes uploads into `repositories`, below `uploads`."""
            content = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if uploads is None:
                return self._send(401, b"{}", True, {"X-Error-Code": "RepoNotFound"})
            home = f"http://{self.headers['Host']}"
            name = "/".join(self.path.split("/")[3:5])
            told: dict[str, object] = {"errors": [], "warnings": []}  # of the head of a card
            if self.path.startswith("/api/repos/create"):
                asked = json.loads(content)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                repositories[name] = uploads / name
                (uploads / name).mkdir(parents=True, exist_ok=True)
                told = {"url": f"{home}/{name}"}
            elif "/preupload/" in self.path:
                paths = [file["path"] for file in json.loads(content)["files"]]
                regular = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
                told = {"files": [{"path": path, **regular} for path in paths]}
            elif "/commit/" in self.path:
                for line in map(json.loads, content.splitlines()):
                    if line["key"] == "file":
                        written = base64.b64decode(line["value"]["content"])
                        (uploads / name / line["value"]["path"]).write_bytes(written)
                told = {"commitUrl": f"{home}/{name}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
            return self._send(200, json.dumps(told).encode(), True)

        def _answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            parts = path.removeprefix("/api/models").strip("/").split("/")
            place = repositories.get("/".join(parts[:2]), 404)
            if isinstance(place, int):
                code = {401: "RepoNotFound", 403: "GatedRepo", 404: "RepoNotFound"}[place]
                return self._send(place, b"", body, {"X-Error-Code": code, "X-Error-Message": "refused"})
            files = sorted(file.name for file in place.iterdir())
            if "/tree/" in path:
                listed = [{"type": "file", "path": name, **_blob(place / name)} for name in files]
                return self._send(200, json.dumps(listed).encode(), body)
            if path.startswith("/api/"):
                info = {
                    "id": "/".join(parts[:2]),
                    "sha": COMMIT,
                    "siblings": [{"rfilename": n} for n in files],
                }
                return self._send(200, json.dumps(info).encode(), body)
            file = place / parts[-1]
            if not file.is_file():
                return self._send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
            etag = {"ETag": f'"{_blob(file)["oid"]}"', "X-Repo-Commit": COMMIT}
            return self._send(200, file.read_bytes(), body, etag)

        def _send(
            self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _blob(file: Path) -> dict[str, object]:
    content = file.read_bytes()
    return {"oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
