"""Generated replies keep the contract of real ones, add up, and are the same everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, Dimension
from clarity_pipeline.domain.metrics import CLICK_BLOCK_COLUMNS, TRUNCATION_ROWS
from clarity_pipeline.export_api.emulated_replies import (
    DenominatorStyle,
    NumberStyle,
    ReferrerStyle,
    ReplyStyle,
    TruncationStyle,
    build_reply,
)
from clarity_pipeline.export_api.emulated_site import Session, SessionKind, Site, SiteHistory
from clarity_pipeline_tests.reply_contract import check_additivity, check_reply

END = datetime(2026, 11, 20, 0, 15, tzinfo=UTC)
DAY = timedelta(days=1)
PLAIN_STYLE = ReplyStyle()
SMALL = Site(
    seed=5,
    sessions_per_day=120,
    pages=25,
    bot_sessions_percent=60,
    unlabelled_sessions_percent=15,
    unsettled_sessions_per_thousand=30,
    unmeasured_scroll_per_thousand=30,
)
BUSY = Site(seed=6, sessions_per_day=2_000, pages=500)
SINGLE_DIMENSIONS = [(dimension,) for dimension in Dimension]
SEVERAL_DIMENSIONS = [
    *combinations((Dimension.URL, Dimension.DEVICE, Dimension.SOURCE, Dimension.OS), 2),
    *(combo.dimensions for combo in DEFAULT_COMBOS),
    (Dimension.SOURCE, Dimension.MEDIUM, Dimension.CAMPAIGN),
]


def reply_body(
    site: Site,
    dimensions: Sequence[Dimension] = (),
    *,
    style: ReplyStyle = PLAIN_STYLE,
    end: datetime = END,
    days: int = 1,
) -> bytes:
    visits = SiteHistory().visits(site, start=end - days * DAY, end=end)
    return build_reply(site, visits, dimensions=dimensions, style=style, salt="a call")


def reply(
    site: Site,
    dimensions: Sequence[Dimension] = (),
    *,
    style: ReplyStyle = PLAIN_STYLE,
    end: datetime = END,
    days: int = 1,
) -> list[dict[str, Any]]:
    return json.loads(reply_body(site, dimensions, style=style, end=end, days=days))


def rows_of(blocks: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return next(block["information"] for block in blocks if block["metricName"] == name)


@pytest.mark.parametrize("dimensions", [(), *SINGLE_DIMENSIONS, *SEVERAL_DIMENSIONS])
@pytest.mark.parametrize("numbers", NumberStyle)
@pytest.mark.parametrize("denominator", DenominatorStyle)
def test_every_combination_keeps_the_contract_of_real_replies(
    dimensions: tuple[Dimension, ...], numbers: NumberStyle, denominator: DenominatorStyle
) -> None:
    style = ReplyStyle(numbers=numbers, denominator=denominator)

    assert check_reply(reply(SMALL, dimensions, style=style, days=2), dimensions) == []


@given(
    site=st.builds(
        Site,
        seed=st.integers(0, 2**40),
        sessions_per_day=st.integers(0, 60),
        pages=st.integers(1, 40),
        bot_sessions_percent=st.integers(0, 300),
        unlabelled_sessions_percent=st.integers(0, 100),
        tagged_entries_percent=st.integers(0, 100),
        unsettled_sessions_per_thousand=st.integers(0, 1000),
        unmeasured_scroll_per_thousand=st.integers(0, 1000),
    ),
    dimensions=st.lists(st.sampled_from(Dimension), max_size=3, unique=True),
    style=st.builds(
        ReplyStyle,
        numbers=st.sampled_from(NumberStyle),
        denominator=st.sampled_from(DenominatorStyle),
        referrers=st.sampled_from(ReferrerStyle),
    ),
    hour=st.integers(0, 24 * 400),
    days=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_any_site_at_any_time_keeps_the_contract(
    site: Site, dimensions: list[Dimension], style: ReplyStyle, hour: int, days: int
) -> None:
    end = END + timedelta(hours=hour)
    blocks = reply(site, dimensions, style=style, end=end, days=days)

    assert check_reply(blocks, dimensions) == []


@pytest.mark.parametrize("split_by", [*SINGLE_DIMENSIONS, *SEVERAL_DIMENSIONS])
@pytest.mark.parametrize("days", [1, 3])
def test_every_split_adds_up_to_the_whole(split_by: tuple[Dimension, ...], days: int) -> None:
    split = reply(SMALL, split_by, days=days)

    assert check_additivity(whole=reply(SMALL, days=days), split=split, split_by=split_by) == []


def test_sessions_see_several_urls_and_sources_so_those_do_not_add_up() -> None:
    """43 page sessions for 26 sessions on captured data: an emulator that adds up would hide it."""
    sessions = rows_of(reply(SMALL), "RageClickCount")[0]["sessionsCount"]
    for dimension in (Dimension.URL, Dimension.SOURCE):
        rows = rows_of(reply(SMALL, [dimension]), "RageClickCount")
        assert sum(row["sessionsCount"] for row in rows) > sessions


def test_the_ground_truth_recounted_by_hand_is_the_reply() -> None:
    sessions = SiteHistory().sessions(SMALL, start=END - DAY, end=END)
    blocks = reply(SMALL, [Dimension.URL, Dimension.DEVICE])

    for name in CLICK_BLOCK_COLUMNS:
        assert _recounted(sessions, name) == {
            (row["Url"], row["Device"]): (
                row["sessionsCount"],
                row["pagesViews"],
                row["subTotal"],
                row["sessionsWithMetricPercentage"],
            )
            for row in rows_of(blocks, name)
        }


def _recounted(
    sessions: list[Session], block: str
) -> dict[tuple[str | None, str], tuple[int, int, int, float]]:
    seen: Counter[tuple[str | None, str]] = Counter()
    affected: Counter[tuple[str | None, str]] = Counter()
    views: Counter[tuple[str | None, str]] = Counter()
    events: Counter[tuple[str | None, str]] = Counter()
    for session in sessions:
        if session.kind is not SessionKind.HUMAN:
            continue
        seen.update({(view.url, session.device) for view in session.page_views})
        troubled = [
            ((view.url, session.device), view.events[block])
            for view in session.page_views
            if block in view.events
        ]
        affected.update({place for place, _ in troubled})
        for place, count in troubled:
            views[place] += 1
            events[place] += count
    return {
        place: (count, views[place], events[place], round(100 * affected[place] / count, 2))
        for place, count in seen.items()
    }


def test_only_people_click() -> None:
    sessions = SiteHistory().sessions(BUSY, start=END - DAY, end=END)

    with_events = {
        session.kind for session in sessions if any(view.events for view in session.page_views)
    }
    assert with_events == {SessionKind.HUMAN}
    assert {session.kind for session in sessions} == set(SessionKind)


def test_48_hours_less_24_hours_is_the_day_before() -> None:
    def totals(*, end: datetime, days: int) -> dict[str, int]:
        blocks = reply(SMALL, end=end, days=days)
        return {name: rows_of(blocks, name)[0]["subTotal"] for name in CLICK_BLOCK_COLUMNS} | {
            "sessions": rows_of(blocks, "RageClickCount")[0]["sessionsCount"]
        }

    two_days, last_day = totals(end=END, days=2), totals(end=END, days=1)
    day_before = totals(end=END - DAY, days=1)

    assert {name: two_days[name] - last_day[name] for name in two_days} == day_before
    assert day_before["sessions"] > 0


def test_a_site_without_visitors_gives_zeros_nulls_and_empty_lists() -> None:
    empty = Site(seed=1, sessions_per_day=0, pages=1)
    whole = reply(empty)

    assert rows_of(whole, "Traffic") == [
        {
            "totalSessionCount": 0,
            "totalBotSessionCount": 0,
            "distinctUserCount": 0,
            "pagesPerSessionPercentage": None,
        }
    ]
    assert rows_of(whole, "EngagementTime") == [{"totalTime": None, "activeTime": None}]
    assert rows_of(whole, "Browser") == []
    assert all(not block["information"] for block in reply(empty, [Dimension.URL]))


def test_traffic_has_bots_the_unlabelled_and_sessions_without_a_page() -> None:
    blocks = reply(SMALL, [Dimension.URL], days=3)
    traffic = {row["Url"]: row for row in rows_of(blocks, "Traffic")}
    human = {row["Url"] for row in rows_of(blocks, "RageClickCount")}

    assert len(traffic) > len(human)
    assert traffic[None]["totalSessionCount"] == traffic[None]["totalBotSessionCount"] == 0
    assert traffic[None]["distinctUserCount"] > 0
    assert any(row["totalBotSessionCount"] for url, row in traffic.items() if url not in human)


def test_the_values_that_trip_normalisers_occur() -> None:
    urls = {row["Url"] for row in rows_of(reply(SMALL, [Dimension.URL], days=3), "Traffic")}
    texts = " ".join(url for url in urls if url)
    sources = rows_of(reply(SMALL, [Dimension.CHANNEL, Dimension.SOURCE], days=3), "Traffic")
    pairs = {(row["Channel"], row["Source"]) for row in sources}

    for piece in ("gclid=", "fbclid=", "utm_campaign=", "//www.", "//localhost:3000", "#contact"):
        assert piece in texts, piece
    assert "über-uns" in texts
    assert "%C3%BCber-uns" in texts
    assert any(f"{url}/" in urls for url in urls)
    assert ("Other", "") in pairs
    assert {("AiPlatform", "chatgpt.com"), ("Other", "chatgpt.com")} <= pairs
    assert ("Direct", SMALL.host) in pairs


def test_number_styles_write_strings_a_mixture_or_numbers() -> None:
    def types(style: NumberStyle) -> set[type]:
        blocks = reply(SMALL, [Dimension.DEVICE], style=ReplyStyle(numbers=style))
        return {type(rows_of(blocks, name)[0]["subTotal"]) for name in CLICK_BLOCK_COLUMNS}

    assert types(NumberStyle.STRINGS) == {str}
    assert types(NumberStyle.NUMBERS) == {int}
    assert types(NumberStyle.MIXED) == {int, str}


def test_denominator_style_decides_whose_users_and_page_views_traffic_is_about() -> None:
    """FACTS section 4: all kinds of sessions until September 2026, human ones in October."""
    sessions = SiteHistory().sessions(BUSY, start=END - DAY, end=END)
    for style, counted in (
        (DenominatorStyle.ALL_SESSIONS, sessions),
        (
            DenominatorStyle.HUMAN_ONLY,
            [session for session in sessions if session.kind is SessionKind.HUMAN],
        ),
    ):
        traffic = rows_of(reply(BUSY, style=ReplyStyle(denominator=style)), "Traffic")[0]
        views = sum(len(session.page_views) for session in counted)

        assert traffic["pagesPerSessionPercentage"] == pytest.approx(views / len(counted))
        assert traffic["distinctUserCount"] == len({session.user for session in counted})


def test_referrer_style_gives_full_addresses_with_a_null_row_or_bare_hosts_without() -> None:
    def names(style: ReferrerStyle) -> set[str | None]:
        blocks = reply(SMALL, style=ReplyStyle(referrers=style))
        return {row["name"] for row in rows_of(blocks, "ReferrerUrl")}

    full, hosts = names(ReferrerStyle.FULL), names(ReferrerStyle.HOST)

    assert None in full
    assert "https://www.google.com/" in full
    assert None not in hosts
    assert "www.google.com" in hosts


@pytest.mark.parametrize("truncation", TruncationStyle)
def test_a_big_site_hits_the_cap_and_what_survives_is_not_the_largest(
    truncation: TruncationStyle,
) -> None:
    blocks = reply(BUSY, [Dimension.URL], style=ReplyStyle(truncation=truncation))
    everything = reply(BUSY, [Dimension.URL], style=ReplyStyle(row_cap=10**6))

    assert {len(block["information"]) for block in blocks} == {TRUNCATION_ROWS}
    assert check_reply(blocks, [Dimension.URL]) == []
    kept = sum(row["sessionsCount"] for row in rows_of(blocks, "RageClickCount"))
    by_size = sorted(
        (row["sessionsCount"] for row in rows_of(everything, "RageClickCount")), reverse=True
    )
    assert kept < sum(by_size[:TRUNCATION_ROWS])


def test_survivors_are_shared_between_blocks_or_not_as_the_style_says() -> None:
    def survivors(style: TruncationStyle) -> list[set[str]]:
        blocks = reply(BUSY, [Dimension.URL], style=ReplyStyle(truncation=style))
        return [
            {row["Url"] for row in rows_of(blocks, name)}
            for name in (*CLICK_BLOCK_COLUMNS, "ScrollDepth", "EngagementTime")
        ]

    shared, separate = survivors(TruncationStyle.SHARED), survivors(TruncationStyle.PER_BLOCK)

    assert all(tuples == shared[0] for tuples in shared)
    assert len({frozenset(tuples) for tuples in separate}) == len(separate)


def test_device_rows_come_in_the_api_s_order_and_countries_by_name() -> None:
    devices = [row["Device"] for row in rows_of(reply(BUSY, [Dimension.DEVICE]), "Traffic")]
    countries = [row["Country"] for row in rows_of(reply(BUSY, [Dimension.COUNTRY]), "Traffic")]

    assert devices == ["Mobile", "Tablet", "PC", "Email", "Other"]
    assert countries == sorted(countries)


def test_engagement_rows_come_in_another_order_than_the_rest() -> None:
    """A join by position must fail on the emulator as it would on a real reply."""
    blocks = reply(SMALL, [Dimension.URL])

    urls = [[row["Url"] for row in rows_of(blocks, name)] for name in ("ScrollDepth", "Traffic")]
    engagement = [row["Url"] for row in rows_of(blocks, "EngagementTime")]
    assert engagement != urls[0]
    assert sorted(engagement) == sorted(urls[0])


def test_days_are_generated_alike_whatever_was_asked_before() -> None:
    history = SiteHistory(max_bytes=1)
    first = history.sessions(SMALL, start=END - DAY, end=END)
    history.visits(SMALL, start=END - 9 * DAY, end=END - 3 * DAY)

    assert history.sessions(SMALL, start=END - DAY, end=END) == first


DIGEST = "0bb75475f76eb0302f1dc9e074ab8f7b20447dea1116ebdd3aa7eaf13ab25581"


def digest_of_replies() -> str:
    digest = hashlib.sha256()
    for dimensions in ((), (Dimension.URL, Dimension.DEVICE), (Dimension.SOURCE,)):
        for style in (
            ReplyStyle(),
            ReplyStyle(numbers=NumberStyle.MIXED, truncation=TruncationStyle.PER_BLOCK),
        ):
            digest.update(reply_body(BUSY, dimensions, style=style))
            digest.update(reply_body(SMALL, dimensions, style=style, days=3))
    return digest.hexdigest()


def test_the_same_site_day_and_window_give_the_same_bytes_as_ever() -> None:
    """Change this digest only together with what is generated, and knowingly."""
    assert digest_of_replies() == DIGEST


def test_bytes_do_not_depend_on_the_hash_seed_of_the_interpreter() -> None:
    program = (
        "from clarity_pipeline_tests.export_api.test_emulated_replies import digest_of_replies\n"
        "print(digest_of_replies())"
    )
    for hash_seed in ("1", "4242"):
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == DIGEST
