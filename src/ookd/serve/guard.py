"""Access control: every request passes here first."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "ookd_token"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN = ("/healthz",)  # for monitors that restart an unhealthy server
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Admits requests with the token; without a token, requests addressed to this machine.

    A page of another site can make a browser send requests here. Its `Origin` or `Host` reveals it.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        headers = Headers(scope=scope)
        status, fault = self._fault(scope, headers)
        if fault is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": fault})
        elif status == 303:
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self._token or "", httponly=True, samesite="strict")
            await answer(scope, receive, send)
        else:
            await PlainTextResponse(fault + "\n", status)(scope, receive, send)

    def _fault(self, scope: Scope, headers: Headers) -> tuple[int, str | None]:
        """The status and the reason to refuse a request; no reason if it is admitted."""
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
            origin = urlsplit(headers.get("origin", f"//{host}")).netloc
        except ValueError:
            return 400, "the address is malformed"
        if self._token is None and name not in LOOPBACK:
            return 421, "this server answers requests to localhost only"
        if origin != host and (scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")):
            return 403, "requests from pages of other sites are refused"
        if self._token is None or scope["path"] in OPEN:
            return 200, None
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._right(asked):
            return 303, "the token is now in a cookie"
        given = headers.get("authorization", "").removeprefix("Bearer ") or _cookie(headers)
        if self._right(given):
            return 200, None
        return 401, "a token is needed: open the address that `ookd serve` printed, or send it as Bearer"

    def _right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), (self._token or "").encode())


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
