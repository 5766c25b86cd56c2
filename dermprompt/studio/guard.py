"""Access control: checks of addresses, token, sizes and times before a request's body is read.

The page loads nothing from other sites, and other sites cannot use it: Host and Origin are compared with the studio's
address, which stops scripts of other sites and DNS rebinding.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dermprompt.studio.asked import MAX_BODY_BYTES, MAX_IMAGE_BYTES

COOKIE = "dermprompt-studio"
BODY_SECONDS = 30.0
MOST_HEADERS = 100
# Paths whose request bodies are images.
_UPLOADS = ("/api/v1/masks", "/api/v1/segments")

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware.

    Args:
        app: the application to protect.
        hosts: the allowed values of ``Host``; None for any, which requires a token.
        token: the client's secret, given once in the URL, then in a cookie, or as a bearer token.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, token: str | None = None) -> None:
        assert hosts or token, "anyone could ask"
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on with a limited body and add security headers to the response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, sealed)
        else:
            await self.app(scope, _capped(scope, receive), sealed)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if self.hosts is not None and host not in self.hosts:
            return _refuse(421, "this is not the address that the studio listens at")
        if origin is not None and origin.lower() != f"http://{host}":
            return _refuse(403, "another site asked; the studio answers its own page alone")
        # Any site may link to the page itself.
        if scope["path"] != "/" and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _refuse(403, "another site asked; the studio answers its own page alone")
        if len(headers) > MOST_HEADERS:
            return _refuse(431, f"more than {MOST_HEADERS} headers")
        if len(headers.getlist("content-length")) > 1 or not headers.get("content-length", "0").isdecimal():
            return _refuse(400, "the request's length makes no sense")
        if int(headers.get("content-length", "0")) > _limit(scope["path"]):
            return _refuse(413, _too_large(scope["path"]))
        return None if self.token is None else self._without_token(scope, headers)

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """None for a client with the token; a first visit with the token in the URL gets the cookie."""
        assert self.token is not None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._is_token(given):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", max_age=86400)
            return answer
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if self._is_token(bearer) or self._is_token(_cookie(headers.get("cookie", ""))):
            return None
        return _refuse(401, "the token is missing; open the address that was printed when the studio started")

    def _is_token(self, given: str) -> bool:
        assert self.token is not None
        return secrets.compare_digest(given.encode(), self.token.encode())


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _capped(scope: Scope, receive: Receive) -> Receive:
    """``receive`` with limits on the size and duration of bodies."""
    most, deadline = _limit(scope["path"]), time.monotonic() + BODY_SECONDS
    read, whole = 0, False

    async def capped() -> Message:
        nonlocal read, whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise HTTPException(408, f"the request's body took more than {BODY_SECONDS:.0f} seconds") from None
        read += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if read > most:
            raise HTTPException(413, _too_large(scope["path"]))
        return message

    return capped


def _limit(path: str) -> int:
    return MAX_IMAGE_BYTES if path in _UPLOADS else MAX_BODY_BYTES


def _too_large(path: str) -> str:
    return f"more than {_limit(path) / 2**20:.3g} MB, which is too large"


def _refuse(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status, {"Connection": "close"})
