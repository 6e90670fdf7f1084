"""The database goes away, fills up or refuses to be written in the middle of a sync.

What is lost then is at most a call: its slot is spent, and the next run makes it again. People are
told what is wrong with the database in one sentence, and no token is blamed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from psycopg.sql import SQL, Identifier, Literal
from sqlalchemy import Connection, Engine, event

from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.export_api.emulator import EmulatorServer
from clarity_pipeline.store import connections, sync_jobs
from clarity_pipeline.store.database import Database
from clarity_pipeline_tests.agency import DAY, Agency, open_agency
from clarity_pipeline_tests.conftest import PostgresServer
from clarity_pipeline_tests.faults.conftest import furnish
from clarity_pipeline_tests.faults.full_disks import (
    FillingDisk,
    full_device,
    may_mount,
    small_file_system,
)
from clarity_pipeline_tests.faults.interruptions import (
    MOMENTS,
    STORE,
    Moment,
    after,
    before,
    interrupted,
    rows_being_written,
)
from clarity_pipeline_tests.faults.invariants import check_nothing_is_lost_or_counted_short
from clarity_pipeline_tests.faults.next_run import (
    Undisturbed,
    check_the_next_run_completes_the_day,
)
from clarity_pipeline_tests.faults.worker import error_of, instance_in_memory, sync

WHILE_A_SLOT_IS_RESERVED = after(f"{STORE}.quota_ledger:insert", arrival=3)
WHILE_A_REPLY_IS_LANDED = MOMENTS["while a reply is landed"]
WHILE_ROWS_ARE_WRITTEN = rows_being_written("postgresql")
BEFORE_A_REPLY_IS_LANDED = MOMENTS["between reply and landing"]
BEFORE_THE_UPSERT = before(f"{STORE}.daily_metrics:replace_slices")

WHEN_THE_RUN_OPENS_THE_DATABASE = before(f"{STORE}.database:parse_database_url")

POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


GONE = "The database cannot be reached, or the connection broke off"
MOVED = "The database file has been deleted, moved or replaced"
FULL = "The disk of the database is full; make room and run it again."
READ_ONLY = "The database cannot be written"


def check_who_is_blamed(agency: Agency, result: dg.ExecuteInProcessResult, sentence: str) -> None:
    """The database is, in a job's message or the run's error; and no token."""
    jobs = sync_jobs.list_jobs(agency.database, day=DAY)
    said_by_jobs = [job.error_message or "" for job in jobs]
    left_alone = sum(
        int(str(materialization.metadata["businesses_left_alone_after_an_error"].value))
        for materialization in _materializations(result, "clarity_daily_metrics")
    )
    said = [message for message in [*said_by_jobs, error_of(result)] if sentence in message]
    assert said or left_alone, error_of(result)
    for business_id in agency.projects:
        assert connections.get_connection(agency.database, business_id).is_enabled
    assert JobStatus.AUTH_FAILED not in {job.status for job in jobs}


def _materializations(
    result: dg.ExecuteInProcessResult, asset: str
) -> list[dg.AssetMaterialization]:
    return [
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.materialization.asset_key == dg.AssetKey(asset)
    ]


def check_that_the_sync_survives(
    agency: Agency,
    undisturbed: Undisturbed,
    *,
    moment: Moment,
    fault: Callable[[], object],
    sentence: str,
    mend: Callable[[], object] = lambda: None,
) -> None:
    # One instance: the process lives on, so it is the run that says that its jobs are dead.
    with instance_in_memory() as instance:
        with interrupted(moment, fault) as came:
            result = sync(agency, instance)
        mend()

        assert came, "the moment never came"
        check_nothing_is_lost_or_counted_short(agency)
        check_who_is_blamed(agency, result, sentence)
        check_the_next_run_completes_the_day(agency, undisturbed, lost_calls=8, instance=instance)


@POSTGRESQL
@pytest.mark.parametrize(
    "moment", [WHILE_A_SLOT_IS_RESERVED, WHILE_A_REPLY_IS_LANDED, WHILE_ROWS_ARE_WRITTEN]
)
def test_a_sync_survives_that_its_connections_are_cut(
    moment: Moment, small_agency: Agency, undisturbed: Undisturbed, postgres_server: PostgresServer
) -> None:
    name = small_agency.database.engine.url.database
    assert name is not None
    check_that_the_sync_survives(
        small_agency,
        undisturbed,
        moment=moment,
        fault=lambda: end_connections(postgres_server, name),
        sentence=GONE,
    )


def end_connections(server: PostgresServer, database_name: str) -> None:
    """Cut every connection of the pipeline to this database."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE application_name = 'clarity_pipeline' AND datname = %s",
            [database_name],
        )


