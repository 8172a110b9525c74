"""Listen until SIGINT or SIGTERM, with limits on connections."""

from __future__ import annotations

import signal
import socket

import uvicorn
from starlette.types import ASGIApp

from ookd.errors import UserError
from ookd.serve.connections import PatientHttp, PatientWebSocket
from ookd.serve.rules import FRAME_BYTES

CONNECTIONS = 300  # at a time; more are refused
STOP_SECONDS = 5  # for current requests to finish at the end
PING_SECONDS = 20.0


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise UserError(
            f"{host}:{port}: cannot listen there: {getattr(error, 'strerror', None) or error}"
        ) from None
    return listening


def server_of(app: ASGIApp) -> uvicorn.Server:
    """A server with all its limits, not yet running."""
    config = uvicorn.Config(
        app,
        http=PatientHttp,
        ws=PatientWebSocket,
        ws_max_size=FRAME_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
        log_level="warning",
        server_header=False,
    )
    return uvicorn.Server(config)


def listen(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, then return."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [
        signal.signal(number, signal.SIG_IGN) for number in numbers
    ]  # uvicorn raises them again when it ends
    try:
        server_of(app).run([listening])
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
