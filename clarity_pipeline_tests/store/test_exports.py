"""Landed replies: kept byte for byte, judged afterwards, never trusted blindly."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from clarity_pipeline.domain.dimensions import (
    DEFAULT_COMBOS,
    OVERVIEW,
    URL_CAMPAIGN_CHANNEL,
    DimensionCombo,
)
from clarity_pipeline.domain.errors import ExportCorrupt, UnknownBusiness
from clarity_pipeline.domain.exports import LandedExport, Verdict, verify
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.store import businesses, exports
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import raw_exports
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import DAY, NOW, land_export, make_export


@pytest.fixture
def with_business(database: Database) -> Database:
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    return database


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=st.binary(max_size=3000))
def test_any_body_comes_back_byte_for_byte(with_business: Database, body: bytes) -> None:
    export_id = land_export(with_business, make_export(body=body), judged=False)
    assert exports.read_export(with_business, export_id).export.body == body


@pytest.mark.parametrize("combo", [*DEFAULT_COMBOS, OVERVIEW], ids=lambda combo: combo.slug)
def test_the_whole_envelope_comes_back(with_business: Database, combo: DimensionCombo) -> None:
    export = make_export(body=b"[]", combo=combo, num_of_days=2, http_status=200)
    export_id = land_export(with_business, export, judged=False)
    assert exports.read_export(with_business, export_id) == LandedExport(
        id=export_id, business_id="acme", project_id="abc123xyz0", day=DAY, export=export
    )


def test_the_order_in_which_dimensions_were_sent_is_kept(with_business: Database) -> None:
    """It is the order of the dimension keys in the reply; the set's name is sorted."""
    export_id = land_export(with_business, make_export(combo=URL_CAMPAIGN_CHANNEL))
    landed = exports.read_export(with_business, export_id)
    assert landed.export.request.combo == URL_CAMPAIGN_CHANNEL
    (listed,) = exports.list_exports(with_business, day=DAY)
    assert listed.dimension_set == "Campaign,Channel,URL"


def test_a_landed_reply_has_no_verdict_until_it_is_judged(with_business: Database) -> None:
    export = make_export(Visits(("https://a/", "PC")))
    export_id = land_export(with_business, export, judged=False)
    (listed,) = exports.list_exports(with_business, day=DAY)
    assert (listed.verdict, listed.truncated, listed.row_counts) == (None, None, None)
    exports.judge(
        with_business,
        export_id=export_id,
        verdict=Verdict.ACCEPTED,
        summary=verify(export),
        detail=None,
    )
    (listed,) = exports.list_exports(with_business, day=DAY)
    assert listed.verdict is Verdict.ACCEPTED
    assert listed.truncated is False
    assert listed.row_counts == verify(export).row_counts
    assert listed.unknown_blocks == ()
    assert listed.body_bytes == len(export.body)
    assert listed.sha256 == export.sha256
    assert (listed.window_start, listed.window_end) == (NOW - timedelta(days=1), NOW)
    assert (listed.purpose, listed.requested_at) == (Purpose.SCHEDULE, NOW)


def test_a_refused_reply_is_kept_with_its_status_and_the_reason(with_business: Database) -> None:
    export_id = land_export(with_business, make_export(body=b"", http_status=400), judged=False)
    exports.judge(
        with_business,
        export_id=export_id,
        verdict=Verdict.REQUEST_REJECTED,
        summary=None,
        detail="400",
    )
    (listed,) = exports.list_exports(with_business, day=DAY)
    assert (listed.verdict, listed.detail) == (Verdict.REQUEST_REJECTED, "400")
    assert exports.read_export(with_business, export_id).export.http_status == 400


def test_landing_again_adds_and_replaces_nothing(with_business: Database) -> None:
    first, second = (land_export(with_business, make_export(body=b"[]")) for _ in range(2))
    assert first < second
    listed = exports.list_exports(with_business, day=DAY)
    assert [each.id for each in listed] == [first, second]


def test_exports_are_listed_by_day_and_business(with_business: Database) -> None:
    businesses.add_business(with_business, business_id="b", name="B", now=NOW)
    ours = land_export(with_business, make_export())
    land_export(with_business, make_export(), business_id="b")
    land_export(with_business, make_export(), day=DAY - timedelta(days=1))
    listed = exports.list_exports(with_business, day=DAY, business_ids=["acme"])
    assert [each.id for each in listed] == [ours]
    assert exports.list_exports(with_business, day=DAY, business_ids=[]) == []
    assert len(exports.list_exports(with_business, day=DAY)) == 2


def test_a_reply_for_an_unknown_business_is_refused(database: Database) -> None:
    with pytest.raises(UnknownBusiness):
        land_export(database, make_export())


def test_a_large_reply_is_stored_small(with_business: Database) -> None:
    visits = [Visits((f"https://a/{number}", "PC")) for number in range(1000)]
    export_id = land_export(with_business, make_export(*visits))
    with with_business.reading() as connection:
        row = connection.execute(raw_exports.select().where(raw_exports.c.id == export_id)).one()
    assert row.stored_bytes == len(row.body_zstd) < row.body_bytes / 10


@pytest.mark.parametrize(
    "damage",
    [
        {"body_zstd": b""},
        {"body_zstd": b"no zstd frame at all"},
        {"sha256": "0" * 64},
        {"body_bytes": 0},
    ],
    ids=["emptied", "overwritten", "sha256", "size"],
)
def test_a_damaged_body_is_corrupt_and_says_whose_it_is(
    with_business: Database, damage: dict[str, object]
) -> None:
    export_id = land_export(with_business, make_export(body=os.urandom(500)), judged=False)
    with with_business.transaction() as connection:
        connection.execute(update(raw_exports).where(raw_exports.c.id == export_id).values(damage))
    with pytest.raises(ExportCorrupt, match=f"{export_id} of business 'acme' for 2026-11-01"):
        exports.read_export(with_business, export_id)


def test_a_swapped_body_is_corrupt(with_business: Database) -> None:
    """It decompresses well; only the sha256 gives it away."""
    mine = land_export(with_business, make_export(body=b"[1]"), judged=False)
    other = land_export(with_business, make_export(body=b"[2]"), judged=False)
    with with_business.transaction() as connection:
        body = connection.scalar(
            raw_exports.select()
            .with_only_columns(raw_exports.c.body_zstd)
            .where(raw_exports.c.id == other)
        )
        connection.execute(
            update(raw_exports).where(raw_exports.c.id == mine).values(body_zstd=body)
        )
    with pytest.raises(ExportCorrupt):
        exports.read_export(with_business, mine)


def test_an_export_that_is_not_there_is_named(database: Database) -> None:
    with pytest.raises(ExportCorrupt, match="no landed export 99"):
        exports.read_export(database, 99)
