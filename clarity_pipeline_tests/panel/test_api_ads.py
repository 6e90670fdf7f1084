"""Bringing ads through the API, and connecting the accounts that rules act on."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from clarity_pipeline.panel.api_ad_models import MAX_ROWS
from clarity_pipeline.panel.browser_safety import MAX_BODY_BYTES
from clarity_pipeline.store import ad_accounts
from clarity_pipeline.store.ad_entities import read_metric_frame
from clarity_pipeline.store.businesses import add_business
from clarity_pipeline.store.schema import ad_accounts as account_table
from clarity_pipeline_tests.factories import DAY
from clarity_pipeline_tests.panel.conftest import Panel
from clarity_pipeline_tests.panel.test_api_agency import assert_problem

ENTITIES = "/api/agency/ads/entities"
METRICS = "/api/agency/ads/metrics"
ACCOUNTS = "/api/agency/ads/accounts"
TOKEN = "EAAB-a-token-of-meta-1234"

CAMPAIGN = {"platform": "meta", "level": "campaign", "id": "1", "name": "Spring"}
AD = {"platform": "meta", "level": "ad", "id": "3", "parent_id": "1", "status": "ACTIVE"}
UNWRITTEN = {"inserted": 0, "updated": 0, "unchanged": 0}


@pytest.fixture
def program(panel: Panel) -> TestClient:
    """A program of the agency that may write; there are two businesses."""
    for business_id in ("acme", "bolt"):
        add_business(panel.agency.database, business_id=business_id, name="B", now=panel.agency.now)
    return panel.key()


def account(**changes: str) -> dict[str, str]:
    wanted = {"platform": "meta", "account": "123", "business_id": "acme", "token": TOKEN}
    return wanted | changes


def audited(program: TestClient) -> list[tuple[str, str | None, Any]]:
    entries = program.get("/api/agency/audit").json()["entries"]
    return [(each["action"], each["business_id"], each["detail"]) for each in entries]


def test_entities_are_stored_and_what_cannot_be_is_named_by_its_place(program: TestClient) -> None:
    rows = [CAMPAIGN, {**AD, "level": "moon"}, AD, "no object"]
    reply = program.put(ENTITIES, params={"business_id": "acme"}, json=rows)
    assert (reply.status_code, reply.json()) == (
        200,
        {
            "rows": 4,
            "entities": {"inserted": 2, "updated": 0, "unchanged": 0},
            "days": UNWRITTEN,
            "refused": [
                {
                    "row": 2,
                    "reason": "'moon' is no level; there are campaign, ad_set and ad.",
                },
                {"row": 4, "reason": "The row is not an object with names and values."},
            ],
        },
    )
    told = program.get(ENTITIES).json()
    assert [each["id"] for each in told["entities"]] == ["meta:1", "meta:3"]
    assert told["entities"][1] == {
        "id": "meta:3",
        "platform": "meta",
        "platform_id": "3",
        "level": "ad",
        "parent_id": "meta:1",
        "account_id": None,
        "business_id": "acme",
        "name": "3",
        "status": "active",
        "landing_url": None,
        "landing_page": None,
        "daily_budget": None,
        "currency": None,
        "changed_on": None,
    }


def test_the_same_rows_again_change_nothing(program: TestClient) -> None:
    for written in ("inserted", "unchanged"):
        told = program.put(ENTITIES, json=[CAMPAIGN, AD]).json()
        assert told["entities"] == UNWRITTEN | {written: 2}
        days = [{"platform": "meta", "id": "3", "date": str(DAY), "spend": 10.5}]
        assert program.put(METRICS, json=days).json()["days"] == UNWRITTEN | {written: 1}


def test_numbers_are_stored_for_the_entities_that_there_are(
    panel: Panel, program: TestClient
) -> None:
    program.put(ENTITIES, json=[CAMPAIGN, AD])
    rows = [
        {"campaign_id": "1", "ad_id": "3", "date": str(DAY), "spend": "10.5", "ad.leads": 3},
        {"id": 9, "date": str(DAY), "spend": 1},
        {"id": 3, "date": "2999-01-01", "spend": 1},
        {"id": 3, "date": str(DAY), "ad.Bad Name": 1},
    ]
    told = program.put(METRICS, params={"platform": "meta"}, json=rows).json()
    assert told["days"] == UNWRITTEN | {"inserted": 1}
    assert [each["row"] for each in told["refused"]] == [2, 3, 4]
    assert told["refused"][0]["reason"] == "There is no entity meta:9; import it first."
    frame = read_metric_frame(
        panel.agency.database, start=DAY, end=DAY, series=["spend", "ad.leads"]
    )
    assert frame[["spend", "ad.leads"]].to_numpy().tolist() == [[10.5, 3.0]]


def test_rows_of_metas_insights_api_are_taken_as_they_come(program: TestClient) -> None:
    row = {
        "campaign_id": "1",
        "campaign_name": "Spring",
        "adset_id": "2",
        "adset_name": "Wide",
        "account_id": "123",
        "account_currency": "EUR",
    }
    told = program.put(ENTITIES, params={"platform": "meta"}, json=[row]).json()
    assert (told["entities"]["inserted"], told["refused"]) == (2, [])
    entities = program.get(ENTITIES).json()["entities"]
    assert [(each["name"], each["account_id"]) for each in entities] == [
        ("Spring", "meta:act_123"),
        ("Wide", "meta:act_123"),
    ]


def test_entities_come_in_pages_and_by_business(program: TestClient) -> None:
    rows = [
        {**CAMPAIGN, "id": str(number), "business_id": "acme" if number < 6 else "bolt"}
        for number in range(1, 8)
    ]
    program.put(ENTITIES, json=rows)
    seen: list[str] = []
    after: str | None = None
    while True:
        wanted: dict[str, Any] = {"limit": 2, "business_id": "acme"}
        told = program.get(ENTITIES, params=wanted | ({"after": after} if after else {})).json()
        seen += [each["platform_id"] for each in told["entities"]]
        after = told["next_after"]
        if after is None:
            break
    assert seen == ["1", "2", "3", "4", "5"]
    assert_problem(program.get(ENTITIES, params={"business_id": "nobody"}), 404, "unknown_business")
    assert_problem(program.get(ENTITIES, params={"business_id": "No!"}), 422, "invalid_business_id")


def test_a_request_has_so_many_rows_and_no_more(program: TestClient) -> None:
    rows = [{**CAMPAIGN, "id": str(number)} for number in range(1, MAX_ROWS + 1)]
    assert program.put(ENTITIES, json=rows).json()["entities"]["inserted"] == MAX_ROWS
    assert_problem(program.put(ENTITIES, json=[*rows, CAMPAIGN]), 422, "invalid_request")
    days = [
        {
            "platform": "meta",
            "id": f"{number:018d}",
            "date": str(DAY),
            **dict.fromkeys(
                ("spend", "impressions", "clicks", "conversions", "revenue", "ad.link_clicks"),
                123456.78,
            ),
        }
        for number in range(MAX_ROWS)
    ]
    reply = program.put(METRICS, json=days)
    assert int(reply.request.headers["content-length"]) < MAX_BODY_BYTES
    assert reply.json()["rows"] == MAX_ROWS


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"business_id": "nobody"}, 404, "unknown_business"),
        ({"business_id": "No!"}, 422, "invalid_business_id"),
        ({"platform": "Meta Ads"}, 422, "invalid_ad_account"),
    ],
)
def test_what_holds_for_all_rows_refuses_the_request(
    program: TestClient, parameters: dict[str, str], status: int, code: str
) -> None:
    assert_problem(program.put(ENTITIES, params=parameters, json=[CAMPAIGN]), status, code)
    assert program.get(ENTITIES).json()["entities"] == []


@pytest.mark.parametrize("body", ["{}", "null", "5", '"text"', "[1", ""])
def test_what_is_no_array_is_refused(program: TestClient, body: str) -> None:
    for address in (ENTITIES, METRICS):
        reply = program.put(address, content=body, headers={"content-type": "application/json"})
        assert_problem(reply, 422, "invalid_request")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "[[]]", '"\\ud800\\u0000"'])
def test_wild_values_refuse_their_row_in_an_answer_that_can_be_read(
    program: TestClient, value: str
) -> None:
    program.put(ENTITIES, json=[CAMPAIGN])
    body = f'[{{"platform": "meta", "id": "1", "date": "{DAY}", "spend": {value}}}]'
    reply = program.put(METRICS, content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, [each["row"] for each in reply.json()["refused"]]) == (200, [1])


def test_an_account_is_connected_listed_and_forgotten_without_its_token(
    panel: Panel, program: TestClient
) -> None:
    connected = program.put(ACCOUNTS, json=account())
    assert connected.json() == {
        "id": "meta:act_123",
        "platform": "meta",
        "platform_id": "act_123",
        "business_id": "acme",
        "token_last4": "1234",
        "created_at": "2026-11-02T00:15:00Z",
        "updated_at": "2026-11-02T00:15:00Z",
        "disabled_at": None,
        "disabled_reason": None,
    }
    listed = program.get(ACCOUNTS)
    assert listed.json() == {"accounts": [connected.json()]}
    stored = ad_accounts.account_token(panel.agency.database, panel.agency.vault, "meta:act_123")
    assert stored.get_secret_value() == TOKEN
    gone = program.delete(f"{ACCOUNTS}/meta:act_123")
    assert gone.json() == {"id": "meta:act_123", "business_id": "acme"}
    assert_problem(program.delete(f"{ACCOUNTS}/meta:act_123"), 404, "unknown_ad_account")
    assert all(TOKEN not in reply.text for reply in (connected, listed, gone))
    with panel.agency.database.reading() as connection:
        assert connection.execute(select(account_table)).all() == []


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"platform": "Meta Ads"}, 422, "invalid_ad_account"),
        ({"account": "a b"}, 422, "invalid_ad_account"),
        ({"token": f"{TOKEN} and more"}, 422, "invalid_token"),
        ({"business_id": "nobody"}, 404, "unknown_business"),
        ({"business_id": "No!"}, 422, "invalid_business_id"),
        ({"secret": "x"}, 422, "invalid_request"),
        ({"token": ""}, 422, "invalid_request"),
    ],
)
def test_an_account_that_cannot_be_is_refused_without_quoting_its_token(
    program: TestClient, changes: dict[str, str], status: int, code: str
) -> None:
    reply = program.put(ACCOUNTS, json=account(**changes))
    assert_problem(reply, status, code)
    assert TOKEN not in reply.text
    assert program.get(ACCOUNTS).json() == {"accounts": []}


def test_an_account_of_another_business_is_not_taken_over(program: TestClient) -> None:
    program.put(ACCOUNTS, json=account())
    reply = program.put(ACCOUNTS, json=account(business_id="bolt"))
    assert_problem(reply, 422, "invalid_ad_account")
    [listed] = program.get(ACCOUNTS).json()["accounts"]
    assert listed["business_id"] == "acme"


def test_imports_and_accounts_are_on_record_without_a_secret(program: TestClient) -> None:
    program.put(ENTITIES, params={"business_id": "acme"}, json=[CAMPAIGN, 5])
    program.put(ACCOUNTS, json=account())
    program.delete(f"{ACCOUNTS}/meta:act_123")
    counts = {
        "rows": 2,
        "rows_refused": 1,
        "entities_inserted": 1,
        "entities_updated": 0,
        "entities_unchanged": 0,
        "days_inserted": 0,
        "days_updated": 0,
        "days_unchanged": 0,
    }
    assert audited(program) == [
        ("ad_account_disconnected", "acme", {"account": "meta:act_123"}),
        ("ad_account_connected", "acme", {"account": "meta:act_123"}),
        ("ads_imported", "acme", counts),
    ]


def test_the_token_of_an_account_is_write_only_in_the_document(panel: Panel) -> None:
    schemas = panel.anybody().get("/api/openapi.json").json()["components"]["schemas"]
    assert schemas["AdAccountChange"]["properties"]["token"]["writeOnly"]
    assert "token" not in schemas["AdAccountTold"]["properties"]
