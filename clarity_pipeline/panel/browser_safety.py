"""What every answer tells the browser not to do, and how much a request may send."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
