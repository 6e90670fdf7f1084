"""A local Meta for everyone who has no ad account: the part of its Marketing API that rules use.

Campaigns, ad sets and ads stand under accounts with a currency; tokens open accounts. What goes
wrong is set from outside, in this process or by POST to `/control/faults`: any error by its code,
an account that has had too many calls, and answers that come too late, after the change was made.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import uvicorn
from pydantic import ConfigDict, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from clarity_pipeline.domain.rules.model import Level

if TYPE_CHECKING:
    from types import TracebackType

VERSION_PATH: Final = "/v25.0"
LEAST_BUDGET: Final = 100
"""In what the currency is counted in."""

_STOP_SECONDS: Final = 10

_MESSAGES: Final[Mapping[int, tuple[int, str]]] = {
    1: (500, "An unknown error occurred"),
    2: (500, "Service temporarily unavailable"),
    4: (403, "Application request limit reached"),
    10: (403, "Application does not have permission for this action"),
    17: (400, "User request limit reached"),
    100: (400, "Invalid parameter"),
    190: (401, "Error validating access token"),
    200: (403, "Permissions error"),
    368: (400, "The action attempted has been deemed abusive or is otherwise disallowed"),
    613: (400, "Calls to this api have exceeded the rate limit."),
    80004: (400, "There have been too many calls to this ad-account. Wait a bit and try again."),
}
"""Code -> HTTP status and message; the status of most is 400."""

_PARENT_PAUSED: Final = {Level.CAMPAIGN: "CAMPAIGN_PAUSED", Level.AD_SET: "ADSET_PAUSED"}


@dataclass(slots=True, kw_only=True)
class StandInAccount:
    """An ad account; `calls_left` None is any number of them."""

    id: str
    currency: str = "EUR"
    tokens: set[str] = field(default_factory=set[str])
    calls_left: int | None = None
    minutes_to_regain_access: int = 5


@dataclass(slots=True, kw_only=True)
class StandInObject:
    """A campaign, an ad set or an ad; `daily_budget` is in what its currency is counted in."""

    id: str
    account_id: str
    level: Level = Level.CAMPAIGN
    parent_id: str | None = None
    status: str = "ACTIVE"
    daily_budget: int | None = None
    updated_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandInFault:
    """What goes wrong, for which calls, `times` times (None: always) after `skip` of them.

    With `after_acting` the change is made and its answer is then what the fault says.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    method: str | None = None
    object_id: str | None = None
    skip: int = 0
    times: int | None = 1
    after_acting: bool = False
    delay_seconds: float = 0
    code: int | None = None
    subcode: int | None = None
    is_transient: bool = False
    status: int | None = None
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class StandInCall:
    method: str
    path: str
    values: Mapping[str, str]
    token: str = field(repr=False)


@dataclass(slots=True)
class _Armed:
    fault: StandInFault
    seen: int = 0

    def takes(self, method: str, object_id: str) -> bool:
        fault = self.fault
        if fault.method not in {None, method} or fault.object_id not in {None, object_id}:
            return False
        self.seen += 1
        return self.seen > fault.skip and (
            fault.times is None or self.seen <= fault.skip + fault.times
        )


