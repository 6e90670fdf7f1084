"""What the emulator knows, and how it answers the one endpoint of the Export API.

FACTS section 14 is the contract. The order of judgement is outage, token, permission, quota,
scripted fault, parameters; the real one's order is not known.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clarity_pipeline.domain.dimensions import MAX_DIMENSIONS, Dimension
from clarity_pipeline.domain.exports import MAX_DAYS
from clarity_pipeline.domain.quota import utc_day_of
from clarity_pipeline.export_api.emulated_projects import (
    EmulatedProject,
    read_emulator_token,
    subject_of,
)
from clarity_pipeline.export_api.emulated_replies import build_reply
from clarity_pipeline.export_api.emulated_site import Session, SiteHistory

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

BASE_PATH: Final = "/export-data/api/v1"
ENDPOINT_PATH: Final = f"{BASE_PATH}/project-live-insights"
CONNECTION_EXTENSION: Final = "clarity_emulator.connection"
"""Where the server puts the functions that end a TCP connection: ASGI has none."""

_CHUNK_BYTES: Final = 64 * 1024
_MAX_CALLS_REMEMBERED: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong, for which calls. Unset fields leave that part of the reply as it would be.

    It applies to calls of `project_id` (None: any) with `dimension_set` (None: any; sorted names
    joined by commas, the empty string for a call without dimensions), after letting `skip` of them
    through, `times` times (None: always).
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    project_id: str | None = None
    dimension_set: str | None = None
    skip: int = 0
    times: int | None = 1
    delay_seconds: float = 0
    status: int | None = None
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    drop: bool = False
    """End the TCP connection without a reply."""
    truncate_at_bytes: int | None = None
    """Announce the whole body, send this much of it, then end the TCP connection."""
    pad_to_bytes: int | None = None
    """Fill the body up with blanks to this size; blanks after JSON are still JSON."""
    announce_length: bool = True
    """False: chunked transfer, so that the size shows only as it arrives."""
    compress: bool = False
    """Send the body as gzip."""
    drip_bytes: int | None = None
    """Send the body in pieces of this size, `drip_seconds` apart."""
    drip_seconds: float = 0.05


@dataclass(frozen=True, slots=True)
class ReceivedCall:
    """One call as it arrived; `status` is None when the connection was dropped instead."""

    received_at: datetime
    project_id: str | None
    query: str
    dimension_set: str
    num_of_days: str | None
    status: int | None
    counted: bool
    """Whether it took one of the project's calls of that UTC day."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


_DEFAULT_ERROR_BODIES: Final[Mapping[int, ErrorBody]] = {
    HTTPStatus.TOO_MANY_REQUESTS: ErrorBody("Exceeded daily limit"),
}
"""Every other refusal has no body (FACTS section 10)."""


class EmulatedClock:
    """Real UTC time, shifted or frozen."""

    def __init__(self, real: Callable[[], datetime]) -> None:
        self._real = real
        self._shift = timedelta()
        self._frozen_at: datetime | None = None

    @property
    def is_frozen(self) -> bool:
        return self._frozen_at is not None

    def now(self) -> datetime:
        return self._frozen_at or self._real() + self._shift

    def set(self, now: datetime, *, frozen: bool) -> None:
        instant = now.astimezone(UTC)
        self._frozen_at = instant if frozen else None
        self._shift = instant - self._real()

    def advance(self, step: timedelta) -> None:
        self.set(self.now() + step, frozen=self.is_frozen)

    def follow_real_time(self) -> None:
        self._shift = timedelta()
        self._frozen_at = None


@dataclass(slots=True)
class _ArmedFault:
    fault: Fault
    skipped: int = 0
    fired: int = 0

    def take(self, project_id: str, dimension_set: str) -> bool:
        fault = self.fault
        if fault.project_id not in {None, project_id}:
            return False
        if fault.dimension_set not in {None, dimension_set}:
            return False
        if self.skipped < fault.skip:
            self.skipped += 1
            return False
        if fault.times is not None and self.fired >= fault.times:
            return False
        self.fired += 1
        return True