@pytest.fixture(scope="module")
def server_of_its_own() -> Generator[PostgresServer]:
    """A PostgreSQL that may be restarted: nobody else is connected to it."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.mark.parametrize("moment", [WHILE_A_REPLY_IS_LANDED, WHILE_ROWS_ARE_WRITTEN])
def test_a_sync_survives_that_postgresql_crashes_and_comes_back(
    moment: Moment,
    server_of_its_own: PostgresServer,
    emulator_server: EmulatorServer,
    used_dagster_home: Path,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = server_of_its_own.url(server_of_its_own.create())
    with open_agency(
        database_url=url,
        emulator=emulator_server,
        home=tmp_path / "home",
        environment=monkeypatch,
    ) as agency:
        check_that_the_sync_survives(
            furnish(agency, used_dagster_home),
            undisturbed,
            moment=moment,
            fault=server_of_its_own.restart_abruptly,
            sentence=GONE,
        )


class SqliteCondition:
    """A state of the file that every transaction finds from a moment on, until it is mended."""

    def __init__(self, agency: Agency, pragma: str, *, mended: str) -> None:
        self._path = agency.database.engine.url.database
        self._pragma = pragma
        self._mended = mended
        self._prevails = False

    def prevail(self) -> None:
        self._prevails = True

    def mend(self) -> None:
        self._prevails = False

    def on_begin(self, connection: Connection) -> None:
        if connection.engine.url.database != self._path:
            return  # Dagster's own
        pragma = self._pragma if self._prevails else self._mended
        connection.exec_driver_sql(f"PRAGMA {pragma}")


@contextmanager
def possible(condition: SqliteCondition) -> Generator[SqliteCondition]:
    event.listen(Engine, "begin", condition.on_begin)
    try:
        yield condition
    finally:
        event.remove(Engine, "begin", condition.on_begin)


@SQLITE
@pytest.mark.parametrize("moment", [BEFORE_A_REPLY_IS_LANDED, BEFORE_THE_UPSERT])
def test_a_sync_survives_a_full_disk_under_sqlite(
    moment: Moment, small_agency: Agency, undisturbed: Undisturbed
) -> None:
    # Never less than the pages there are: from now on not one more.
    with possible(
        SqliteCondition(small_agency, "max_page_count = 1", mended="max_page_count = 1000000")
    ) as full_disk:
        check_that_the_sync_survives(
            small_agency,
            undisturbed,
            moment=moment,
            fault=full_disk.prevail,
            mend=full_disk.mend,
            sentence=FULL,
        )


FullDisk = Callable[..., AbstractContextManager[FillingDisk]]

DISKS_FOR_ANYBODY: list[tuple[FullDisk, Moment]] = [
    # The rest of the database still has room.
    (partial(full_device, table="clarity_raw_exports"), WHEN_THE_RUN_OPENS_THE_DATABASE),
    (partial(full_device, table="clarity_daily_slices"), WHEN_THE_RUN_OPENS_THE_DATABASE),
]
DISKS_TO_MOUNT: list[tuple[FullDisk, Moment]] = [
    (small_file_system, BEFORE_A_REPLY_IS_LANDED),
    (small_file_system, BEFORE_THE_UPSERT),
    (small_file_system, WHILE_ROWS_ARE_WRITTEN),
]


@pytest.mark.parametrize(
    ("full_disk", "moment"), [*DISKS_FOR_ANYBODY, *(DISKS_TO_MOUNT if may_mount() else [])]
)
def test_a_sync_survives_a_full_disk_under_postgresql(
    full_disk: FullDisk,
    moment: Moment,
    postgres_server: PostgresServer,
    migrated_postgresql: str,
    emulator_server: EmulatorServer,
    used_dagster_home: Path,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        full_disk(postgres_server, template=migrated_postgresql) as disk,
        open_agency(
            database_url=disk.database_url,
            emulator=emulator_server,
            home=tmp_path / "home",
            environment=monkeypatch,
        ) as agency,
    ):
        check_that_the_sync_survives(
            furnish(agency, used_dagster_home),
            undisturbed,
            moment=moment,
            fault=disk.fill,
            mend=disk.make_room,
            sentence=FULL,
        )


@SQLITE
@pytest.mark.parametrize("moment", [BEFORE_A_REPLY_IS_LANDED, BEFORE_THE_UPSERT])
def test_a_sync_survives_a_file_that_cannot_be_written_any_more(
    moment: Moment, small_agency: Agency, undisturbed: Undisturbed
) -> None:
    with possible(
        SqliteCondition(small_agency, "query_only = ON", mended="query_only = OFF")
    ) as read_only:
        check_that_the_sync_survives(
            small_agency,
            undisturbed,
            moment=moment,
            fault=read_only.prevail,
            mend=read_only.mend,
            sentence=READ_ONLY,
        )


@POSTGRESQL
def test_a_sync_survives_a_server_that_takes_no_writes_any_more(
    small_agency: Agency, undisturbed: Undisturbed, postgres_server: PostgresServer
) -> None:
    name = small_agency.database.engine.url.database
    assert name is not None

    def allow_only_reading(*, is_on: bool) -> None:
        setting = SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
        postgres_server.execute(setting.format(Identifier(name), Literal(is_on)))
        # A session keeps the setting that it began with.
        end_connections(postgres_server, name)

    check_that_the_sync_survives(
        small_agency,
        undisturbed,
        moment=BEFORE_A_REPLY_IS_LANDED,
        fault=lambda: allow_only_reading(is_on=True),
        mend=lambda: allow_only_reading(is_on=False),
        sentence=READ_ONLY,
    )


@SQLITE
@pytest.mark.parametrize("moment", [BEFORE_A_REPLY_IS_LANDED, BEFORE_THE_UPSERT])
def test_a_sync_survives_that_its_file_is_moved_away_and_put_back(
    moment: Moment, small_agency: Agency, undisturbed: Undisturbed
) -> None:
    path = Path(str(small_agency.database.engine.url.database))
    elsewhere = path.with_suffix(".moved")
    check_that_the_sync_survives(
        small_agency,
        undisturbed,
        moment=moment,
        fault=lambda: path.rename(elsewhere),
        mend=lambda: elsewhere.rename(path),
        sentence=MOVED,
    )


@SQLITE
def test_a_database_that_is_deleted_in_the_middle_is_said_to_be_gone(small_agency: Agency) -> None:
    path = Path(str(small_agency.database.engine.url.database))
    with interrupted(BEFORE_A_REPLY_IS_LANDED, path.unlink) as came:
        result = sync(small_agency)

    assert came
    assert not result.success
    assert MOVED in error_of(result)
    assert not path.exists(), "nobody began an empty database in its place"
    # What was there before can be had from a backup only; a run on a new file starts afresh.
    with Database.open(f"sqlite:///{path}") as anew:
        assert connections.list_connections(anew) == []
