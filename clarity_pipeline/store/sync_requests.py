"""What people have asked to be synced, and which run works on it.

A row is waiting until it is picked up by a run or refused. It is open until it is refused or the
job of its run has settled; of the same business and day there is one open request at most.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, and_, insert, or_, select, update

from clarity_pipeline.domain.errors import UnknownSyncRequest
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.store.businesses import check_businesses_exist, lock_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import sync_jobs, sync_requests

LOOKED_BACK: Final = timedelta(days=30)
"""How long ago a request may have been picked up and still be looked after: its day can be
collected on one day only, and years of clicks need not be read every few seconds."""


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A request; instants are UTC, `day` is the day to be synced."""

    id: int
    business_id: str
    day: date
    requested_by: str
    requested_at: datetime
    dagster_run_id: str | None
    picked_up_at: datetime | None
    refused_at: datetime | None
    refusal: str | None


def open_request(
    database: Database, *, business_id: str, day: date, requested_by: str, now: datetime
) -> SyncRequest:
    """The open request of a business for a day, made where there is none. Raises UnknownBusiness.

    However many ask at the same moment, all of them are given the same one.
    """
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        standing = connection.execute(
            select(sync_requests)
            .where(
                sync_requests.c.business_id == business_id,
                sync_requests.c.date == day,
                _is_open(),
            )
            .order_by(sync_requests.c.id)
            .limit(1)
        ).first()
        if standing is not None:
            return _request(standing)
        made = insert(sync_requests).values(
            business_id=business_id, date=day, requested_by=requested_by, requested_at=now
        )
        return _request(connection.execute(made.returning(*sync_requests.c)).one())


def get_request(database: Database, *, request_id: int, business_id: str) -> SyncRequest:
    """A request of this business. Raises UnknownSyncRequest, also for one of another business."""
    of_business = select(sync_requests).where(
        sync_requests.c.id == request_id, sync_requests.c.business_id == business_id
    )
    for request in _requests(database, of_business):
        return request
    raise UnknownSyncRequest(business_id, request_id=request_id)


def latest_request(database: Database, business_id: str) -> SyncRequest | None:
    """The newest request of a business; None when nobody has ever asked. Raises UnknownBusiness."""
    newest = (
        select(sync_requests)
        .where(sync_requests.c.business_id == business_id)
        .order_by(sync_requests.c.id.desc())
        .limit(1)
    )
    with database.reading() as connection:
        check_businesses_exist(connection, [business_id])
        row = connection.execute(newest).first()
    return None if row is None else _request(row)


def open_requests(
    database: Database, *, now: datetime, business_ids: Collection[str] | None = None
) -> list[SyncRequest]:
    """The requests that wait or are worked on, oldest first, of some businesses or all."""
    statement = (
        select(sync_requests)
        .where(
            or_(
                sync_requests.c.picked_up_at.is_(None),
                sync_requests.c.picked_up_at >= now - LOOKED_BACK,
            ),
            _is_open(),
        )
        .order_by(sync_requests.c.id)
    )
    if business_ids is not None:
        statement = statement.where(sync_requests.c.business_id.in_(set(business_ids)))
    return _requests(database, statement)


def waiting_requests(database: Database, *, limit: int) -> list[SyncRequest]:
    """The requests that no run works on and that nobody has refused, the oldest of them."""
    waiting = select(sync_requests).where(*_IS_WAITING).order_by(sync_requests.c.id).limit(limit)
    return _requests(database, waiting)


def requests_without_job(database: Database, *, now: datetime) -> list[SyncRequest]:
    """The requests whose run has not opened their job, oldest first."""
    statement = (
        select(sync_requests)
        .where(
            sync_requests.c.picked_up_at >= now - LOOKED_BACK,
            sync_requests.c.refused_at.is_(None),
            ~_has_job(),
        )
        .order_by(sync_requests.c.id)
    )
    return _requests(database, statement)


def pick_up(
    database: Database, *, request_ids: Collection[int], dagster_run_id: str, now: datetime
) -> int:
    """Say which run works on these requests; those that no longer wait stay as they are."""
    with database.transaction() as connection:
        picked_up = connection.execute(
            update(sync_requests)
            .where(sync_requests.c.id.in_(request_ids), *_IS_WAITING)
            .values(dagster_run_id=dagster_run_id, picked_up_at=now)
        )
        return picked_up.rowcount


def refuse(database: Database, *, request_id: int, refusal: str, now: datetime) -> bool:
    """Close a request that no run will work on; False when it has a job, or was refused before."""
    with database.transaction() as connection:
        refused = connection.execute(
            update(sync_requests)
            .where(
                sync_requests.c.id == request_id,
                sync_requests.c.refused_at.is_(None),
                ~_has_job(),
            )
            .values(refused_at=now, refusal=refusal)
        )
        return refused.rowcount == 1


_IS_WAITING: Final = (sync_requests.c.picked_up_at.is_(None), sync_requests.c.refused_at.is_(None))


def _is_open() -> ColumnElement[bool]:
    settled = sync_jobs.c.status != JobStatus.RUNNING.value
    return and_(sync_requests.c.refused_at.is_(None), ~_has_job(settled))


def _has_job(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    return (
        select(sync_jobs.c.id)
        .where(
            sync_jobs.c.dagster_run_id == sync_requests.c.dagster_run_id,
            sync_jobs.c.business_id == sync_requests.c.business_id,
            sync_jobs.c.date == sync_requests.c.date,
            *which,
        )
        .correlate(sync_requests)
        .exists()
    )


def _requests(database: Database, statement: Select[Any]) -> list[SyncRequest]:
    with database.reading() as connection:
        return [_request(row) for row in connection.execute(statement)]


def _request(row: Row[Any]) -> SyncRequest:
    return SyncRequest(
        id=row.id,
        business_id=row.business_id,
        day=row.date,
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        dagster_run_id=row.dagster_run_id,
        picked_up_at=row.picked_up_at,
        refused_at=row.refused_at,
        refusal=row.refusal,
    )
