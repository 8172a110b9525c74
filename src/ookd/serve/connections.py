"""Connections that are dropped when the client neither sends nor reads."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ookd.serve.rules import WAIT_SECONDS

HEAD_SECONDS = 10.0  # within which the head of a request must arrive


class _Patience:
    """Aborts a connection whose client stops reading: its answer would stay in memory forever."""

    transport: Any
    _stuck: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._stuck = asyncio.get_running_loop().call_later(WAIT_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
        super().resume_writing()  # type: ignore[misc]


class PatientHttp(_Patience, H11Protocol):
    """HTTP, with a time limit for the head of a request."""

    _silent: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        """Start or stop the wait for a request."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self._silent is not None:
                self._silent.cancel()
                self._silent = None
        elif self._silent is None:
            self._silent = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._silent = None
        if self.transport.get_protocol() is self and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()


class PatientWebSocket(_Patience, WebSocketsSansIOProtocol):
    """WebSocket; pings detect lost clients."""
