"""The emulator's control endpoint under `/control`, and the typed client that speaks to it.

Both sides use the same dataclasses, so that what one sends is what the other accepts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import httpx
from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clarity_pipeline.domain.quota import utc_day_of
from clarity_pipeline.export_api.emulated_projects import EmulatedProject
from clarity_pipeline.export_api.emulator_app import Emulator, ErrorBody, Fault, ReceivedCall

if TYPE_CHECKING:
    from types import TracebackType

_STRICT: Final = ConfigDict(extra="forbid")
_CALLS: Final = TypeAdapter(list[ReceivedCall])
_FAULTS: Final = TypeAdapter(list[Fault])
_PROJECTS: Final = TypeAdapter(list[EmulatedProject])


class _Setting(Protocol):
    def apply(self, emulator: Emulator) -> None: ...


@checked_dataclass(frozen=True, config=_STRICT)
class ClockSetting:
    """`now` None follows real time; otherwise the clock stands there, or runs on from there."""

    now: AwareDatetime | None = None
    frozen: bool = True

    def apply(self, emulator: Emulator) -> None:
        if self.now is None:
            emulator.clock.follow_real_time()
        else:
            emulator.clock.set(self.now, frozen=self.frozen)


@checked_dataclass(frozen=True, config=_STRICT)
class ClockStep:
    seconds: float

    def apply(self, emulator: Emulator) -> None:
        emulator.clock.advance(timedelta(seconds=self.seconds))


@checked_dataclass(frozen=True, config=_STRICT)
class QuotaSetting:
    """`day` None is the emulator's current UTC day."""

    project_id: str
    used: int
    day: date | None = None

    def apply(self, emulator: Emulator) -> None:
        day = self.day or utc_day_of(emulator.clock.now())
        emulator.set_quota_used(self.project_id, day, used=self.used)


@checked_dataclass(frozen=True, config=_STRICT)
class TokenRevocation:
    project_id: str
    serial: int = 1

    def apply(self, emulator: Emulator) -> None:
        emulator.revoke_token(self.project_id, serial=self.serial)


@checked_dataclass(frozen=True, config=_STRICT)
class OutageSetting:
    on: bool

    def apply(self, emulator: Emulator) -> None:
        emulator.is_out = self.on


@checked_dataclass(frozen=True, config=_STRICT)
class LatencySetting:
    """Every call waits this long before it is looked at."""

    seconds: float

    def apply(self, emulator: Emulator) -> None:
        emulator.latency_seconds = self.seconds


@checked_dataclass(frozen=True, config=_STRICT)
class ErrorBodySetting:
    """The body of every reply with this status."""

    status: int
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"

    def apply(self, emulator: Emulator) -> None:
        emulator.error_bodies[self.status] = ErrorBody(self.body, self.content_type)


@checked_dataclass(frozen=True, config=_STRICT)
class FaultsToAdd:
    faults: list[Fault]

    def apply(self, emulator: Emulator) -> None:
        for fault in self.faults:
            emulator.add_fault(fault)


@checked_dataclass(frozen=True, config=_STRICT)
class ProjectsToPut:
    """Added, or put in the place of those of the same id."""

    projects: list[EmulatedProject]

    def apply(self, emulator: Emulator) -> None:
        emulator.put_projects(self.projects)


_SETTINGS: Final[tuple[tuple[str, str, type[_Setting]], ...]] = (
    ("PUT", "/control/clock", ClockSetting),
    ("POST", "/control/clock/advance", ClockStep),
    ("PUT", "/control/quota", QuotaSetting),
    ("POST", "/control/tokens/revoke", TokenRevocation),
    ("PUT", "/control/outage", OutageSetting),
    ("PUT", "/control/latency", LatencySetting),
    ("PUT", "/control/error-body", ErrorBodySetting),
    ("POST", "/control/faults", FaultsToAdd),
    ("PUT", "/control/projects", ProjectsToPut),
)


def control_routes(emulator: Emulator) -> list[Route]:
    """The control endpoint: whatever changes something answers with the state that it led to."""

    async def show_state(_: Request) -> Response:
        return JSONResponse(_state(emulator))

    async def show_calls(_: Request) -> Response:
        return Response(_CALLS.dump_json(list(emulator.calls)), media_type="application/json")

    return [
        Route("/control", show_state, methods=["GET"]),
        Route("/control/calls", show_calls, methods=["GET"]),
        _action_route(emulator, "DELETE", "/control/calls", emulator.clear_calls),
        _action_route(emulator, "DELETE", "/control/faults", emulator.clear_faults),
        _action_route(emulator, "POST", "/control/reset", emulator.reset),
        *(
            _setting_route(emulator, method, path, TypeAdapter(kind))
            for method, path, kind in _SETTINGS
        ),
    ]


