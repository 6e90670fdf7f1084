"""All businesses of the agency on one screen, and adding one or many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.agency_overview import OverviewSort
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.connection_list import COLUMNS, MAX_ROWS, decode_connection_list
from clarity_pipeline.domain.connections import (
    BUSINESS_ID_PATTERN,
    MAX_NAME_LENGTH,
    ConnectionState,
    parse_business_id,
    parse_business_name,
)
from clarity_pipeline.domain.errors import (
    InvalidBusinessId,
    InvalidBusinessName,
    InvalidConnectionList,
)
from clarity_pipeline.operations.agency_overview import agency_overview
from clarity_pipeline.operations.connecting import connect_many
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.guard import Services
from clarity_pipeline.panel.sparklines import sparkline
from clarity_pipeline.panel.templating import page, shown
from clarity_pipeline.panel.wording import STATES
from clarity_pipeline.store.businesses import add_business

router = APIRouter(include_in_schema=False)

ROWS_PER_PAGE: Final = 50

_COLUMNS: Final[Mapping[OverviewSort, tuple[str, str]]] = {
    OverviewSort.NAME: ("Business", ""),
    OverviewSort.STATE: ("Status", ""),
    OverviewSort.FRESHNESS: ("Latest day", "UTC"),
    OverviewSort.LAST_SYNCED: ("Last synced", ""),
    OverviewSort.QUOTA: ("Calls", "today"),
    OverviewSort.RAGE_CLICK_RATE: ("Rage clicks", "per 100 sessions, 30 days"),
    OverviewSort.SESSIONS: ("Sessions", "7 days"),
}
"""The heading of each column, and what it is about beneath."""

_MOST_FIRST: Final = frozenset(
    {OverviewSort.QUOTA, OverviewSort.RAGE_CLICK_RATE, OverviewSort.SESSIONS}
)
"""What a first click sorts from the largest down; names and what needs somebody go upwards."""


@dataclass(frozen=True, slots=True)
class View:
    """What of the overview somebody looks at, and the addresses of views beside it."""

    search: str
    state: ConnectionState | None
    sort: OverviewSort
    descending: bool
    page: int

    def address(self, **changes: object) -> str:
        """The address of this view with something changed; what is as usual is left out."""
        values: dict[str, object] = {
            "q": self.search,
            "state": self.state.value if self.state else "",
            "sort": "" if self.sort is OverviewSort.STATE else self.sort.value,
            "order": "desc" if self.descending else "",
            "page": "",
        } | changes
        query = urlencode({name: str(value) for name, value in values.items() if value})
        return f"/agency?{query}" if query else "/agency"

    def sorted_by(self, sort: OverviewSort) -> str:
        """The address that sorts by a column, or turns it round where it is sorted by already."""
        down = not self.descending if sort is self.sort else sort in _MOST_FIRST
        return self.address(
            sort="" if sort is OverviewSort.STATE else sort.value, order="desc" if down else ""
        )

    def direction_of(self, sort: OverviewSort) -> str:
        """As `aria-sort` has it."""
        if sort is not self.sort:
            return "none"
        return "descending" if self.descending else "ascending"


@router.get("/agency")
def show_overview(
    request: Request,
    services: Services,
    q: Annotated[str, Query(max_length=120)] = "",
    state: Annotated[str, Query(max_length=40)] = "",
    sort: Annotated[OverviewSort, Query()] = OverviewSort.STATE,
    order: Annotated[str, Query(max_length=4)] = "",
    page_number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
    connected: Annotated[int, Query(ge=0, le=MAX_ROWS)] = 0,
) -> Response:
    """How all businesses stand, those that need somebody first."""
    view = View(
        search=q.strip(),
        state=ConnectionState(state) if state in set(ConnectionState) else None,
        sort=sort,
        descending=order == "desc",
        page=page_number,
    )
    overview = agency_overview(
        services.database,
        now=services.clock(),
        overview_default=services.settings.overview,
        search=view.search,
        states=[view.state] if view.state else (),
        sort=view.sort,
        descending=view.descending,
        offset=(view.page - 1) * ROWS_PER_PAGE,
        limit=ROWS_PER_PAGE,
    )
    return page(
        request,
        "overview.html",
        view=view,
        overview=overview,
        connected=connected,
        columns=_COLUMNS,
        pages=max(1, -(-overview.matching // ROWS_PER_PAGE)),
        states=STATES,
        rates={
            row.business_id: shown("clarity_rage_click_rate", row.rage_click_rate)
            for row in overview.rows
        },
        sparks={row.business_id: sparkline(row.rage_click_rates) for row in overview.rows},
    )


@router.get("/agency/businesses/add")
def show_add_business(request: Request) -> Response:
    return _add_form(request)


@router.post("/agency/businesses/add")
def add_a_business(
    request: Request,
    services: Services,
    business_id: Annotated[str, Form(max_length=200)] = "",
    name: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Add a business, and go on to its connection."""
    wanted_id, wanted_name = business_id.strip(), name.strip()
    errors: dict[str, str] = {}
    try:
        wanted_name = parse_business_name(name, business_id=wanted_id)
    except InvalidBusinessName as error:
        errors["name"] = str(error)
    try:
        parse_business_id(wanted_id)
        if not errors:
            add_business(
                services.database, business_id=wanted_id, name=wanted_name, now=services.clock()
            )
    except InvalidBusinessId as error:
        errors["business_id"] = str(error)
    if errors:
        return _add_form(request, business_id=wanted_id, name=name.strip(), errors=errors)
    audit(request, AuditAction.BUSINESS_ADDED, business_id=wanted_id, name=wanted_name)
    return RedirectResponse(f"/agency/businesses/{wanted_id}/clarity", status_code=303)


@router.get("/agency/connect-many")
def show_connect_many(request: Request) -> Response:
    return _connect_many_form(request)


@router.post("/agency/connect-many")
def connect_many_businesses(
    request: Request,
    services: Services,
    pasted: Annotated[str, Form()] = "",
    file: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Connect every row of a list, or none and say what is wrong with which line."""
    content = file.file.read() if file is not None else b""
    try:
        connected = connect_many(
            services.database,
            services.vault,
            text=decode_connection_list(content) if content else pasted,
            now=services.clock(),
        )
    except InvalidConnectionList as error:
        return _connect_many_form(request, error=error)
    for each in connected:
        if each.is_new:
            audit(request, AuditAction.BUSINESS_ADDED, business_id=each.business_id)
        audit(
            request,
            AuditAction.CONNECTED,
            business_id=each.business_id,
            project_id=each.project_id,
        )
    address = f"/agency?connected={len(connected)}"
    if "hx-request" in request.headers:
        # Another page altogether, not a part of this one.
        return Response(headers={"HX-Redirect": address})
    return RedirectResponse(address, status_code=303)


def _add_form(
    request: Request,
    *,
    business_id: str = "",
    name: str = "",
    errors: Mapping[str, str] | None = None,
) -> Response:
    return page(
        request,
        "add_business.html",
        status_code=422 if errors else 200,
        business_id=business_id,
        name=name,
        errors=errors or {},
        id_pattern=BUSINESS_ID_PATTERN,
        longest_name=MAX_NAME_LENGTH,
    )


def _connect_many_form(request: Request, *, error: InvalidConnectionList | None = None) -> Response:
    """The form. What was sent is not shown again, for it is full of tokens."""
    return page(
        request,
        "connect_many.html",
        status_code=422 if error else 200,
        error=error,
        columns=COLUMNS,
        most_rows=MAX_ROWS,
    )
