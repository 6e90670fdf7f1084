"""The agency's overview, adding a business, connecting many, and deleting a history."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.operations.rebuild_day import rebuild
from clarity_pipeline.store import businesses, connections
from clarity_pipeline.store.audit_log import list_audit
from clarity_pipeline_tests.agency import DAY, Agency
from clarity_pipeline_tests.factories import make_token
from clarity_pipeline_tests.landing import land_days
from clarity_pipeline_tests.panel.conftest import Panel
from clarity_pipeline_tests.panel.reading import Page
from clarity_pipeline_tests.stored_days import store_day, sums

PURGE = "/agency/businesses/acme/clarity/purge"


def look(browser: TestClient, address: str = "/agency") -> Page:
    reply = browser.get(address)
    assert reply.status_code == 200, reply.text
    return Page(reply.text)


def names(page: Page) -> list[str]:
    return [each["data-business"] for each in page.with_attribute("data-business")]


def directions(page: Page) -> tuple[str, ...]:
    """How the columns are sorted that are."""
    said = (each["aria-sort"] for each in page.with_attribute("aria-sort"))
    return tuple(direction for direction in said if direction != "none")


def add(agency: Agency, *business_ids: str) -> None:
    for each in business_ids:
        businesses.add_business(
            agency.database, business_id=each, name=each.title(), now=agency.now
        )


def collect(agency: Agency, business_id: str) -> None:
    land_days(agency.database, business_ids=[business_id], days=[DAY])
    rebuild(agency.database, day=DAY, now=agency.now)


# Overview


def test_an_empty_agency_is_told_how_to_begin(panel: Panel) -> None:
    page = look(panel.agency_person())
    assert "Begin with a business" in page.text("businesses")
    assert "/agency/businesses/add" in {each["href"] for each in page.with_attribute("href")}


def test_every_business_is_a_row_with_its_state_and_leads_to_its_page(panel: Panel) -> None:
    panel.agency.connect("acme")
    add(panel.agency, "globex")
    collect(panel.agency, "acme")
    page = look(panel.agency_person())
    states = {
        each["data-business"]: each["data-state"] for each in page.with_attribute("data-business")
    }
    assert states == {"acme": "connected", "globex": "not_connected"}
    said = page.text("businesses")
    assert "1 Nov 2026" in said
    assert "0 of 10" in said
    links = {each["href"] for each in page.with_attribute("href")}
    assert "/agency/businesses/globex/clarity" in links


def test_rage_clicks_are_per_100_sessions_for_a_session_can_have_several(panel: Panel) -> None:
    add(panel.agency, "acme")
    store_day(panel.agency.database, DAY, sums(rage_clicks=25, rage_click_sessions=10))
    page = look(panel.agency_person())
    assert "per 100 sessions" in page.text("sort-rage_click_rate")
    assert " 250.0 " in page.text("businesses")


def test_businesses_are_searched_and_filtered_and_the_filter_says_how_many_there_are(
    panel: Panel,
) -> None:
    panel.agency.connect("acme")
    add(panel.agency, "globex", "globex-two", "initech")
    browser = panel.agency_person()
    assert sorted(names(look(browser, "/agency?q=GLOBEX"))) == ["globex", "globex-two"]
    assert names(look(browser, "/agency?state=never_tested")) == ["acme"]
    page = look(browser, "/agency?q=globex&state=never_tested")
    assert "No business matches" in page.text("businesses")
    assert "All 2" in page.text("state-filter")
    assert names(look(browser, "/agency?state=odd")) != []


@pytest.mark.parametrize(
    "column",
    ["name", "state", "last_synced", "freshness", "quota", "rage_click_rate", "sessions"],
)
def test_each_column_sorts_and_turns_round_at_the_second_click(panel: Panel, column: str) -> None:
    add(panel.agency, "acme", "globex")
    browser = panel.agency_person()
    start = "/agency?sort=name" if column == "state" else "/agency"
    first = look(browser, look(browser, start).attributes(f"sort-{column}")["href"])
    second = look(browser, first.attributes(f"sort-{column}")["href"])
    assert {directions(first), directions(second)} == {("ascending",), ("descending",)}


def test_sorting_keeps_what_was_searched(panel: Panel) -> None:
    add(panel.agency, "acme", "acme-two", "globex")
    browser = panel.agency_person()
    page = look(browser, "/agency?q=acme")
    assert names(look(browser, page.attributes("sort-name")["href"])) == ["acme", "acme-two"]


def test_fifty_are_on_a_page(panel: Panel) -> None:
    add(panel.agency, *(f"b{number:03d}" for number in range(52)))
    browser = panel.agency_person()
    first = look(browser, "/agency?sort=name")
    (following,) = [each["href"] for each in first.with_attribute("rel") if each["rel"] == "next"]
    second = look(browser, following)
    assert (len(names(first)), names(second)) == (50, ["b050", "b051"])


def test_a_name_cannot_put_anything_into_the_page(panel: Panel) -> None:
    agency = panel.agency
    name = '<script>alert("x")</script>'
    businesses.add_business(agency.database, business_id="acme", name=name, now=agency.now)
    browser = panel.agency_person()
    for address in ("/agency", "/agency/businesses/acme/clarity", f"/agency?q={name}"):
        assert "<script>alert" not in browser.get(address).text


# Adding one


def test_adding_a_business_goes_on_to_its_connection_and_is_audited(panel: Panel) -> None:
    browser = panel.agency_person()
    reply = browser.post(
        "/agency/businesses/add", data={"business_id": "acme", "name": " Acme Dental "}
    )
    assert reply.headers["location"] == "/agency/businesses/acme/clarity"
    assert businesses.get_business(panel.agency.database, "acme").name == "Acme Dental"
    (entry,) = list_audit(panel.agency.database, business_id="acme")
    assert (entry.action, entry.actor) == (AuditAction.BUSINESS_ADDED, "ada@agency.example")


def test_what_is_wrong_with_a_new_business_is_said_next_to_its_field(panel: Panel) -> None:
    browser = panel.agency_person()
    reply = browser.post("/agency/businesses/add", data={"business_id": "Acme!", "name": "x" * 900})
    page = Page(reply.text)
    assert reply.status_code == 422
    assert "is not a business id" in page.text("business-id-error")
    assert "characters" in page.text("business-name-error")
    add(panel.agency, "acme")
    taken = browser.post("/agency/businesses/add", data={"business_id": "acme", "name": "Acme"})
    assert "There is already a business 'acme'" in Page(taken.text).text("business-id-error")
    assert list_audit(panel.agency.database) == []


# Connecting many


def listed(*rows: str) -> str:
    return "\n".join(("business_id,name,project_id,token", *rows))


def test_a_pasted_list_connects_all_of_its_rows_and_each_is_audited(panel: Panel) -> None:
    agency = panel.agency
    add(agency, "globex")
    text = listed(
        f"acme,Acme,abc123xyz0,{make_token()}",
        f"globex,,abc123xyz1,{make_token(project_id='abc123xyz1')}",
    )
    browser = panel.agency_person()
    reply = browser.post("/agency/connect-many", data={"pasted": text})
    assert reply.headers["location"] == "/agency?connected=2"
    assert "2 businesses were connected" in look(browser, "/agency?connected=2").text("connected")
    assert {record.project_id for record in connections.list_connections(agency.database)} == {
        "abc123xyz0",
        "abc123xyz1",
    }
    assert [(e.business_id, e.action.value) for e in reversed(list_audit(agency.database))] == [
        ("acme", "business_added"),
        ("acme", "connected"),
        ("globex", "connected"),
    ]


def test_an_uploaded_file_does_the_same(panel: Panel) -> None:
    content = listed(f"acme,Acme,abc123xyz0,{make_token()}").encode("utf-8-sig")
    reply = panel.agency_person().post(
        "/agency/connect-many", files={"file": ("list.csv", content, "text/csv")}
    )
    assert reply.headers["location"] == "/agency?connected=1"


def test_one_bad_row_keeps_all_of_them_out_and_its_line_is_named(panel: Panel) -> None:
    agency = panel.agency
    token = make_token()
    text = listed(f"acme,Acme,abc123xyz0,{token}", f"globex,Globex,{token},abc123xyz0")
    reply = panel.agency_person().post("/agency/connect-many", data={"pasted": text})
    page = Page(reply.text)
    assert reply.status_code == 422
    assert "1 of 2 rows cannot be used, so none was connected" in page.text("list-refused")
    assert "3 The project_id is not 6 to 20 letters and digits." in page.text("list-refused")
    assert token not in reply.text
    assert businesses.list_businesses(agency.database) == []
    assert list_audit(agency.database) == []


def test_a_file_that_is_no_text_and_no_list_at_all_are_refused_in_a_sentence(panel: Panel) -> None:
    browser = panel.agency_person()
    picture = browser.post(
        "/agency/connect-many", files={"file": ("list.csv", b"\xff\xfe\x00x", "text/csv")}
    )
    assert "not UTF-8" in Page(picture.text).text("list-refused")
    nothing = browser.post("/agency/connect-many", data={"pasted": ""})
    assert nothing.status_code == 422
    assert "list-refused" in Page(nothing.text)


def test_to_htmx_the_success_is_another_page_and_a_refusal_a_part_of_this_one(
    panel: Panel,
) -> None:
    browser = panel.agency_person()
    browser.headers["hx-request"] = "true"
    text = listed(f"acme,Acme,abc123xyz0,{make_token()}")
    done = browser.post("/agency/connect-many", data={"pasted": text})
    assert done.headers["hx-redirect"] == "/agency?connected=1"


# Deleting a history


def test_a_history_is_deleted_only_after_its_id_was_typed(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    collect(agency, "acme")
    connections.disconnect(agency.database, business_id="acme", now=agency.now)
    browser = panel.agency_person()
    page = look(browser, PURGE)
    assert "everything from Sun 1 Nov 2026 to Sun 1 Nov 2026" in page.text("purge")
    total = int(page.text("purge-total").replace(",", ""))
    wrong = browser.post(PURGE, data={"typed_id": "ACME"})
    assert wrong.status_code == 422
    assert "Type the id acme" in Page(wrong.text).text("typed-id-error")
    assert int(Page(wrong.text).text("purge-total").replace(",", "")) == total
    done = browser.post(PURGE, data={"typed_id": " acme "})
    assert done.headers["location"] == "/agency/businesses/acme/clarity?done=purged"
    assert "nothing to delete" in look(browser, PURGE).text("purge")
    entry = list_audit(agency.database, business_id="acme")[0]
    assert entry.action is AuditAction.PURGED
    assert entry.detail == {"rows": total, "days": 1}


def test_a_connected_business_keeps_its_history_whatever_is_typed(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    collect(agency, "acme")
    browser = panel.agency_person()
    page = look(browser, PURGE)
    assert "Disconnect this business first" in page.text("purge-refused")
    assert "purge-form" not in page
    assert browser.post(PURGE, data={"typed_id": "acme"}).status_code == 409
    assert int(look(browser, PURGE).text("purge-total").replace(",", "")) > 0
    assert list_audit(agency.database) == []


@pytest.mark.parametrize(
    "address",
    [
        "/agency",
        "/agency/connect-many",
        "/agency/businesses/add",
        PURGE,
        "/agency/businesses/acme/clarity/history",
    ],
)
def test_a_client_is_let_into_nothing_of_the_agencys(panel: Panel, address: str) -> None:
    panel.agency.connect("acme")
    client = panel.client_of("acme")
    assert client.get(address).status_code == 403
    assert client.get("/client/clarity/purge").status_code == 404