def _action_route(emulator: Emulator, method: str, path: str, act: Callable[[], None]) -> Route:
    async def handle(_: Request) -> Response:
        act()
        return JSONResponse(_state(emulator))

    return Route(path, handle, methods=[method])


def _setting_route(
    emulator: Emulator, method: str, path: str, adapter: TypeAdapter[_Setting]
) -> Route:
    async def handle(request: Request) -> Response:
        try:
            setting = adapter.validate_json(await request.body())
        except ValidationError as error:
            problems = json.loads(error.json(include_url=False, include_input=False))
            return JSONResponse({"errors": problems}, HTTPStatus.UNPROCESSABLE_ENTITY)
        setting.apply(emulator)
        return JSONResponse(_state(emulator))

    return Route(path, handle, methods=[method])


def _state(emulator: Emulator) -> dict[str, object]:
    now = emulator.clock.now()
    return {
        "clock": {"now": now.isoformat(), "frozen": emulator.clock.is_frozen},
        "outage": emulator.is_out,
        "latency_seconds": emulator.latency_seconds,
        "projects": _PROJECTS.dump_python(list(emulator.projects), mode="json"),
        "quota_used_today": {
            project.project_id: emulator.quota_used(project.project_id, utc_day_of(now))
            for project in emulator.projects
        },
        "faults": _FAULTS.dump_python(list(emulator.faults), mode="json"),
        "calls_received": len(emulator.calls),
    }


class EmulatorControl:
    """Sets up a running emulator over HTTP. Raises RuntimeError when it does not accept a setting.

    `root_url` is the server's address without a path. Close it, or use it as a context manager.
    """

    def __init__(self, root_url: str) -> None:
        self._http = httpx.Client(base_url=root_url, trust_env=False, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def state(self) -> Mapping[str, Any]:
        return self._call("GET", "/control").json()

    def calls(self) -> list[ReceivedCall]:
        """Every call received so far, oldest first."""
        return _CALLS.validate_json(self._call("GET", "/control/calls").content)

    def clear_calls(self) -> None:
        self._call("DELETE", "/control/calls")

    def reset(self) -> None:
        """Everything as at the start, except the projects."""
        self._call("POST", "/control/reset")

    def put_projects(self, projects: Sequence[EmulatedProject]) -> None:
        self._put("PUT", "/control/projects", {"projects": [asdict(each) for each in projects]})

    def set_clock(self, now: datetime | None, *, frozen: bool = True) -> None:
        """None follows real time again."""
        text = now.isoformat() if now else None
        self._put("PUT", "/control/clock", {"now": text, "frozen": frozen})

    def advance_clock(self, step: timedelta) -> None:
        self._put("POST", "/control/clock/advance", {"seconds": step.total_seconds()})

    def add_fault(self, fault: Fault) -> None:
        self._put("POST", "/control/faults", {"faults": [asdict(fault)]})

    def clear_faults(self) -> None:
        self._call("DELETE", "/control/faults")

    def set_quota_used(self, project_id: str, *, used: int, day: date | None = None) -> None:
        text = day.isoformat() if day else None
        self._put("PUT", "/control/quota", {"project_id": project_id, "used": used, "day": text})

    def revoke_token(self, project_id: str, *, serial: int = 1) -> None:
        self._put("POST", "/control/tokens/revoke", {"project_id": project_id, "serial": serial})

    def set_outage(self, *, on: bool) -> None:
        self._put("PUT", "/control/outage", {"on": on})

    def set_latency(self, *, seconds: float) -> None:
        self._put("PUT", "/control/latency", {"seconds": seconds})

    def set_error_body(
        self, status: int, *, body: str, content_type: str = "text/plain; charset=utf-8"
    ) -> None:
        setting = {"status": status, "body": body, "content_type": content_type}
        self._put("PUT", "/control/error-body", setting)

    def _put(self, method: str, path: str, setting: Mapping[str, object]) -> None:
        self._call(method, path, content=json.dumps(setting))

    def _call(self, method: str, path: str, *, content: str | None = None) -> httpx.Response:
        response = self._http.request(method, path, content=content)
        if response.status_code != HTTPStatus.OK:
            raise RuntimeError(f"The emulator refused {method} {path}: {response.text[:500]}")
        return response
