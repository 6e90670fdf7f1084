"""One call to the Export API: an `ExportRequest` goes out, an `Export` or an error comes back.

Nothing is retried here, because every attempt costs one of a project's ten daily calls; whoever
holds the quota ledger decides. The token is in the request's header and nowhere else: not in
messages, not in log lines, and not in an exception's `__cause__` or `__context__`.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, NamedTuple, Self
from urllib.parse import urlsplit

import httpx

from clarity_pipeline.domain.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionBroken,
    ConnectTimedOut,
    ExportError,
    RateLimited,
    ReplyTimedOut,
    ReplyUnreadable,
    RequestRejected,
    ServiceUnavailable,
)
from clarity_pipeline.domain.exports import Export, ExportRequest, ReplySummary, verify
from clarity_pipeline.domain.quota import CALL_TIMEOUT_SECONDS
from clarity_pipeline.settings import check_api_url, is_loopback

if TYPE_CHECKING:
    from types import TracebackType

    from pydantic import SecretStr

ENDPOINT: Final = "project-live-insights"
MAX_REPLY_BYTES: Final = 64 * 1024 * 1024
SMALL_REPLY_BYTES: Final = 4 * 1024 * 1024
"""Up to here a reply waits for nothing; one with blocks at 1,000 rows had 3.9 MB (FACTS 9)."""

LARGE_REPLIES_BYTES: Final = 256 * 1024 * 1024
"""What all replies that have outgrown that may take together, from their first byte until they have
been landed and judged."""

MAX_ERROR_BODY_BYTES: Final = 1024 * 1024
"""Bodies of refusals are read this far; the status alone decides what happens next."""

_logger = logging.getLogger("clarity_pipeline.export_api")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one call may take. `total_seconds` runs from sending to the last byte of the body;
    waiting for a free connection is not counted."""

    connect_seconds: float = 10
    read_seconds: float = 60
    write_seconds: float = 10
    total_seconds: float = CALL_TIMEOUT_SECONDS


class FetchedExport(NamedTuple):
    """A reply that was judged and found to answer its request."""

    export: Export
    summary: ReplySummary


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    content_type: str
    body: bytes = field(repr=False)


