"""The rows behind "Sync now", on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clarity_pipeline.domain.errors import UnknownBusiness, UnknownSyncRequest
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.store import businesses, sync_jobs, sync_requests
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.sync_requests import LOOKED_BACK, SyncRequest
from clarity_pipeline_tests.factories import DAY, NOW
from clarity_pipeline_tests.store.races import all_at_once


@pytest.fixture(autouse=True)
def two_businesses(database: Database) -> None:
    for business_id in ("acme", "globex"):
        businesses.add_business(database, business_id=business_id, name=business_id, now=NOW)


def ask(database: Database, business_id: str = "acme", *, by: str = "ann") -> SyncRequest:
    return sync_requests.open_request(
        database, business_id=business_id, day=DAY, requested_by=by, now=NOW
    )


def start_job(database: Database, run_id: str, business_id: str = "acme") -> int:
    return sync_jobs.start_jobs(
        database,
        business_ids=[business_id],
        day=DAY,
        trigger=Trigger.PANEL,
        dagster_run_id=run_id,
        now=NOW,
    )[business_id]


def settle(database: Database, job_id: int) -> None:
    sync_jobs.settle_job(
        database,
        job_id=job_id,
        status=JobStatus.SUCCEEDED,
        calls_used=4,
        combos={},
        error_code=None,
        error_message=None,
        now=NOW,
    )


def pick_up(database: Database, *request_ids: int, run_id: str = "run-1") -> int:
    return sync_requests.pick_up(database, request_ids=request_ids, dagster_run_id=run_id, now=NOW)


def open_ids(database: Database) -> list[int]:
    return [request.id for request in sync_requests.open_requests(database, now=NOW)]


def test_people_who_ask_at_the_same_moment_are_given_one_request(database: Database) -> None:
    given = all_at_once(lambda name: ask(database, by=name), [f"user{n}" for n in range(8)])
    assert len({request.id for request in given}) == 1
    assert len(open_ids(database)) == 1


def test_a_request_is_open_until_its_job_has_settled_and_then_there_is_a_new_one(
    database: Database,
) -> None:
    first = ask(database)
    assert ask(database) == first
    assert pick_up(database, first.id) == 1
    assert ask(database).id == first.id
    job_id = start_job(database, "run-1")
    assert ask(database).id == first.id
    assert open_ids(database) == [first.id]
    settle(database, job_id)
    assert open_ids(database) == []
    assert ask(database).id > first.id


def test_another_day_and_another_business_are_other_requests(database: Database) -> None:
    later = sync_requests.open_request(
        database,
        business_id="acme",
        day=DAY + timedelta(days=1),
        requested_by="ann",
        now=NOW,
    )
    assert len({ask(database).id, ask(database, "globex").id, later.id}) == 3


def test_nobody_is_shown_the_request_of_another_business(database: Database) -> None:
    request = ask(database)
    assert sync_requests.get_request(database, request_id=request.id, business_id="acme") == request
    with pytest.raises(UnknownSyncRequest) as of_another:
        sync_requests.get_request(database, request_id=request.id, business_id="globex")
    with pytest.raises(UnknownSyncRequest) as of_nobody:
        sync_requests.get_request(database, request_id=request.id + 1, business_id="globex")
    assert "acme" not in str(of_another.value)
    assert of_another.value.code == of_nobody.value.code
    assert sync_requests.latest_request(database, "globex") is None
    assert sync_requests.latest_request(database, "acme") == request
    only = sync_requests.open_requests(database, now=NOW, business_ids=["globex"])
    assert only == []


def test_the_latest_request_is_the_newest(database: Database) -> None:
    first = ask(database)
    sync_requests.refuse(database, request_id=first.id, refusal="Paused.", now=NOW)
    second = ask(database)
    assert sync_requests.latest_request(database, "acme") == second
    for call in (
        lambda: ask(database, "nobody"),
        lambda: sync_requests.latest_request(database, "nobody"),
    ):
        with pytest.raises(UnknownBusiness):
            call()


def test_only_a_waiting_request_is_picked_up_and_by_one_run(database: Database) -> None:
    mine, refused = ask(database), ask(database, "globex")
    assert sync_requests.refuse(database, request_id=refused.id, refusal="Paused.", now=NOW)
    assert [r.id for r in sync_requests.waiting_requests(database, limit=9)] == [mine.id]
    assert pick_up(database, mine.id, refused.id) == 1
    assert pick_up(database, mine.id, refused.id, run_id="run-2") == 0
    assert sync_requests.waiting_requests(database, limit=9) == []
    found = sync_requests.latest_request(database, "acme")
    assert found is not None
    assert (found.dagster_run_id, found.picked_up_at) == ("run-1", NOW)


def test_the_oldest_waiting_requests_come_first_and_the_others_later(database: Database) -> None:
    ids = [ask(database, "globex").id, ask(database).id]
    assert [r.id for r in sync_requests.waiting_requests(database, limit=1)] == ids[:1]


def test_a_request_is_refused_once_and_never_after_its_job_was_opened(database: Database) -> None:
    request = ask(database)
    pick_up(database, request.id)
    assert [r.id for r in sync_requests.requests_without_job(database, now=NOW)] == [request.id]
    start_job(database, "run-1")
    assert sync_requests.requests_without_job(database, now=NOW) == []
    assert not sync_requests.refuse(database, request_id=request.id, refusal="Late.", now=NOW)

    other = ask(database, "globex")
    assert sync_requests.refuse(database, request_id=other.id, refusal="Paused.", now=NOW)
    assert not sync_requests.refuse(database, request_id=other.id, refusal="Again.", now=NOW)
    found = sync_requests.latest_request(database, "globex")
    assert found is not None
    assert (found.refusal, found.refused_at) == ("Paused.", NOW)


def test_requests_of_long_ago_are_not_looked_at_for_ever(database: Database) -> None:
    request = ask(database)
    pick_up(database, request.id)
    much_later = NOW + LOOKED_BACK + timedelta(seconds=1)
    assert sync_requests.requests_without_job(database, now=much_later) == []
    assert sync_requests.open_requests(database, now=much_later) == []