class MetaStandIn:
    """Everything that the stand-in knows; `create_meta_stand_in` is its face."""

    def __init__(
        self,
        accounts: Sequence[StandInAccount] = (),
        objects: Sequence[StandInObject] = (),
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.accounts = {account.id: account for account in accounts}
        self.objects = {each.id: each for each in objects}
        self.calls: list[StandInCall] = []
        self.clock = clock
        self._faults: list[_Armed] = []

    @property
    def changes(self) -> list[tuple[str, Mapping[str, str]]]:
        """Every POST that has arrived: the object, and what it was to become."""
        return [
            (call.path.rpartition("/")[2], call.values)
            for call in self.calls
            if call.method == "POST"
        ]

    def add_fault(self, fault: StandInFault) -> None:
        self._faults.append(_Armed(fault))

    def clear_faults(self) -> None:
        self._faults.clear()

    def touch(self, object_id: str, **changes: Any) -> None:
        """Somebody else's change, as in Meta's own ads manager."""
        self._apply(self.objects[object_id], changes)

    def take_fault(self, method: str, object_id: str) -> StandInFault | None:
        return next((each.fault for each in self._faults if each.takes(method, object_id)), None)

    def answer(self, call: StandInCall) -> _Answer:
        """What Meta would say, after doing it."""
        node = call.path.rpartition("/")[2]
        account = self.accounts.get(
            node.removeprefix("act_") if node not in self.objects else self.objects[node].account_id
        )
        if not any(call.token in each.tokens for each in self.accounts.values()):
            return _error(190)
        if account is None or call.token not in account.tokens:
            return _error(100, subcode=33)
        if account.calls_left is not None:
            if account.calls_left <= 0:
                return _error(80004, subcode=2446079, headers=_usage(account, percent=100))
            account.calls_left -= 1
        found = self.objects.get(node)
        if found is None:
            answer = _Answer(200, {"currency": account.currency, "id": node})
        elif call.method == "GET":
            answer = self._fields(found, call.values.get("fields", "id").split(","))
        else:
            answer = self._change(found, call.values)
        return _Answer(answer.status, answer.document, _usage(account, percent=10))

    def _fields(self, found: StandInObject, names: Sequence[str]) -> _Answer:
        known: dict[str, object] = {
            "id": found.id,
            "status": found.status,
            "effective_status": self._effective_status(found),
            "updated_time": f"{found.updated_at:%Y-%m-%dT%H:%M:%S}+0000",
            "account_id": found.account_id,
        }
        if found.level is not Level.AD:
            known["daily_budget"] = str(found.daily_budget or 0)
        if not set(names) <= set(known):
            return _error(100)
        return _Answer(200, {name: known[name] for name in [*names, "id"]})

    def _change(self, found: StandInObject, values: Mapping[str, str]) -> _Answer:
        changes: dict[str, Any] = {}
        for name, value in values.items():
            if name == "status" and value in {"ACTIVE", "PAUSED", "ARCHIVED", "DELETED"}:
                changes["status"] = value
            elif name == "daily_budget" and value.isdecimal() and found.daily_budget:
                if int(value) < LEAST_BUDGET:
                    return _error(100, subcode=1885272)
                changes["daily_budget"] = int(value)
            else:
                return _error(100)
        self._apply(found, changes)
        return _Answer(200, {"success": True})

    def _apply(self, found: StandInObject, changes: Mapping[str, Any]) -> None:
        for name, value in changes.items():
            setattr(found, name, value)
        # Meta says that a new budget alone does not move it.
        if set(changes) - {"daily_budget", "updated_at"}:
            found.updated_at = self.clock().replace(microsecond=0)

    def _effective_status(self, found: StandInObject) -> str:
        parent = self.objects.get(found.parent_id or "")
        while found.status == "ACTIVE" and parent is not None:
            if parent.status != "ACTIVE":
                return _PARENT_PAUSED[parent.level]
            parent = self.objects.get(parent.parent_id or "")
        return found.status


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    document: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def create_meta_stand_in(stand_in: MetaStandIn) -> Starlette:
    """The application: Graph API nodes, and `/control` to look and to let things go wrong."""

    async def node(request: Request) -> Response:
        return await _respond(stand_in, request)

    async def control(_: Request) -> Response:
        return JSONResponse(
            {
                "accounts": [
                    {"id": each.id, "currency": each.currency, "calls_left": each.calls_left}
                    for each in stand_in.accounts.values()
                ],
                "objects": [
                    {**asdict(each), "updated_at": each.updated_at.isoformat()}
                    for each in stand_in.objects.values()
                ],
                "calls": len(stand_in.calls),
            }
        )

    async def add_fault(request: Request) -> Response:
        try:
            stand_in.add_fault(TypeAdapter(StandInFault).validate_json(await request.body()))
        except ValidationError as error:
            return PlainTextResponse(str(error), 400)
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/control", control),
            Route("/control/faults", add_fault, methods=["POST"]),
            Route(f"{VERSION_PATH}/{{node}}", node, methods=["GET", "POST"]),
        ]
    )


async def _respond(stand_in: MetaStandIn, request: Request) -> Response:
    form = await request.form() if request.method == "POST" else request.query_params
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    call = StandInCall(
        method=request.method,
        path=request.url.path,
        values={name: str(value) for name, value in form.items()},
        token=token if scheme == "Bearer" else "",
    )
    stand_in.calls.append(call)
    fault = stand_in.take_fault(call.method, request.path_params["node"])
    if fault is None:
        return _response(stand_in.answer(call))
    acted = stand_in.answer(call) if fault.after_acting else None
    await asyncio.sleep(fault.delay_seconds)
    if fault.body is not None:
        return PlainTextResponse(fault.body, fault.status or 200, headers=dict(fault.headers))
    if fault.code is not None:
        return _response(
            _error(
                fault.code,
                subcode=fault.subcode,
                status=fault.status,
                is_transient=fault.is_transient,
                headers=fault.headers,
            )
        )
    return _response(acted or stand_in.answer(call))


def _response(answer: _Answer) -> Response:
    return JSONResponse(answer.document, answer.status, headers=dict(answer.headers))


def _error(
    code: int,
    *,
    subcode: int | None = None,
    status: int | None = None,
    is_transient: bool = False,
    headers: Mapping[str, str] | None = None,
) -> _Answer:
    usual_status, message = _MESSAGES.get(code, (400, "An error occurred"))
    error: dict[str, object] = {
        "message": f"(#{code}) {message}",
        "type": "OAuthException",
        "code": code,
        "fbtrace_id": "AbCdEfGhIjKlMnOpQrStUvW",
    }
    if subcode is not None:
        error["error_subcode"] = subcode
    if is_transient:
        error["is_transient"] = True
    return _Answer(status or usual_status, {"error": error}, headers or {})


def _usage(account: StandInAccount, *, percent: int) -> dict[str, str]:
    minutes = account.minutes_to_regain_access if percent >= 100 else 0
    usage = {
        account.id: [
            {
                "type": "ads_management",
                "call_count": percent,
                "total_cputime": 1,
                "total_time": 1,
                "estimated_time_to_regain_access": minutes,
                "ads_api_access_tier": "standard_access",
            }
        ]
    }
    return {
        "x-business-use-case-usage": json.dumps(usage),
        "x-app-usage": json.dumps({"call_count": 1, "total_cputime": 1, "total_time": 1}),
        "x-ad-account-usage": json.dumps(
            {"acc_id_util_pct": percent, "reset_time_duration": minutes * 60}
        ),
    }


class MetaStandInServer:
    """The stand-in on a free loopback port, in a thread, while the `with` block runs."""

    def __init__(self, stand_in: MetaStandIn) -> None:
        self.stand_in = stand_in
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_meta_stand_in(stand_in),
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="meta-stand-in", daemon=True)

    @property
    def base_url(self) -> str:
        """What CLARITY_META_API_URL has to be."""
        return f"{self.root_url}{VERSION_PATH}"

    @property
    def root_url(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def __enter__(self) -> Self:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        self._listener.close()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))
