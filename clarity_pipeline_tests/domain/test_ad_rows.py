"""What a row about ads says, and why another one is refused."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.ad_kinds import AdRowKind
from clarity_pipeline.domain.ad_rows import (
    FIELDS,
    FIRST_DAY,
    LARGEST_NUMBER,
    MAX_FURTHER_SUMS,
    MAX_NAME_LENGTH,
    MAX_URL_LENGTH,
    STATUSES,
    GatheredRows,
    RowDefaults,
    gather_rows,
)
from clarity_pipeline.domain.ads import AdDay
from clarity_pipeline.domain.rules.model import EntityStatus, Level

TODAY = date(2026, 11, 2)
META = RowDefaults(platform="meta")

AD = {"platform": "meta", "level": "ad", "id": "7"}
DAY = {"platform": "meta", "id": "7", "date": "2026-11-01", "spend": 1.5}
PATH = {
    "platform": "meta",
    "campaign_id": "1",
    "campaign_name": "Spring",
    "ad_set_id": "2",
    "ad_set_name": "Wide",
    "ad_id": "3",
    "ad_name": "Blue",
}


def gather(*rows: object, defaults: RowDefaults = META) -> GatheredRows:
    return gather_rows(enumerate(rows, start=1), defaults=defaults, today=TODAY)


def said(row: dict[str, Any], defaults: RowDefaults = META) -> dict[str, Any]:
    """What one row says of the entity that it is about."""
    gathered = gather(row, defaults=defaults)
    assert gathered.refused == {}
    return list(gathered.facts.values())[-1].said


def day_of(row: dict[str, Any]) -> AdDay:
    gathered = gather(row)
    assert gathered.refused == {}
    [(line, day)] = gathered.days
    assert line == 1
    return day


def refusal(row: object, defaults: RowDefaults = META) -> str:
    """Why a row is refused, which says one sentence and takes nothing out of it."""
    gathered = gather(row, defaults=defaults)
    assert (gathered.count, gathered.facts, gathered.days) == (1, {}, [])
    assert gathered.refused[1].endswith(".")
    return gathered.refused[1]


def test_a_row_about_one_entity_says_what_it_names_and_nothing_else() -> None:
    assert said(AD) == {"level": Level.AD}
    assert said(
        {
            **AD,
            "parent_id": "6",
            "account_id": "123",
            "business_id": "acme",
            "name": "  Blue  ",
            "status": "ACTIVE",
            "landing_url": "https://acme.example/",
            "daily_budget": "12.50",
            "currency": "eur",
            "changed_on": "2026-10-30",
        }
    ) == {
        "level": Level.AD,
        "parent_id": "meta:6",
        "account_id": "meta:act_123",
        "business_id": "acme",
        "name": "Blue",
        "status": EntityStatus.ACTIVE,
        "landing_url": "https://acme.example/",
        "daily_budget": 12.5,
        "currency": "EUR",
        "changed_on": date(2026, 10, 30),
    }


def test_a_row_with_a_path_says_who_hangs_from_whom() -> None:
    row = {**PATH, "landing_url": "https://a.example/", "ad_status": "PAUSED", "currency": "EUR"}
    gathered = gather(row)
    assert {each.id: each.said for each in gathered.facts.values()} == {
        "meta:1": {"level": Level.CAMPAIGN, "name": "Spring", "currency": "EUR"},
        "meta:2": {
            "level": Level.AD_SET,
            "name": "Wide",
            "currency": "EUR",
            "parent_id": "meta:1",
        },
        "meta:3": {
            "level": Level.AD,
            "name": "Blue",
            "currency": "EUR",
            "parent_id": "meta:2",
            "status": EntityStatus.PAUSED,
            "landing_url": "https://a.example/",
        },
    }


def test_an_ad_can_hang_from_a_campaign_where_a_platform_has_no_ad_sets() -> None:
    gathered = gather({"campaign_id": "1", "ad_id": "3", "ad_name": "Blue"})
    assert list(gathered.facts) == ["meta:1", "meta:3"]
    assert gathered.facts["meta:3"].said["parent_id"] == "meta:1"


def test_a_day_is_of_the_deepest_entity_that_a_row_names() -> None:
    row = {**PATH, "date": "2026-11-01", "spend": "1.5", "revenue": -2, "ad.leads": "3"}
    assert day_of(row) == AdDay(
        entity_id="meta:3",
        day=date(2026, 11, 1),
        spend=1.5,
        revenue=-2.0,
        further={"leads": 3.0},
    )


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (AD, AdRowKind.ENTITIES),
        ({**AD, "name": "Blue"}, AdRowKind.ENTITIES),
        (DAY, AdRowKind.METRICS),
        ({**DAY, "level": "ad", "account_id": "1"}, AdRowKind.METRICS),
        ({"campaign_id": 1, "ad_id": 2, "date": "2026-11-01", "ad.leads": 3}, AdRowKind.METRICS),
        ({**DAY, "name": ""}, AdRowKind.BOTH),
        ({**PATH, "date": "2026-11-01", "spend": 1}, AdRowKind.BOTH),
    ],
)
def test_what_is_taken_follows_from_the_names_in_a_row(
    row: dict[str, Any], kind: AdRowKind
) -> None:
    gathered = gather(row)
    assert gathered.refused == {}
    found = {(True, False): "entities", (False, True): "metrics", (True, True): "both"}
    assert found[bool(gathered.facts), bool(gathered.days)] == kind


def test_one_kind_is_taken_alone_where_that_is_asked_for() -> None:
    row = {**PATH, "date": "2026-11-01", "spend": 1}
    entities = gather(row, defaults=RowDefaults(kind=AdRowKind.ENTITIES, platform="meta"))
    assert (list(entities.facts), entities.days) == (["meta:1", "meta:2", "meta:3"], [])
    metrics = gather(row, defaults=RowDefaults(kind=AdRowKind.METRICS, platform="meta"))
    assert (metrics.facts, len(metrics.days)) == ({}, 1)


def test_what_holds_for_all_rows_gives_way_to_what_a_row_says() -> None:
    every = RowDefaults(platform="meta", business_id="acme", account="act_1")
    assert said({"level": "ad", "id": "7"}, every) == {
        "level": Level.AD,
        "business_id": "acme",
        "account_id": "meta:act_1",
    }
    row = {**AD, "platform": "TikTok", "business_id": "bolt", "account_id": "9"}
    assert said(row, every) == {
        "level": Level.AD,
        "business_id": "bolt",
        "account_id": "tiktok:9",
    }


def test_an_empty_cell_says_nothing_and_null_that_there_is_none() -> None:
    names = ("parent_id", "account_id", "landing_url", "daily_budget", "currency", "changed_on")
    assert said({**AD, **dict.fromkeys(names, " ")}) == {"level": Level.AD}
    assert said({**AD, **dict.fromkeys(names)}) == {"level": Level.AD, **dict.fromkeys(names)}
    assert said({**AD, "name": None, "status": None, "business_id": None}) == {"level": Level.AD}


def test_a_row_that_says_null_is_not_taken_for_one_that_says_nothing() -> None:
    gathered = gather({**AD, "name": "A"}, {**AD, "name": "A", "landing_url": None})
    assert gathered.facts["meta:7"].said["landing_url"] is None


def test_numbers_are_read_as_json_and_as_text_have_them() -> None:
    for text, number in {
        "0": 0.0,
        " 12.50 ": 12.5,
        "1e3": 1000.0,
        ".5": 0.5,
        "+7": 7.0,
        "-0": 0.0,
    }.items():
        spend = day_of({**DAY, "spend": text}).spend
        assert spend == number
        assert math.copysign(1, spend or 0) == 1
    assert day_of({**DAY, "spend": 3}).spend == 3.0


def test_a_day_without_any_number_is_no_day() -> None:
    assert refusal({**DAY, "spend": "", "ad.leads": None}) == "It has no number."
    gathered = gather({**DAY, "spend": "", "name": "Blue"})
    assert (list(gathered.facts), gathered.days) == (["meta:7"], [])


def test_a_report_of_one_day_needs_no_column_for_it() -> None:
    row = {"id": "7", "spend": 1, "first_day": "2026-11-01", "last_day": "2026-11-01"}
    assert day_of(row).day == date(2026, 11, 1)
    assert day_of({**row, "date": "2026-10-31"}).day == date(2026, 10, 31)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("ACTIVE", "active"),
        ("Enabled", "active"),
        ("not delivering", "active"),
        ("WITH_ISSUES", "active"),
        ("PAUSED", "paused"),
        ("CAMPAIGN_PAUSED", "paused"),
        ("ADSET_PAUSED", "paused"),
        ("inactive", "paused"),
        ("DISAPPROVED", "paused"),
        ("DELETED", "deleted"),
        ("ARCHIVED", "deleted"),
        ("Removed", "deleted"),
    ],
)
def test_the_words_of_platforms_are_brought_to_three(word: str, status: str) -> None:
    assert said({**AD, "status": word})["status"] == EntityStatus(status)


def test_every_status_is_known_in_any_writing() -> None:
    for word, status in STATUSES.items():
        assert said({**AD, "status": word.replace("_", "-").upper()})["status"] is status


@pytest.mark.parametrize("word", ["ad set", "AdSet", "ad_group", "AD-SET", "adgroup"])
def test_an_ad_set_has_several_names(word: str) -> None:
    assert said({**AD, "level": word})["level"] is Level.AD_SET


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "not an object"),
        ([AD], "not an object"),
        ("meta:7", "not an object"),
        ({**AD, "spnd": 1}, "'spnd' is not a name"),
        ({**AD, 5: 1}, "'5' is not a name"),
        ({**DAY, "ad.Add To Cart": 1}, "'ad.Add To Cart' is not the name of a further sum"),
        ({**DAY, "ad." + "x" * 41: 1}, "not the name of a further sum"),
        ({**DAY, "ad.": 1}, "not the name of a further sum"),
        ({"level": "ad"}, "id is missing"),
        ({"level": "ad", "id": " "}, "id is missing"),
        ({**PATH, "campaign_id": None, "ad_set_id": "", "ad_id": None}, "id is missing"),
        ({**AD, "platform": "Meta Ads"}, "not the name of a platform"),
        ({**AD, "platform": 5}, "platform is not text"),
        ({**AD, "id": "1.20208E+17"}, "rounds long numbers"),
        ({**AD, "id": "120208.0"}, "rounds long numbers"),
        ({**AD, "id": 1.5}, "rounds long numbers"),
        ({**AD, "id": True}, "rounds long numbers"),
        ({**AD, "id": "a b"}, "rounds long numbers"),
        ({**AD, "id": "=1+1"}, "rounds long numbers"),
        ({**AD, "id": "7" * 151}, "rounds long numbers"),
        ({**AD, "id": 10**5000}, "rounds long numbers"),
        ({**AD, "id": -7}, "rounds long numbers"),
        ({**AD, "id": ["7"]}, "rounds long numbers"),
        ({**AD, "level": "business"}, "'business' is no level"),
        ({**AD, "level": "landing_page"}, "no level"),
        ({**AD, "level": 5}, "level is not text"),
        ({**AD, "parent_id": "a b"}, "parent_id"),
        ({**AD, "account_id": "a b"}, "account_id"),
        ({**AD, "business_id": "Not An Id"}, "not the id of a business"),
        ({**AD, "status": "sleeping"}, "'sleeping' is no status"),
        ({**AD, "name": "x" * (MAX_NAME_LENGTH + 1)}, "longer than 500"),
        ({**AD, "name": 5}, "name is not text"),
        ({**AD, "landing_url": "acme.example/a"}, "no address"),
        ({**AD, "landing_url": "https://a.example/" + "x" * MAX_URL_LENGTH}, "longer than"),
        ({**AD, "landing_url": "https://a.example/ b"}, "no address"),
        ({**AD, "daily_budget": -1}, "daily_budget is negative"),
        ({**AD, "daily_budget": "1,000.00"}, "without thousands separators"),
        ({**AD, "currency": "euro"}, "not a currency"),
        ({**AD, "changed_on": "2026-11-03"}, "in the future"),
        ({**AD, "campaign_id": "1"}, "both an id and the ids of a path"),
        ({**AD, "ad_name": "Blue"}, "ad_name is for rows with the ids of a path"),
        ({**PATH, "name": "Blue"}, "name is for rows with a plain id"),
        ({**PATH, "level": "ad"}, "level is for rows with a plain id"),
        ({**PATH, "campaign_id": ""}, "campaign_name is given without campaign_id"),
        ({**PATH, "ad_set_id": ""}, "ad_set_name is given without ad_set_id"),
        ({**PATH, "ad_id": ""}, "ad_name is given without ad_id"),
        ({**PATH, "ad_id": "1"}, "Two of the ids in its path are the same"),
        ({**DAY, "date": ""}, "date is missing"),
        ({**DAY, "date": "01.11.2026"}, "not a day"),
        ({**DAY, "date": "2026-1-1"}, "not a day"),
        ({**DAY, "date": "20261101"}, "not a day"),
        ({**DAY, "date": "2026-02-29"}, "not a day"),
        ({**DAY, "date": "2026-11-01T00:00:00"}, "not a day"),
        ({**DAY, "date": "٢٠٢٦-١١-٠١"}, "not a day"),  # noqa: RUF001 - digits, and no ASCII
        ({**DAY, "date": datetime(2026, 11, 1)}, "not a day"),  # noqa: DTZ001 - what is refused
        ({**DAY, "date": 20261101}, "not a day"),
        ({**DAY, "date": "0026-11-01"}, "not a day"),
        ({**DAY, "date": "2026-11-03"}, "in the future"),
        ({"id": "7", "spend": 1, "first_day": "2026-10-01"}, "date is missing"),
        (
            {"id": "7", "spend": 1, "first_day": "2026-10-01", "last_day": "2026-10-30"},
            "break the report down by day",
        ),
        ({**DAY, "spend": math.nan}, "not a finite number"),
        ({**DAY, "spend": math.inf}, "not a finite number"),
        ({**DAY, "spend": "1e999"}, "not a finite number"),
        ({**DAY, "spend": 10**400}, "not a finite number"),
        ({**DAY, "spend": 2 * LARGEST_NUMBER}, "not a finite number"),
        ({**DAY, "revenue": -2 * LARGEST_NUMBER}, "not a finite number"),
        ({**DAY, "spend": "NaN"}, "not a number"),
        ({**DAY, "spend": "inf"}, "not a number"),
        ({**DAY, "spend": True}, "not a number"),
        ({**DAY, "spend": [1]}, "not a number"),
        ({**DAY, "spend": "€12"}, "not a number"),
        ({**DAY, "spend": "0x10"}, "not a number"),
        ({**DAY, "spend": "1_000"}, "not a number"),
        ({**DAY, "spend": "1,234"}, "read in two ways"),
        ({**DAY, "spend": "1.234,5"}, "read in two ways"),
        ({**DAY, "spend": "12,5"}, "read in two ways"),
        ({**DAY, "spend": "1 234"}, "read in two ways"),
        ({**DAY, "spend": "1\u202f234"}, "read in two ways"),
        ({**DAY, "spend": "1'234"}, "read in two ways"),
        *(({**DAY, name: -1}, f"{name} is negative") for name in ("spend", "impressions")),
        *(({**DAY, name: "-0.5"}, f"{name} is negative") for name in ("clicks", "conversions")),
        (
            {**DAY, **{f"ad.sum_{number}": 1 for number in range(MAX_FURTHER_SUMS + 1)}},
            "more than 50 further sums",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_the_reason(row: object, reason: str) -> None:
    assert reason in refusal(row)


def test_without_a_platform_a_row_is_about_nothing() -> None:
    assert "platform is missing" in refusal({"level": "ad", "id": "7"}, RowDefaults())


def test_what_only_refunds_and_further_sums_can_be_is_negative() -> None:
    day = day_of({**DAY, "revenue": "-12.5", "ad.margin": -3})
    assert (day.revenue, day.further) == (-12.5, {"margin": -3.0})


def test_a_good_row_beside_a_bad_one_is_taken() -> None:
    gathered = gather({**DAY, "date": ""}, DAY, {**DAY, "id": ""})
    assert list(gathered.refused) == [1, 3]
    assert [line for line, _ in gathered.days] == [2]


def test_the_same_said_twice_is_said_once() -> None:
    gathered = gather(DAY, DAY, {**DAY, "spend": "1.50"}, {**AD, "name": "B"}, {**AD, "name": "B"})
    assert (gathered.count, gathered.refused, len(gathered.days)) == (5, {}, 1)
    assert gathered.facts["meta:7"].lines == [4, 5]


def test_rows_about_an_entity_complete_each_other() -> None:
    gathered = gather({**AD, "name": "Blue"}, {**AD, "status": "paused"})
    assert gathered.facts["meta:7"].said == {
        "level": Level.AD,
        "name": "Blue",
        "status": EntityStatus.PAUSED,
    }


def test_the_same_text_under_another_name_says_something_else() -> None:
    gathered = gather({**AD, "name": "6"}, {**AD, "parent_id": "6"})
    assert gathered.facts["meta:7"].said == {
        "level": Level.AD,
        "name": "6",
        "parent_id": "meta:6",
    }


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (DAY, {**DAY, "spend": 2}, "Line 1 has other numbers of meta:7 on 2026-11-01"),
        (DAY, {**DAY, "clicks": 2}, "other numbers"),
        (DAY, {**DAY, "ad.leads": 2}, "other numbers"),
        ({**AD, "name": "A"}, {**AD, "name": "B"}, "Line 1 says of meta:7 another name"),
        ({**AD, "name": "A"}, {**AD, "level": "ad_set"}, "another level"),
        (PATH, {**PATH, "ad_id": "4", "campaign_name": "Autumn"}, "of meta:1 another name"),
        (PATH, {**PATH, "ad_set_id": "5"}, "of meta:3 another parent_id"),
    ],
)
def test_of_rows_that_contradict_each_other_the_first_one_counts(
    first: dict[str, Any], second: dict[str, Any], reason: str
) -> None:
    alone, both = gather(first), gather(first, second, first)
    assert list(both.refused) == [2]
    assert reason in both.refused[2]
    assert {each.id: each.said for each in both.facts.values()} == {
        each.id: each.said for each in alone.facts.values()
    }
    assert both.days == alone.days


def test_a_row_whose_day_is_refused_says_nothing_of_its_entity() -> None:
    gathered = gather({**PATH, "date": "2026-11-09", "spend": 1})
    assert (gathered.facts, list(gathered.refused)) == ({}, [1])


WILD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["1", "2026-11-01", "meta", "ad", "campaign", "-5", "1e400", "1,5", "active"]),
    st.lists(st.integers(), max_size=2),
    st.dates().map(str),
)
WILD_NAMES = st.sampled_from([*sorted(FIELDS), "ad.leads", "ad.Bad", "unknown", ""])
WILD_ROWS = st.one_of(st.dictionaries(WILD_NAMES, WILD_VALUES, max_size=8), WILD_VALUES)


@given(rows=st.lists(WILD_ROWS, max_size=12))
def test_whatever_rows_are_each_is_taken_or_refused(rows: list[object]) -> None:
    gathered = gather(*rows)
    assert gathered.count == len(rows)
    taken = {line for facts in gathered.facts.values() for line in facts.lines}
    taken |= {line for line, _ in gathered.days}
    assert taken.isdisjoint(gathered.refused)
    for _, day in gathered.days:
        assert FIRST_DAY <= day.day <= TODAY
        numbers = [day.spend, day.impressions, day.clicks, day.conversions, day.revenue]
        known = [number for number in (*numbers, *day.further.values()) if number is not None]
        assert known
        assert all(abs(number) <= LARGEST_NUMBER for number in known)
        assert all(number is None or number >= 0 for number in numbers[:4])
    for facts in gathered.facts.values():
        assert len(facts.id) <= 200
        json.dumps(facts.said, default=str, allow_nan=False)


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "id": st.sampled_from(["1", "2"]),
                "level": st.just("ad"),
                "name": st.sampled_from(["A", "B", ""]),
                "date": st.sampled_from([str(TODAY), str(TODAY - timedelta(1))]),
                "spend": st.sampled_from(["1", "2"]),
            }
        ),
        max_size=10,
    )
)
def test_what_was_read_before_is_never_read_otherwise(rows: list[dict[str, Any]]) -> None:
    """Rows that repeat what they say are read from memory; lists are always read anew."""
    remembered = gather(*rows)
    anew = gather(*(row | {"changed_on": date(2026, 1, 1)} for row in rows))
    assert remembered.refused == anew.refused
    assert remembered.days == anew.days
    for identity, facts in remembered.facts.items():
        again = anew.facts[identity]
        assert again.lines == facts.lines
        assert again.said == facts.said | {"changed_on": date(2026, 1, 1)}
