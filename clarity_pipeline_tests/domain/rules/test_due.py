"""When a rule is evaluated, and for which businesses."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from clarity_pipeline.domain.rules.actions import Mode
from clarity_pipeline.domain.rules.cron import latest_due
from clarity_pipeline.domain.rules.due import BusinessDay, mode_of
from clarity_pipeline.domain.rules.model import Cron
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline_tests.domain.rules.histories import rule

NOW = datetime(2028, 3, 1, 0, 20, tzinfo=UTC)
YESTERDAY = date(2028, 2, 29)


@pytest.mark.parametrize(
    ("document", "days_back", "mode"),
    [
        ({"status": "armed"}, 0, Mode.ACTING),
        ({"status": "armed"}, 1, Mode.LATE),
        ({"status": "shadow", "shadow_until": "2028-02-29"}, 0, Mode.SHADOW),
        ({"status": "shadow", "shadow_until": "2028-02-28"}, 0, None),
        ({"status": "shadow", "shadow_until": "2028-02-28"}, 1, Mode.LATE),
        ({"status": "draft"}, 0, None),
        ({"status": "off"}, 1, None),
    ],
)
def test_a_rule_acts_on_yesterday_only_and_a_shadow_ends_with_its_day(
    document: dict[str, Any], days_back: int, mode: Mode | None
) -> None:
    day = YESTERDAY - timedelta(days=days_back)
    assert mode_of(rule(**document), day=day, now=NOW) is mode


ENDED = set(JobStatus) - {JobStatus.RUNNING}


@pytest.mark.parametrize("last_sync", [None, *JobStatus])
@pytest.mark.parametrize("is_obtainable", [True, False])
def test_a_day_is_awaited_until_its_sync_has_ended_or_clarity_no_longer_answers(
    last_sync: JobStatus | None, is_obtainable: bool
) -> None:
    def is_awaited(**what: bool) -> bool:
        standing = {"is_on": True, "has_arrived": False, **what}
        return BusinessDay(last_sync=last_sync, is_obtainable=is_obtainable, **standing).is_awaited

    expected = last_sync is JobStatus.RUNNING or (last_sync is None and is_obtainable)
    assert is_awaited() is expected
    assert not is_awaited(has_arrived=True)
    assert not is_awaited(is_on=False)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "after", "now", "due"),
    [
        ("30 6 * * *", "2026-11-24 06:29", "2026-11-24 06:30", "2026-11-24 06:30"),
        ("30 6 * * *", "2026-11-24 06:29", "2026-11-24 06:29:59", None),
        ("30 6 * * *", "2026-11-24 06:30", "2026-11-24 06:31", None),
        ("*/5 * * * *", "2026-11-24 06:01", "2026-11-24 06:31", "2026-11-24 06:30"),
        ("30 6 * * 1-5", "2026-11-20 07:00", "2026-11-22 07:00", None),
        ("0 0 29 2 *", "2028-02-28 23:59", "2028-02-29 00:00:30", "2028-02-29 00:00"),
        ("0 0 31 * *", "2026-11-30 23:00", "2026-12-01 01:00", None),
        ("0 0 30 2 *", "2026-02-01 00:00", "2026-03-03 01:00", None),
        # Whoever was away for weeks has nothing left to act on.
        ("0 0 1 * *", "2026-10-20 00:00", "2026-11-24 00:00", None),
    ],
)
def test_the_latest_time_since_the_last_look_is_due(
    cron: str, after: str, now: str, due: str | None
) -> None:
    found = latest_due(Cron(kind="cron", cron=cron), after=at(after), now=at(now))
    assert found == (None if due is None else at(due))
