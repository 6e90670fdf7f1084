"""Every route of the application, asked for by everybody there is.

A route that is missing in ROUTES fails the first test: whoever adds one says here whom it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Final

from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from clarity_pipeline.domain.access import Audience, KeyScope
from clarity_pipeline.store.api_keys import list_keys, revoke_key
from clarity_pipeline.store.panel_users import revoke_user
from clarity_pipeline_tests.panel.conftest import Panel

ROUTES: Final[Mapping[str, Audience]] = {
    "GET /login": Audience.PUBLIC,
    "POST /login": Audience.PUBLIC,
    "GET /setup": Audience.PUBLIC,
    "POST /setup": Audience.PUBLIC,
    "GET /": Audience.SIGNED_IN,
    "POST /logout": Audience.SIGNED_IN,
    "GET /account": Audience.SIGNED_IN,
    "POST /account/password": Audience.SIGNED_IN,
    "POST /account/sign-out-everywhere": Audience.SIGNED_IN,
    "GET /agency/people": Audience.AGENCY_PEOPLE,
    "POST /agency/people": Audience.AGENCY_PEOPLE,
    "POST /agency/people/password": Audience.AGENCY_PEOPLE,
    "POST /agency/people/revoke": Audience.AGENCY_PEOPLE,
    "GET /agency/keys": Audience.AGENCY_PEOPLE,
    "POST /agency/keys": Audience.AGENCY_PEOPLE,
    "POST /agency/keys/revoke": Audience.AGENCY_PEOPLE,
    "GET /agency/audit": Audience.AGENCY_PEOPLE,
    "GET /agency": Audience.AGENCY,
    "GET /agency/businesses/add": Audience.AGENCY,
    "POST /agency/businesses/add": Audience.AGENCY,
    "GET /agency/connect-many": Audience.AGENCY,
    "POST /agency/connect-many": Audience.AGENCY,
    "GET /agency/businesses/{business_id}/clarity/purge": Audience.AGENCY,
    "POST /agency/businesses/{business_id}/clarity/purge": Audience.AGENCY,
    "GET /agency/rules": Audience.AGENCY,
    "POST /agency/rules": Audience.AGENCY,
    "GET /agency/rules/new": Audience.AGENCY,
    "POST /agency/rules/preview": Audience.AGENCY,
    "POST /agency/rules/switch": Audience.AGENCY,
    "POST /agency/rules/visibility": Audience.AGENCY,
    "GET /agency/rules/decisions": Audience.AGENCY,
    "GET /agency/rules/decisions/{address}": Audience.AGENCY,
    "GET /agency/rules/actions": Audience.AGENCY,
    "POST /agency/rules/actions/{action_id}/approve": Audience.AGENCY,
    "POST /agency/rules/actions/{action_id}/reject": Audience.AGENCY,
    "GET /agency/rules/{rule_id}": Audience.AGENCY,
    "POST /agency/rules/{rule_id}": Audience.AGENCY,
    "GET /agency/rules/{rule_id}/edit": Audience.AGENCY,
    "GET /agency/rules/{rule_id}/versions": Audience.AGENCY,
    "GET /agency/rules/{rule_id}/backtest": Audience.AGENCY,
    "GET /agency/rules/{rule_id}/backtest-days.csv": Audience.AGENCY,
    "GET /agency/rules/{rule_id}/backtest-entities.csv": Audience.AGENCY,
    "POST /agency/rules/{rule_id}/status": Audience.AGENCY,
    "POST /agency/rules/{rule_id}/archive": Audience.AGENCY,
    "GET /client/rules": Audience.CLIENT,
    "GET /client/rules/decisions/{address}": Audience.CLIENT,
    "GET /api/openapi.json": Audience.PUBLIC,
    "GET /api/agency/businesses": Audience.AGENCY,
    "POST /api/agency/businesses": Audience.AGENCY,
    "POST /api/agency/connections": Audience.AGENCY,
    "GET /api/agency/audit": Audience.AGENCY,
    "GET /api/agency/ads/entities": Audience.AGENCY,
    "PUT /api/agency/ads/entities": Audience.AGENCY,
    "PUT /api/agency/ads/metrics": Audience.AGENCY,
    "GET /api/agency/ads/accounts": Audience.AGENCY,
    "PUT /api/agency/ads/accounts": Audience.AGENCY,
    "DELETE /api/agency/ads/accounts/{account_id}": Audience.AGENCY,
    "GET /api/agency/businesses/{business_id}/clarity/history": Audience.AGENCY,
    "POST /api/agency/businesses/{business_id}/clarity/purge": Audience.AGENCY,
    "PUT /api/agency/businesses/{business_id}/rules/visibility": Audience.AGENCY,
    "GET /api/agency/rules": Audience.AGENCY,
    "POST /api/agency/rules": Audience.AGENCY,
    "GET /api/agency/rules/schema": Audience.AGENCY,
    "GET /api/agency/rules/switch": Audience.AGENCY,
    "PUT /api/agency/rules/switch": Audience.AGENCY,
    "POST /api/agency/rules/preview": Audience.AGENCY,
    "GET /api/agency/rules/decisions": Audience.AGENCY,
    "GET /api/agency/rules/decisions/{address}": Audience.AGENCY,
    "GET /api/agency/rules/actions": Audience.AGENCY,
    "POST /api/agency/rules/actions/{action_id}/approve": Audience.AGENCY,
    "POST /api/agency/rules/actions/{action_id}/reject": Audience.AGENCY,
    "GET /api/agency/rules/{rule_id}": Audience.AGENCY,
    "PUT /api/agency/rules/{rule_id}": Audience.AGENCY,
    "PUT /api/agency/rules/{rule_id}/status": Audience.AGENCY,
    "POST /api/agency/rules/{rule_id}/archive": Audience.AGENCY,
    "GET /api/agency/rules/{rule_id}/versions": Audience.AGENCY,
    "GET /api/agency/rules/{rule_id}/backtest": Audience.AGENCY,
    "GET /api/client/rules": Audience.CLIENT,
    "GET /api/client/rules/decisions": Audience.CLIENT,
    "GET /api/client/rules/decisions/{address}": Audience.CLIENT,
}
"""Whom every route is for, except those of a business."""

ROUTES_OF_A_BUSINESS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("/agency/businesses/{business_id}/clarity", "/client/clarity"): frozenset(
        {
            "GET ",
            "GET /data",
            "GET /data/breakdown.csv",
            "GET /data/pages.csv",
            "GET /data/series.csv",
            "GET /disconnect",
            "GET /history",
            "GET /progress",
            "POST /connection",
            "POST /disconnect",
            "POST /enabled",
            "POST /sync",
            "POST /test",
        }
    ),
    ("/api/agency/businesses/{business_id}/clarity", "/api/client/clarity"): frozenset(
        {
            "GET /config",
            "PUT /config",
            "DELETE /config",
            "POST /test",
            "PUT /enabled",
            "GET /quota",
            "POST /sync-requests",
            "GET /sync-requests/{request_id}",
            "GET /jobs",
            "GET /aggregates",
            "GET /series",
            "GET /pages",
            "GET /breakdown",
            "GET /days",
        }
    ),
}
"""Methods and paths that are there for the agency, below the first prefix, and for clients."""


class Answer(StrEnum):
    LET_IN = "let in"
    SIGN_IN_FIRST = "sign in first"
    FORBIDDEN = "forbidden"


class Asker(StrEnum):
    ANONYMOUS = "anonymous"
    CLIENT = "client of the business"
    CLIENT_OF_ANOTHER = "client of another business"
    AGENCY = "agency person"
    AGENCY_READ_KEY = "read key of the agency"
    AGENCY_WRITE_KEY = "write key of the agency"
    CLIENT_READ_KEY = "read key of the business"
    CLIENT_WRITE_KEY = "write key of the business"
    REVOKED_USER = "revoked user"
    REVOKED_KEY = "revoked key"


_LET_IN: Final[Mapping[Audience, frozenset[Asker]]] = {
    Audience.PUBLIC: frozenset(Asker),
    Audience.SIGNED_IN: frozenset({Asker.CLIENT, Asker.CLIENT_OF_ANOTHER, Asker.AGENCY}),
    Audience.AGENCY: frozenset({Asker.AGENCY, Asker.AGENCY_READ_KEY, Asker.AGENCY_WRITE_KEY}),
    Audience.AGENCY_PEOPLE: frozenset({Asker.AGENCY}),
    Audience.CLIENT: frozenset(
        {Asker.CLIENT, Asker.CLIENT_OF_ANOTHER, Asker.CLIENT_READ_KEY, Asker.CLIENT_WRITE_KEY}
    ),
}
_STRANGERS: Final = frozenset({Asker.ANONYMOUS, Asker.REVOKED_USER, Asker.REVOKED_KEY})
_READ_ONLY: Final = frozenset({Asker.AGENCY_READ_KEY, Asker.CLIENT_READ_KEY})


def expected(route: str, audience: Audience, asker: Asker) -> Answer:
    """What the asker must get, spelled out apart from the code that decides it."""
    if audience is Audience.PUBLIC:
        return Answer.LET_IN
    if asker in _STRANGERS:
        return Answer.SIGN_IN_FIRST
    if asker in _READ_ONLY and not route.startswith("GET "):
        return Answer.FORBIDDEN
    return Answer.LET_IN if asker in _LET_IN[audience] else Answer.FORBIDDEN


def all_routes() -> dict[str, Audience]:
    routes = dict(ROUTES)
    for agency_side, client_side, method, path in routes_of_a_business():
        routes[f"{method} {agency_side}{path}"] = Audience.AGENCY
        routes[f"{method} {client_side}{path}"] = Audience.CLIENT
    return routes


def routes_of_a_business() -> Iterator[tuple[str, str, str, str]]:
    for (agency_side, client_side), routes in ROUTES_OF_A_BUSINESS.items():
        for route in sorted(routes):
            method, path = route.split(" ")
            yield agency_side, client_side, method, path


def routes_of(panel: Panel) -> Iterator[str]:
    for route in iter_route_contexts(panel.app.routes):
        if route.name != "static":
            for method in route.methods or {"?"}:
                yield f"{method} {route.path}".replace(":int}", "}")


def test_every_route_says_here_whom_it_is_for(panel: Panel) -> None:
    assert sorted(routes_of(panel)) == sorted(all_routes())


def test_everybody_gets_in_where_they_may_and_nowhere_else(panel: Panel) -> None:
    panel.agency.connect("acme")
    panel.agency.connect("globex")
    wrong: dict[tuple[str, str], tuple[str, str]] = {}
    askers = {asker: _make(panel, asker, 0) for asker in Asker}
    for number, (route, audience) in enumerate(sorted(all_routes().items()), start=1):
        for asker in Asker:
            browser = askers[asker]
            if not route.startswith("GET "):
                # What a form does may end the session, or more.
                browser = _make(panel, asker, number)
            answer = _ask(browser, route)
            if answer != expected(route, audience, asker):
                wrong[route, asker] = (expected(route, audience, asker), answer)
    assert wrong == {}


def test_a_client_gets_the_same_bytes_whether_another_business_exists_or_not(
    panel: Panel,
) -> None:
    panel.agency.connect("acme")
    panel.agency.connect("globex")
    askers = [panel.client_of("acme"), panel.key(business_id="acme"), panel.anybody()]
    for agency_side, _, method, path in routes_of_a_business():
        for browser in askers:
            there, nowhere = (
                browser.request(
                    method, (agency_side + path).format(business_id=business_id, request_id=1)
                )
                for business_id in ("globex", "nowhere")
            )
            assert there.status_code == nowhere.status_code
            assert there.text.replace("globex", "nowhere") == nowhere.text
            assert {k: v.replace("globex", "nowhere") for k, v in there.headers.items()} == dict(
                nowhere.headers
            )


def test_a_client_reaches_no_business_but_its_own_whatever_it_sends(panel: Panel) -> None:
    panel.agency.connect("acme")
    panel.agency.connect("globex")
    for browser in (panel.client_of("acme"), panel.key(business_id="acme")):
        for _, client_side, method, path in routes_of_a_business():
            reply = browser.request(
                method,
                client_side + path.format(request_id=1),
                params={"business_id": "globex", "business": "globex"},
                headers={"x-business-id": "globex"},
            )
            assert "globex" not in reply.text, path
    assert all(call.project_id != "project002" for call in panel.agency.calls())


def _ask(browser: TestClient, route: str) -> Answer:
    method, path = route.split(" ")
    reply = browser.request(
        method,
        path.format(
            business_id="acme",
            request_id=1,
            account_id="meta:act_1",
            rule_id=1,
            action_id=1,
            address="1-0",
        ),
    )
    assert reply.status_code < 500, route
    # Signing out leads there too, but takes the cookie away.
    to_login = reply.headers.get("location", "").startswith("/login")
    to_login = to_login and "set-cookie" not in reply.headers
    if reply.status_code == 401 or to_login:
        return Answer.SIGN_IN_FIRST
    return Answer.FORBIDDEN if reply.status_code == 403 else Answer.LET_IN


def _make(panel: Panel, asker: Asker, number: int) -> TestClient:
    return _MAKERS[asker](panel, f"{asker.name.lower()}{number}")


def _revoked_user(panel: Panel, login: str) -> TestClient:
    browser = panel.agency_person(login)
    revoke_user(panel.agency.database, login=login, now=panel.agency.now)
    return browser


def _revoked_key(panel: Panel, name: str) -> TestClient:
    program = panel.key(name=name)
    [key] = [key for key in list_keys(panel.agency.database) if key.name == name]
    assert revoke_key(panel.agency.database, key_id=key.id, now=panel.agency.now)
    return program


_MAKERS: Final[Mapping[Asker, Callable[[Panel, str], TestClient]]] = {
    Asker.ANONYMOUS: lambda panel, _: panel.anybody(),
    Asker.CLIENT: lambda panel, name: panel.client_of("acme", name),
    Asker.CLIENT_OF_ANOTHER: lambda panel, name: panel.client_of("globex", name),
    Asker.AGENCY: lambda panel, name: panel.agency_person(name),
    Asker.AGENCY_READ_KEY: lambda panel, name: panel.key(scope=KeyScope.READ, name=name),
    Asker.AGENCY_WRITE_KEY: lambda panel, name: panel.key(name=name),
    Asker.CLIENT_READ_KEY: lambda panel, name: panel.key(
        scope=KeyScope.READ, business_id="acme", name=name
    ),
    Asker.CLIENT_WRITE_KEY: lambda panel, name: panel.key(business_id="acme", name=name),
    Asker.REVOKED_USER: _revoked_user,
    Asker.REVOKED_KEY: _revoked_key,
}