class Emulator:
    """Everything the emulator knows; the routes below are its face.

    `real_time` is what an unset clock follows. Replies and generated days are kept up to
    `max_cache_bytes` each, least recently used first out.
    """

    def __init__(
        self,
        projects: Sequence[EmulatedProject] = (),
        *,
        real_time: Callable[[], datetime] = lambda: datetime.now(UTC),
        max_cache_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self.clock = EmulatedClock(real_time)
        self.history = SiteHistory(max_bytes=max_cache_bytes)
        self._replies = _ReplyCache(max_bytes=max_cache_bytes)
        self._projects: dict[str, EmulatedProject] = {}
        self.put_projects(projects)
        self.reset()

    def reset(self) -> None:
        """Forget faults, calls, quotas, revocations, outage, latency, bodies and clock settings."""
        self.clock.follow_real_time()
        self.is_out = False
        self.latency_seconds = 0.0
        self.calls: deque[ReceivedCall] = deque(maxlen=_MAX_CALLS_REMEMBERED)
        self.error_bodies: dict[int, ErrorBody] = dict(_DEFAULT_ERROR_BODIES)
        self._faults: list[_ArmedFault] = []
        self._used: dict[tuple[str, date], int] = {}
        self._revoked: set[tuple[str, int]] = set()

    @property
    def projects(self) -> tuple[EmulatedProject, ...]:
        return tuple(self._projects.values())

    def put_projects(self, projects: Sequence[EmulatedProject]) -> None:
        """Add projects, or replace those of the same id."""
        self._projects |= {project.project_id: project for project in projects}

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(armed.fault for armed in self._faults)

    def add_fault(self, fault: Fault) -> None:
        self._faults.append(_ArmedFault(fault))

    def clear_faults(self) -> None:
        self._faults.clear()

    def clear_calls(self) -> None:
        self.calls.clear()

    def revoke_token(self, project_id: str, *, serial: int) -> None:
        self._revoked.add((project_id, serial))

    def quota_used(self, project_id: str, utc_day: date) -> int:
        return self._used.get((project_id, utc_day), 0)

    def set_quota_used(self, project_id: str, utc_day: date, *, used: int) -> None:
        self._used[project_id, utc_day] = used

    def sessions(self, project_id: str, *, start: datetime, end: datetime) -> list[Session]:
        """The ground truth: what happened in [start, end), whether visible yet or not."""
        return self.history.sessions(self._projects[project_id].site, start=start, end=end)

    def authenticate(self, authorization: str) -> EmulatedProject | None:
        """The project of a bearer token that is known, not expired and not revoked."""
        scheme, _, token = authorization.partition(" ")
        claims = read_emulator_token(token) if scheme.lower() == "bearer" else None
        if claims is None or claims.expires_at <= self.clock.now():
            return None
        for project in self._projects.values():
            if subject_of(project.project_id) == claims.subject:
                is_revoked = (project.project_id, claims.serial) in self._revoked
                return None if is_revoked else project
        return None

    def take_call(self, project: EmulatedProject) -> bool:
        """Count one call; False when the project's calls of this UTC day are used up."""
        key = (project.project_id, utc_day_of(self.clock.now()))
        used = self._used.get(key, 0)
        if used >= project.daily_call_limit:
            return False
        self._used[key] = used + 1
        return True

    def give_back(self, project: EmulatedProject) -> None:
        self._used[project.project_id, utc_day_of(self.clock.now())] -= 1

    def take_fault(self, project_id: str, dimension_set: str) -> Fault | None:
        for armed in self._faults:
            if armed.take(project_id, dimension_set):
                return armed.fault
        return None

    def reply(self, project: EmulatedProject, query: _Query) -> bytes:
        """The body of a 200 for this project now."""
        now = self.clock.now()
        start = now - timedelta(days=query.num_of_days)
        visible_until = max(start, now - project.visibility_delay)
        dimensions = query.dimensions_for(project)
        salt = f"{project.seed}/{now:%Y%m%d%H%M%S%f}/{query.num_of_days}/{','.join(dimensions)}"
        key = (project.site, project.style, visible_until, salt)
        return self._replies.get(
            key,
            lambda: build_reply(
                project.site,
                self.history.visits(project.site, start=start, end=visible_until),
                dimensions=dimensions,
                style=project.style,
                salt=salt,
            ),
        )


class _ReplyCache:
    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._bodies: OrderedDict[object, bytes] = OrderedDict()

    def get(self, key: object, build: Callable[[], bytes]) -> bytes:
        body = self._bodies.get(key)
        if body is not None:
            self._bodies.move_to_end(key)
            return body
        body = build()
        self._bodies[key] = body
        self._bytes += len(body)
        while self._bytes > self._max_bytes and len(self._bodies) > 1:
            _, dropped = self._bodies.popitem(last=False)
            self._bytes -= len(dropped)
        return body


@dataclass(frozen=True, slots=True)
class _Query:
    """The parameters that mean something; all others have no effect (FACTS section 1)."""

    raw: str
    days: str | None
    names: tuple[str, ...]

    @classmethod
    def of(cls, request: Request) -> _Query:
        given = (
            request.query_params.get(f"dimension{place}") for place in range(1, MAX_DIMENSIONS + 1)
        )
        names = tuple(dict.fromkeys(name for name in given if name))
        return cls(request.url.query, request.query_params.get("numOfDays"), names)

    @property
    def dimension_set(self) -> str:
        return ",".join(sorted(self.names))

    @property
    def has_valid_days(self) -> bool:
        return self.days is None or self.days in {str(days) for days in range(1, MAX_DAYS + 1)}

    @property
    def num_of_days(self) -> int:
        """Left out it is taken for 1; which window the real one means is unknown (FACTS 1)."""
        return 1 if self.days is None else int(self.days)

    def dimensions_for(self, project: EmulatedProject) -> tuple[Dimension, ...]:
        """None at all if any name is unknown: the reply is then the plain one, without an error."""
        known = {dimension.value: dimension for dimension in Dimension}
        if project.accepts_country_region:
            known["Country/Region"] = Dimension.COUNTRY
        dimensions = [known.get(name) for name in self.names]
        if None in dimensions:
            return ()
        return tuple(dict.fromkeys(dimension for dimension in dimensions if dimension))


def export_routes(emulator: Emulator) -> list[Route]:
    """The Export API's one endpoint, with and without a slash at its end (FACTS section 1)."""

    async def live_insights(request: Request) -> Response:
        return await _answer(emulator, request)

    return [Route(ENDPOINT_PATH, live_insights), Route(f"{ENDPOINT_PATH}/", live_insights)]


async def _answer(emulator: Emulator, request: Request) -> Response:
    query = _Query.of(request)
    if emulator.latency_seconds:
        await asyncio.sleep(emulator.latency_seconds)
    project = emulator.authenticate(request.headers.get("authorization", ""))
    counted, fault = False, None
    if emulator.is_out:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        counted = project is not None and emulator.take_call(project)
    elif project is None:
        status = HTTPStatus.UNAUTHORIZED
    elif not project.export_enabled:
        status = HTTPStatus.FORBIDDEN
    elif not emulator.take_call(project):
        status = HTTPStatus.TOO_MANY_REQUESTS
    else:
        counted = True
        fault = emulator.take_fault(project.project_id, query.dimension_set)
        status = HTTPStatus.OK if query.has_valid_days else HTTPStatus.BAD_REQUEST
    final_status = fault.status if fault and fault.status else int(status)
    failed = final_status >= HTTPStatus.BAD_REQUEST or (fault is not None and fault.drop)
    if counted and project is not None and failed and not project.failed_calls_count:
        emulator.give_back(project)
        counted = False
    emulator.calls.append(
        ReceivedCall(
            received_at=emulator.clock.now(),
            project_id=project.project_id if project else None,
            query=query.raw,
            dimension_set=query.dimension_set,
            num_of_days=query.days,
            status=None if fault and fault.drop else final_status,
            counted=counted,
        )
    )
    if project is not None and final_status == HTTPStatus.OK and status == HTTPStatus.OK:
        ordinary = _ScriptedBody(emulator.reply(project, query), "application/json; charset=utf-8")
    else:
        error = emulator.error_bodies.get(final_status, ErrorBody())
        ordinary = _ScriptedBody(error.body.encode(), error.content_type)
    if fault is None:
        return Response(ordinary.content, final_status, media_type=ordinary.content_type)
    return _ScriptedResponse(final_status, ordinary, fault)


@dataclass(frozen=True, slots=True)
class _ScriptedBody:
    content: bytes
    content_type: str


class _ScriptedResponse(Response):
    """A reply as its fault wants it sent, down to the end of the TCP connection."""

    def __init__(self, status: int, body: _ScriptedBody, fault: Fault) -> None:
        content = body.content if fault.body is None else fault.body.encode()
        if fault.pad_to_bytes is not None:
            content = content.ljust(fault.pad_to_bytes)
        headers = {"Content-Type": body.content_type, **fault.headers}
        if fault.compress:
            content = gzip.compress(content, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        super().__init__(content, status_code=status, headers=headers)
        if not fault.announce_length:
            del self.headers["content-length"]
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._fault
        if fault.delay_seconds and not await _client_waits(receive, fault.delay_seconds):
            return
        if fault.drop:
            await _end_connection(scope, receive, "abort")
            return
        content = bytes(self.body)
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        if fault.truncate_at_bytes is not None:
            content = content[: fault.truncate_at_bytes]
        await self._send_pieces(content, receive, send)
        if fault.truncate_at_bytes is not None:
            await _end_connection(scope, receive, "close")
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_pieces(self, content: bytes, receive: Receive, send: Send) -> None:
        size = self._fault.drip_bytes or _CHUNK_BYTES
        # Even a pause of nothing lets the server notice that nobody listens any more.
        pause = self._fault.drip_seconds if self._fault.drip_bytes else 0
        for start in range(0, len(content), size):
            piece = content[start : start + size]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if not await _client_waits(receive, pause):
                return


async def _client_waits(receive: Receive, seconds: float) -> bool:
    """Wait; False as soon as the client has gone, so that no server has to wait for nobody."""
    try:
        async with asyncio.timeout(seconds):
            await _disconnected(receive)
    except TimeoutError:
        return True
    return False


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end_connection(scope: Scope, receive: Receive, how: str) -> None:
    """Close (sending what is buffered) or abort the TCP connection, and wait until it is gone."""
    connection = scope.get("extensions", {}).get(CONNECTION_EXTENSION)
    if connection is None:
        raise ConnectionResetError("This server cannot drop a connection; use run_emulator.")
    connection[how]()
    await _disconnected(receive)
