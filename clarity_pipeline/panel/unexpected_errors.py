"""What becomes of an error that nobody expected: a page without detail, and where it happened."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)


class UnexpectedErrors:
    """ASGI middleware inside the security headers.

    Starlette's own handler answers outside of them, and then raises the error again, for the
    server to log with its text, which may quote a token. Here the log has the places alone.
    """

    def __init__(self, app: ASGIApp, *, tell: Callable[[Request, Exception], Response]) -> None:
        self._app = app
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def send_and_see(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_and_see)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            places = " < ".join(
                f"{frame.filename}:{frame.lineno}"
                for frame in reversed(traceback.extract_tb(error.__traceback__))
            )
            _log.error(
                "%s at %s %s in %s", type(error).__name__, scope["method"], scope["path"], places
            )
            if has_started:
                # Half an answer cannot be taken back; the server closes the connection.
                raise RuntimeError("An answer broke off; the line before says where.") from None
            await self._tell(Request(scope), error)(scope, receive, send)
