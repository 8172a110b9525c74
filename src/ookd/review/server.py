"""The review page over HTTP, for one person on this machine.

The server listens only on 127.0.0.1. Requests name videos and frames by number, never by path. A page of
another site can neither read answers nor make edits: the host must match, and edits need a header that
browsers let no other site send.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from ookd.data.formats.edits import parse_edit
from ookd.errors import UserError, printable
from ookd.review.labels import ReviewedLabels
from ookd.untrusted import whole_number

ADDRESS = "127.0.0.1"
HEADER = "X-Ookd-Review"  # only the page itself can send it
LARGEST = 1 << 16  # bytes of an edit
IDLE_SECONDS = 300  # after which a silent connection is closed
PAGE = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
SAFETY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_VIDEO = re.compile(r"/api/videos/(\d{1,15})(?:/(images|masks)/(\d{1,9}))?")


def make_server(labels: ReviewedLabels, port: int) -> ReviewServer:
    """A server that is ready to run; port 0 takes a free one."""

    class Handler(ReviewHandler):
        reviewed = labels

    try:
        return ReviewServer((ADDRESS, port), Handler)
    except OSError as error:
        raise UserError(
            f"port {port} cannot be used: {error.strerror or error}; name another with --port"
        ) from None


class ReviewServer(ThreadingHTTPServer):
    """A thread for each connection."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that is closed while it loads is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ReviewHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    timeout = IDLE_SECONDS
    reviewed: ReviewedLabels
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ookd", ""

    def do_GET(self) -> None:
        if not self._from_here():
            return
        try:
            self._get(self.path.partition("?")[0])
        except UserError as error:
            self._refuse(404, str(error))

    def do_POST(self) -> None:
        if not self._from_here():
            return
        length = self.headers.get("Content-Length", "")
        if (size := whole_number(length)) is None or size > LARGEST:
            self.close_connection = True
            return self._refuse(413, f"an edit has at most {LARGEST} bytes")
        body = self.rfile.read(size)
        if self.path != "/api/edits" or self.headers.get(HEADER) is None:
            return self._refuse(403, "edits are made on the review page only")
        try:
            self._edit(body)
        except RecursionError:
            self._refuse(400, "is nested too deeply")
        except (UserError, ValueError) as error:
            self._refuse(400, str(error))

    def _get(self, path: str) -> None:
        if path in PAGE:
            name, kind = PAGE[path]
            return self._send(200, page_file(name), f"{kind}; charset=utf-8")
        if path == "/favicon.ico":
            return self._send(204, b"", "image/x-icon")
        if path == "/api/labels":
            return self._send_json(self.reviewed.overview())
        match = _VIDEO.fullmatch(path)
        if match is None:
            raise UserError("there is no such page")
        video, what, frame = int(match[1]), match[2], int(match[3] or 0)
        if what is None:
            self._send_json(self.reviewed.video(video))
        elif what == "masks":
            self._send_json(self.reviewed.masks(video, frame))
        else:
            self._send(200, self.reviewed.image(video, frame), "image/jpeg")

    def _edit(self, body: bytes) -> None:
        """Make the edit of a request. The server chooses ids of new tracks."""
        fields = json.loads(body)
        if isinstance(fields, dict) and fields.get("op") == "cut":
            fields["new"] = self.reviewed.free_id()
        edit = parse_edit(json.dumps(fields))
        self.reviewed.edit(edit)
        self._send_json(self.reviewed.video(edit.video))

    def _from_here(self) -> bool:
        """Whether the request names this server: another site's name may resolve to this machine."""
        assert isinstance(self.server, ThreadingHTTPServer)
        port = self.server.server_port
        if self.headers.get("Host") in (f"{ADDRESS}:{port}", f"localhost:{port}"):
            return True
        self.close_connection = True
        self._refuse(403, f"this page is at http://{ADDRESS}:{port}")
        return False

    def _send_json(self, answer: Any) -> None:
        self._send(200, json.dumps(answer).encode(), "application/json")

    def _refuse(self, status: int, why: str) -> None:
        self._send(status, json.dumps({"error": printable(why)}).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **SAFETY}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests."""


@cache
def page_file(name: str) -> bytes:
    """A file of the page, which comes with the package."""
    return (files("ookd.review") / name).read_bytes()
