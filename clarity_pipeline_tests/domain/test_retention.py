"""How old is too old, and what keeps a body or a run in spite of its age."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.retention import (
    Kept,
    Removal,
    RetentionLimits,
    first_day_kept,
    is_kept,
    removable_replies,
    removable_runs,
)

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
DAY = date(2026, 11, 1)


@dataclass(frozen=True)
class Reply:
    id: int = 1
    business_id: str = "acme"
    dimension_set: str = "Device,URL"
    num_of_days: int = 1
    verdict: Verdict | None = Verdict.ACCEPTED
    requested_at: datetime = datetime(2026, 11, 2, 0, 15, tzinfo=UTC)
    has_body: bool = True


@dataclass(frozen=True)
class Run:
    run_id: str
    ended_at: datetime
    backfill_id: str | None = None


def removable(*replies: Reply, built: dict[str, int]) -> list[int]:
    built_from = {("acme", dimension_set): export_id for dimension_set, export_id in built.items()}
    return [reply.id for reply in removable_replies(replies, built_from_export=built_from)]


def test_ten_days_kept_are_today_and_the_ten_before_it() -> None:
    assert first_day_kept(now=NOW, days=10) == date(2026, 11, 10)
    assert is_kept(date(2026, 11, 10), now=NOW, days=10)
    assert not is_kept(date(2026, 11, 9), now=NOW, days=10)


def test_without_a_setting_everything_is_kept() -> None:
    assert first_day_kept(now=NOW, days=None) is None
    assert is_kept(date.min, now=NOW, days=None)
    assert not RetentionLimits().any_is_set
    assert RetentionLimits(runs_days=90).any_is_set


def test_days_are_those_of_utc_wherever_the_clock_stands() -> None:
    in_tokyo = datetime(2026, 11, 20, 8, 0, tzinfo=timezone(timedelta(hours=9)))
    assert first_day_kept(now=in_tokyo, days=10) == date(2026, 11, 9)


def test_a_body_may_go_once_its_slice_is_built_from_it() -> None:
    assert removable(Reply(id=7), built={"Device,URL": 7}) == [7]


@pytest.mark.parametrize(
    ("reply", "built"),
    [
        (Reply(id=7, verdict=None), {"Device,URL": 7}),
        (Reply(id=7), {}),
        (Reply(id=7), {"Source,URL": 7}),
        (Reply(id=7), {"Device,URL": 6}),
        (Reply(id=7, has_body=False), {"Device,URL": 7}),
    ],
    ids=["not judged", "no slice", "slice of others", "built from another", "gone already"],
)
def test_a_body_stays_as_long_as_something_may_need_it(reply: Reply, built: dict[str, int]) -> None:
    assert removable(reply, built=built) == []


def test_a_later_reply_for_a_slice_goes_with_the_one_of_record_and_never_before_it() -> None:
    record = Reply(id=1)
    later = replace(record, id=2, requested_at=record.requested_at + timedelta(hours=9))
    assert removable(record, later, built={}) == []
    assert removable(record, later, built={"Device,URL": 2}) == []
    assert removable(record, later, built={"Device,URL": 1}) == [1, 2]


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.ACCEPTED])
def test_a_refused_reply_builds_nothing_and_waits_for_nothing(verdict: Verdict) -> None:
    assert removable(Reply(id=3, verdict=verdict), built={}) == [3]


def test_a_reply_about_several_days_waits_for_no_slice_of_its_own_day() -> None:
    assert removable(Reply(id=3, num_of_days=2), built={}) == [3]


def test_batches_add_up_and_empty_ones_leave_no_trace() -> None:
    removal = (
        Removal(Kept.PAYLOADS, DAY)
        .with_batch(day=date(2026, 10, 3), rows=2, stored_bytes=20)
        .with_batch(day=date(2026, 10, 1), rows=1, stored_bytes=5)
        .with_batch(day=date(2026, 10, 9), rows=0, stored_bytes=0)
    )
    assert (removal.rows, removal.stored_bytes) == (3, 25)
    assert (removal.oldest_day, removal.newest_day) == (date(2026, 10, 1), date(2026, 10, 3))


def test_runs_go_by_the_day_they_ended_on() -> None:
    runs = [
        Run("old", datetime(2026, 10, 31, 23, 59, tzinfo=UTC)),
        Run("young", datetime(2026, 11, 1, tzinfo=UTC)),
    ]
    found = removable_runs(
        runs, cutoff=DAY, needed_run_ids=frozenset(), needed_backfill_ids=frozenset()
    )
    assert [run.run_id for run in found] == ["old"]


def test_runs_that_something_at_work_needs_stay() -> None:
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    runs = [
        Run("re-executed", long_ago),
        Run("of a backfill at work", long_ago, backfill_id="b1"),
        Run("of a finished backfill", long_ago, backfill_id="b2"),
    ]
    found = removable_runs(
        runs,
        cutoff=DAY,
        needed_run_ids=frozenset({"re-executed"}),
        needed_backfill_ids=frozenset({"b1"}),
    )
    assert [run.run_id for run in found] == ["of a finished backfill"]