def large_replies_at_once(*, large_replies_bytes: int, max_reply_bytes: int) -> int:
    """How many replies may be large at the same time; one always may, or it would wait for ever.

    A reply that outgrows what is small takes leave for the largest size at once. Were it given
    more bit by bit, many could hold a part each of what one of them needs to come to its end.
    """
    return max(1, large_replies_bytes // max_reply_bytes)


class _Room:
    """The memory of one reply, given back at the end of the context."""

    def __init__(self, large_replies: asyncio.Semaphore) -> None:
        self._large_replies = large_replies
        self._is_large = False
        self.was_waited_for = False

    async def grow(self) -> None:
        """Have room for a reply of any size; waits while too many others have."""
        if not self._is_large:
            self.was_waited_for = self._large_replies.locked()
            await self._large_replies.acquire()
            self._is_large = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_large:
            self._large_replies.release()


OnReply = Callable[[Export], Awaitable[None]]


class ExportApiClient:
    """Calls the Export API over one connection pool; use it as an async context manager.

    `base_url` is checked as `CLARITY_API_URL` is: https, or http to this machine. The proxy and
    certificate settings of the environment apply, except that loopback is never sent to a proxy.
    At most `max_connections` calls are under way at once; further ones wait, however long. Replies
    over `small_reply_bytes` take turns, so that together they need no more than
    `large_replies_bytes`, whatever each of them turns out to be; ordinary ones wait for nothing.
    Raises ConfigurationError for an address or an environment that cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str,
        timeouts: Timeouts = Timeouts(),
        max_reply_bytes: int = MAX_REPLY_BYTES,
        small_reply_bytes: int = SMALL_REPLY_BYTES,
        large_replies_bytes: int = LARGE_REPLIES_BYTES,
        max_connections: int = 16,
    ) -> None:
        self._url = _endpoint_url(base_url)
        self._timeouts = timeouts
        self._max_reply_bytes = max_reply_bytes
        self._small_reply_bytes = small_reply_bytes
        self._large_replies = asyncio.Semaphore(
            large_replies_at_once(
                large_replies_bytes=large_replies_bytes, max_reply_bytes=max_reply_bytes
            )
        )
        self._max_connections = max_connections
        self._free_connections = asyncio.Semaphore(max_connections)
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        http = self._open_http()
        if http is None:
            raise ConfigurationError(
                "The proxy or certificate settings of the environment (HTTPS_PROXY, ALL_PROXY, "
                "NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR) cannot be used; correct or unset them."
            )
        self._http = http
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def fetch(
        self,
        request: ExportRequest,
        token: SecretStr,
        *,
        clock: Callable[[], datetime],
        on_reply: OnReply | None = None,
    ) -> FetchedExport:
        """Make one call and judge the reply.

        `on_reply` is awaited with the verbatim reply before anything parses it, for every 200 and
        for every refusal that would be the same all day (400, redirects, other odd statuses), so
        that the caller can commit it first; what it raises propagates untouched. In the body of a
        refusal the token, should the server echo it, is masked.

        Messages quote nothing from bodies: a server may echo a token cut short or re-encoded, in a
        form that no mask would recognise. They say what kind of body it was, which is what tells a
        proxy's page from an answer of Clarity.

        Raises AuthenticationFailed (401, 403, or a token that cannot be put in a header),
        RateLimited (429), RequestRejected (400, redirects and every other status),
        ServiceUnavailable (5xx), ReplyTimedOut, ConnectionBroken, ReplyUnreadable (over the size
        cap, or 200 with something else than metric blocks) and DimensionIgnored.
        """
        if not _fits_a_header(token):
            raise AuthenticationFailed(
                "The stored token has characters that no Clarity token has, so nothing was sent; "
                "connect the business again with the token copied in full."
            )
        with _Room(self._large_replies) as room:
            try:
                return await self._fetch(request, token, room, clock=clock, on_reply=on_reply)
            except ExportError as error:
                # The frames that it came through hold the reply, and whoever keeps it keeps them.
                raise error.with_traceback(None) from None

    async def _fetch(
        self,
        request: ExportRequest,
        token: SecretStr,
        room: _Room,
        *,
        clock: Callable[[], datetime],
        on_reply: OnReply | None,
    ) -> FetchedExport:
        loop = asyncio.get_running_loop()
        async with self._free_connections:
            requested_at = clock()
            sent_at = loop.time()
            outcome = await self._exchange(request, token, room)
            received_at = clock()
        seconds = loop.time() - sent_at
        if isinstance(outcome, ExportError):
            _logger.info(
                "call %s days=%d: %s after %.2f s",
                request.combo.slug,
                request.num_of_days,
                outcome.code,
                seconds,
            )
            raise outcome
        _logger.info(
            "call %s days=%d: HTTP %d, %d bytes in %.2f s",
            request.combo.slug,
            request.num_of_days,
            outcome.status,
            len(outcome.body),
            seconds,
        )
        refusal = None if outcome.status == HTTPStatus.OK else _refusal(outcome)
        if refusal is not None and not isinstance(refusal, RequestRejected):
            raise refusal
        export = Export(
            request=request,
            http_status=outcome.status,
            requested_at=requested_at,
            received_at=received_at,
            body=outcome.body if refusal is None else _masked(outcome.body, token),
        )
        if on_reply is not None:
            await on_reply(export)
        if refusal is not None:
            raise refusal
        return FetchedExport(export, verify(export))

    def _open_http(self) -> httpx.AsyncClient | None:
        """A pool for the current environment; None when its settings cannot be used.

        What httpx raises for a bad proxy address quotes it, password included.
        """
        timeouts = self._timeouts
        host = urlsplit(self._url).hostname or ""
        pattern_host = f"[{host}]" if ":" in host else host
        # The pool never queues: the semaphore has room for as many calls as there are connections.
        limits = httpx.Limits(
            max_connections=self._max_connections,
            max_keepalive_connections=self._max_connections,
        )
        try:
            return httpx.AsyncClient(
                timeout=httpx.Timeout(
                    connect=timeouts.connect_seconds,
                    read=timeouts.read_seconds,
                    write=timeouts.write_seconds,
                    pool=timeouts.total_seconds,
                ),
                limits=limits,
                follow_redirects=False,
                trust_env=True,
                mounts={f"all://{pattern_host}": None} if is_loopback(host) else None,
                # One business's call must not carry what the reply to another's set.
                cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip",
                    "User-Agent": "clarity-pipeline",
                },
            )
        except (ValueError, ImportError, OSError, httpx.InvalidURL):
            return None

    async def _exchange(
        self, request: ExportRequest, token: SecretStr, room: _Room
    ) -> _Reply | ExportError:
        """Send and receive. Failures are returned: raised inside an `except` they would carry
        httpx's exception, and with it the request and its headers, as their context."""
        if self._http is None:
            raise RuntimeError("ExportApiClient is used outside its `async with` block.")
        deadline = asyncio.get_running_loop().time() + self._timeouts.total_seconds
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._http.send(
                    self._http.build_request(
                        "GET",
                        self._url,
                        params=request.query(),
                        headers={"Authorization": f"Bearer {token.get_secret_value()}"},
                    ),
                    stream=True,
                )
            try:
                if response.status_code == HTTPStatus.OK:
                    async with asyncio.timeout_at(deadline):
                        body = await self._read_body(response, room)
                else:
                    body = await _read_refusal(response, deadline=deadline)
            finally:
                await response.aclose()
        except ReplyUnreadable as error:
            return error
        except (TimeoutError, httpx.TimeoutException) as error:
            return _timed_out(error, self._timeouts, room)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            return _broken(error)
        return _Reply(
            status=response.status_code,
            content_type=response.headers.get("content-type", ""),
            body=body,
        )

    async def _read_body(self, response: httpx.Response, room: _Room) -> bytes:
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_reply_bytes:
            raise _over_the_cap(self._max_reply_bytes)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip", ""}:
            raise ReplyUnreadable(
                "Clarity answered 200 in a content encoding that was not asked for; nothing of it "
                "could be read.",
                http_status=HTTPStatus.OK,
            )
        pieces: list[bytes] = []
        size = 0
        async for piece in _decoded(response, gzipped=encoding == "gzip"):
            pieces.append(piece)
            size += len(piece)
            if size > self._max_reply_bytes:
                raise _over_the_cap(self._max_reply_bytes)
            if size > self._small_reply_bytes:
                await room.grow()
        return b"".join(pieces)


async def _read_refusal(response: httpx.Response, *, deadline: float) -> bytes:
    """As much of a refusal's body as comes without trouble: its status already says everything."""
    body = bytearray()
    with suppress(TimeoutError, httpx.HTTPError, httpx.StreamError, ReplyUnreadable, OSError):
        async with asyncio.timeout_at(deadline):
            gzipped = response.headers.get("content-encoding", "").strip().lower() == "gzip"
            async for chunk in _decoded(response, gzipped=gzipped):
                body += chunk
                if len(body) > MAX_ERROR_BODY_BYTES:
                    break
    return bytes(body[:MAX_ERROR_BODY_BYTES])


_DECODED_PIECE_BYTES: Final = 1024 * 1024


async def _decoded(response: httpx.Response, *, gzipped: bool) -> AsyncIterator[bytes]:
    """The body's bytes in pieces of bounded size, so that a cap can be kept while it unpacks.

    httpx unpacks a received chunk as a whole, a thousandfold in the worst case.
    """
    if not gzipped:
        async for chunk in response.aiter_raw():
            yield chunk
        return
    unpacker = _GzipUnpacker()
    async for chunk in response.aiter_raw():
        for piece in unpacker.feed(chunk):
            yield piece
    if not unpacker.complete:
        raise _bad_gzip()


class _GzipUnpacker:
    """Unpacks a gzip stream of one or more members. Raises ReplyUnreadable for anything else."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def complete(self) -> bool:
        return self._member.eof

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        pending = chunk
        while pending:
            if self._member.eof:
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            piece = self._unpack(pending)
            pending = self._member.unconsumed_tail or self._member.unused_data
            if piece:
                yield piece

    def _unpack(self, data: bytes) -> bytes:
        try:
            return self._member.decompress(data, _DECODED_PIECE_BYTES)
        except zlib.error:
            raise _bad_gzip() from None


def _endpoint_url(base_url: str) -> str:
    check_api_url(base_url)
    parts = urlsplit(base_url)
    if parts.query or parts.fragment:
        raise ConfigurationError(
            "CLARITY_API_URL must end with a path: it takes no query string and no fragment."
        )
    url = f"{base_url.rstrip('/')}/{ENDPOINT}"
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        raise ConfigurationError("CLARITY_API_URL is not an address.") from None
    return url


def _fits_a_header(token: SecretStr) -> bool:
    secret = token.get_secret_value()
    return bool(secret) and all("!" <= character <= "~" for character in secret)


def _masked(body: bytes, token: SecretStr) -> bytes:
    return body.replace(token.get_secret_value().encode(), b"***")


def _refusal(reply: _Reply) -> ExportError:
    status, kind = reply.status, _body_kind(reply)
    if status in {401, 403}:
        why = (
            "it is wrong, has expired or was revoked"
            if status == HTTPStatus.UNAUTHORIZED
            else "it may not export this project's data"
        )
        return AuthenticationFailed(
            f"Clarity refused the token (HTTP {status}, {kind}): {why}; generate a new one in "
            "Clarity, Settings, Data Export, and connect again.",
            http_status=status,
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(
            f"Clarity says that the project's calls of this UTC day are spent (HTTP 429, {kind}); "
            "nothing is sent again before they come back at 00:00 UTC.",
            http_status=status,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServiceUnavailable(
            f"Clarity failed on its side (HTTP {status}, {kind}); the token is not to blame, try "
            "again later.",
            http_status=status,
        )
    if 300 <= status < 400:
        return RequestRejected(
            f"Clarity answered with a redirect (HTTP {status}), which is never followed because "
            "the token would go with it; check CLARITY_API_URL and any proxy in between.",
            http_status=status,
        )
    if status == HTTPStatus.BAD_REQUEST:
        return RequestRejected(
            f"Clarity rejected the call's parameters (HTTP 400, {kind}); the same call would fail "
            "again, so it is not repeated.",
            http_status=status,
        )
    return RequestRejected(
        f"Clarity answered with an unexpected status (HTTP {status}, {kind}); the call is not "
        "repeated, check CLARITY_API_URL and any proxy in between.",
        http_status=status,
    )


def _body_kind(reply: _Reply) -> str:
    if not reply.body.strip():
        return "no text"
    content_type = reply.content_type.lower()
    for marker, kind in (("html", "an HTML page"), ("json", "a JSON text"), ("text/", "a text")):
        if marker in content_type:
            return f"{kind} of {len(reply.body)} bytes"
    return f"{len(reply.body)} bytes"


def _over_the_cap(max_reply_bytes: int) -> ReplyUnreadable:
    return ReplyUnreadable(
        f"Clarity's reply is larger than {max_reply_bytes:,} bytes; reading was stopped and "
        "nothing was kept.",
        http_status=HTTPStatus.OK,
    )


def _bad_gzip() -> ReplyUnreadable:
    return ReplyUnreadable(
        "Clarity's reply says that it is gzip, and it is not, or ends too early; nothing of it "
        "could be read.",
        http_status=HTTPStatus.OK,
    )


def _timed_out(error: Exception, timeouts: Timeouts, room: _Room) -> ReplyTimedOut:
    if isinstance(error, httpx.ConnectTimeout):
        return ConnectTimedOut(
            f"Clarity could not be reached within {timeouts.connect_seconds:g} s; check the "
            "network and try again."
        )
    if isinstance(error, httpx.ReadTimeout):
        return ReplyTimedOut(
            f"Clarity sent nothing for {timeouts.read_seconds:g} s; the call may still have been "
            "counted, try again later."
        )
    if room.was_waited_for:
        return ReplyTimedOut(
            "Clarity's large reply had to wait for memory that other large ones held, and was not "
            f"complete within {timeouts.total_seconds:g} s; the call may still have been counted, "
            "try again later."
        )
    return ReplyTimedOut(
        f"Clarity's reply was not complete within {timeouts.total_seconds:g} s; the call may still "
        "have been counted, try again later."
    )


def _broken(error: Exception) -> ConnectionBroken:
    if isinstance(error, httpx.ProxyError):
        return ConnectionBroken(
            "The proxy did not open a connection to Clarity; check the proxy settings."
        )
    if isinstance(error, httpx.ConnectError):
        return ConnectionBroken(
            "No connection to Clarity: its name could not be resolved, it refused, or its "
            "certificate could not be verified; check the network and CLARITY_API_URL."
        )
    return ConnectionBroken(
        "The connection to Clarity broke before the reply was complete; the call may still have "
        "been counted, try again later."
    )
