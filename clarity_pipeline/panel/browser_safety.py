"""What every answer tells the browser not to do, and how much a request may send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clarity_pipeline.panel.errors import UnknownHost

MAX_BODY_BYTES: Final = 2 * 1024 * 1024
"""Enough for a thousand connections with their tokens in one file."""


def content_security_policy(frame_ancestors: str) -> str:
    """Everything from here, nothing inline; in frames only of the sites that are named."""
    frames = frame_ancestors or "'none'"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            f"frame-ancestors {frames}",
        )
    )


class BrowserSafety:
    """ASGI middleware that sets the security headers."""

    def __init__(self, app: ASGIApp, *, frame_ancestors: str, is_https: bool) -> None:
        self._app = app
        self._headers = {
            "Content-Security-Policy": content_security_policy(frame_ancestors),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
            "Cross-Origin-Opener-Policy": "same-origin",
        }
        if not frame_ancestors:
            self._headers["X-Frame-Options"] = "DENY"
        if is_https:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                # Pages differ from person to person; files of the application carry their version.
                if not scope["path"].startswith("/static/"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class KnownHosts:
    """ASGI middleware that answers under these names only.

    Starlette decides, and what it would say, which is plain text, is said as every other error.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Sequence[str],
        tell: Callable[[Request, Exception], Response],
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_known = False

        async def go_on(scope: Scope, receive: Receive, _send: Send) -> None:
            nonlocal is_known
            is_known = True
            await self._app(scope, receive, send)

        async def say_nothing(_message: Message) -> None:
            pass

        gate = TrustedHostMiddleware(go_on, allowed_hosts=self._hosts, www_redirect=False)
        await gate(scope, receive, say_nothing)
        if not is_known:
            await self._tell(Request(scope), UnknownHost())(scope, receive, send)


class BodyLimit:
    """ASGI middleware that refuses a larger body, said in advance or sent in pieces.

    FastAPI's own limit answers outside of the security headers, and not as a problem.
    """

    def __init__(self, app: ASGIApp, *, tell: Callable[[Request, Exception], Response]) -> None:
        self._app = app
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "")
        if said.isascii() and said.isdigit() and int(said) > MAX_BODY_BYTES:
            await self._tell(Request(scope), _too_large())(scope, receive, send)
            return
        received = 0

        async def receive_so_much() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise _too_large()
            return message

        await self._app(scope, receive_so_much, send)


def _too_large() -> HTTPException:
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
