"""`clarity sync` and `clarity replay`: collecting a day, and rebuilding days from what landed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clarity_pipeline.cli.connections import job_document
from clarity_pipeline.cli.options import AsJson
from clarity_pipeline.cli.output import (
    cell,
    complain,
    console,
    print_json,
    say,
    table,
)
from clarity_pipeline.cli.progress import expected_calls, shown_progress
from clarity_pipeline.cli.session import Session, open_session, utc_now

if TYPE_CHECKING:
    from datetime import datetime

    from clarity_pipeline.operations.replay_day import ReplayedDay
    from clarity_pipeline.orchestration.launch import FinishedRun
    from clarity_pipeline.store.connections import ConnectionRecord
    from clarity_pipeline.store.sync_jobs import SyncJob

Businesses = Annotated[
    list[str] | None,
    typer.Option("--business", metavar="ID", help="Only this business; may be repeated."),
]

JOB_TONES: Final = {
    "succeeded": "good",
    "partial": "warn",
    "rate_limited": "warn",
    "skipped": "warn",
    "running": "warn",
    "failed": "bad",
    "auth_failed": "bad",
}

REPLAY_WORDS: Final = {
    "rebuilt": ("rebuilt", "good"),
    "gap": ("gap: nothing landed", "warn"),
    "failed": ("failed", "bad"),
}

QUOTA: Final = 3
AUTHENTICATION: Final = 4


def register(app: typer.Typer) -> None:
    app.command()(sync)
    app.command()(replay)


def sync(
    day: Annotated[
        str | None,
        typer.Option("--day", metavar="YYYY-MM-DD", help="UTC day; yesterday when left out."),
    ] = None,
    business: Businesses = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Collect a day: fetch what has not landed, normalise it, roll it up.

    Runs the Dagster job `clarity_daily_sync` in this process, on the same instance as the UI.
    What has landed costs no call again.
    """
    from clarity_pipeline.domain.days import check_day_is_over, day_collected_at, parse_day

    now = utc_now()
    wanted_day = day_collected_at(now) if day is None else parse_day(day)
    check_day_is_over(wanted_day, now=now)
    with open_session() as session:
        records = _records_to_sync(session, wanted_day, business or [])
        if not records:
            _print_nothing_to_sync(wanted_day, as_json=as_json)
            return
        # A missing key would otherwise fail every business by itself, after the run has started.
        _ = session.vault
        run = _run(session, records, day=wanted_day, named=bool(business), now=now)
        jobs = _jobs_of_run(session, run, day=wanted_day)
        switched_off = _switched_off(session, jobs)
    if as_json:
        print_json(
            {
                "day": wanted_day,
                "dagster_run_id": run.run_id,
                "succeeded": run.succeeded,
                "error": run.error,
                "switched_off": switched_off,
                "jobs": [job_document(job) for job in jobs],
            }
        )
    else:
        print_jobs(jobs, title=f"{wanted_day} (UTC)")
        if switched_off:
            say(f"Switched off until connected with another token: {', '.join(switched_off)}.")
        if run.error and not _said_by_a_job(run.error, jobs):
            complain(run.error)
    raise typer.Exit(sync_exit_code(jobs, run_succeeded=run.succeeded))


def replay(
    start: Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", help="First UTC day.")],
    end: Annotated[str, typer.Option("--to", metavar="YYYY-MM-DD", help="Last UTC day.")],
    business: Businesses = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Rebuild days from the replies that landed for them. Makes no call, ever."""
    from clarity_pipeline.domain.days import check_day_is_over, days_between, parse_day
    from clarity_pipeline.operations.replay_day import replay_day

    first, last = parse_day(start), parse_day(end)
    days = days_between(first, last)
    check_day_is_over(last, now=utc_now())
    with open_session() as session:
        replayed = [
            result
            for day in _watched(days)
            for result in replay_day(
                session.database,
                day=day,
                business_ids=business,
                clock=utc_now,
                keep_payload_days=session.settings.keep_payload_days,
            )
        ]
    if as_json:
        print_json({"days": [_replayed_document(result) for result in replayed]})
    else:
        _print_replayed(replayed)
    if any(result.error_message for result in replayed):
        raise typer.Exit(1)


def sync_exit_code(jobs: Sequence[SyncJob], *, run_succeeded: bool) -> int:
    """0 when every business has all its data; 3 or 4 when quota or tokens alone are to blame."""
    from clarity_pipeline.domain.collection import ComboStatus
    from clarity_pipeline.domain.sync_jobs import JobStatus

    reasons: set[int] = set()
    some_data = False
    for job in jobs:
        statuses = [ComboStatus(str(combo["status"])) for combo in (job.combos or {}).values()]
        some_data = some_data or any(status.has_data for status in statuses)
        for status in statuses:
            match status:
                case ComboStatus.LANDED | ComboStatus.ALREADY_LANDED | ComboStatus.RECOVERED:
                    pass
                case ComboStatus.AUTH_FAILED:
                    reasons.add(AUTHENTICATION)
                case ComboStatus.RATE_LIMITED | ComboStatus.QUOTA_REFUSED:
                    reasons.add(QUOTA)
                case _:
                    reasons.add(1)
        if not statuses and job.status is not JobStatus.SUCCEEDED:
            reasons.add(1)
    # A run without any data fails for that reason alone; one with data, for another.
    if not run_succeeded and (some_data or not reasons):
        reasons.add(1)
    if not reasons:
        return 0
    return reasons.pop() if len(reasons) == 1 else 1


def print_jobs(jobs: Sequence[SyncJob], *, title: str) -> None:
    """One row per business, what was recovered, and each thing that is lacking said once."""
    listing = table(title, ("business", "status", "calls", "rows written"), numbers_from=2)
    for job in jobs:
        listing.add_row(
            cell(job.business_id),
            cell(job.status.value.replace("_", " "), JOB_TONES[job.status.value]),
            cell(job.calls_used),
            cell(job.rows_written),
        )
    console().print(listing)
    concerned: dict[str, list[str]] = {}
    for job in jobs:
        recovered = _recovered_combos(job)
        if recovered:
            made = "The day had been missed. Recovered from longer replies and marked as derived"
            concerned.setdefault(f"{made}: {', '.join(recovered)}.", []).append(job.business_id)
        if job.error_message:
            concerned.setdefault(job.error_message, []).append(job.business_id)
    for message, business_ids in concerned.items():
        who = business_ids[0] if len(business_ids) == 1 else f"{len(business_ids)} businesses"
        say(f"{who}: {message}")


def _recovered_combos(job: SyncJob) -> list[str]:
    from clarity_pipeline.domain.dimensions import COMBO_BY_DIMENSION_SET
    from clarity_pipeline.domain.failures import ComboStatus

    combos = job.combos or {}
    return [
        combo.label
        for name, combo in COMBO_BY_DIMENSION_SET.items()
        if name in combos and combos[name]["status"] == ComboStatus.RECOVERED
    ]


def _records_to_sync(session: Session, day: date, named: Sequence[str]) -> list[ConnectionRecord]:
    """Those named, each of which must be able to sync, or all that are enabled."""
    from clarity_pipeline.operations.collect_day import check_can_sync, should_have
    from clarity_pipeline.store.connections import list_connections

    if not named:
        return [r for r in list_connections(session.database) if should_have(r, day)]
    records = list_connections(session.database, set(named))
    for record in records:
        check_can_sync(record, day=day)
    return records


def _run(
    session: Session,
    records: Collection[ConnectionRecord],
    *,
    day: date,
    named: bool,
    now: datetime,
) -> FinishedRun:
    from clarity_pipeline.definitions import build_defs
    from clarity_pipeline.domain.sync_jobs import Trigger
    from clarity_pipeline.operations.abandoned_jobs import settle_stopped
    from clarity_pipeline.orchestration.launch import prepare_dagster_home, run_daily_sync

    expected = expected_calls(
        session.database,
        records,
        day=day,
        now=now,
        overview_default=session.settings.overview,
    )
    home = prepare_dagster_home(session.settings).directory
    ids = [record.business_id for record in records]
    try:
        with shown_progress(session.database, expected, label=str(day)):
            return run_daily_sync(
                build_defs(),
                dagster_home=home,
                day=day,
                business_ids=ids if named else [],
                trigger=Trigger.MANUAL,
            )
    except BaseException:
        settle_stopped(session.database, overview_default=session.settings.overview, now=utc_now())
        raise


def _jobs_of_run(session: Session, run: FinishedRun, *, day: date) -> list[SyncJob]:
    from clarity_pipeline.store.sync_jobs import list_jobs

    jobs = list_jobs(session.database, day=day, limit=None)
    return sorted(
        (job for job in jobs if job.dagster_run_id == run.run_id), key=lambda job: job.business_id
    )


def _switched_off(session: Session, jobs: Sequence[SyncJob]) -> list[str]:
    """The businesses whose token was refused, and which are therefore not synced any more."""
    from clarity_pipeline.domain.connections import DisabledBy
    from clarity_pipeline.store.connections import list_connections

    records = list_connections(session.database, [job.business_id for job in jobs])
    return [r.business_id for r in records if r.disabled_by is DisabledBy.AUTH_FAILURE]


def _said_by_a_job(error: str, jobs: Sequence[SyncJob]) -> bool:
    return any(job.error_message and job.error_message in error for job in jobs)


def _print_nothing_to_sync(day: date, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "day": day,
                "dagster_run_id": None,
                "succeeded": True,
                "error": None,
                "switched_off": [],
                "jobs": [],
            }
        )
    else:
        say(f"No business is connected, switched on and old enough to have data of {day}.")


def _replayed_document(result: ReplayedDay) -> dict[str, object]:
    return {
        "business_id": result.business_id,
        "day": result.day,
        "status": result.status.value,
        "slices": result.slices,
        "slices_without_a_body": result.bodies_removed,
        "rows_written": result.rows_written,
        "error_message": result.error_message,
    }


def _watched(days: Sequence[date]) -> Iterable[date]:
    from rich.progress import track

    screen = console(stderr=True)
    return track(days, "Replaying", console=screen, transient=True, disable=not screen.is_terminal)


def _print_replayed(replayed: Sequence[ReplayedDay]) -> None:
    if not replayed:
        say("There was nothing to replay: no business had been connected by then.")
        return
    listing = table(
        "Replayed without a call", ("business", "day", "", "slices", "rows changed"), numbers_from=3
    )
    for result in replayed:
        word, tone = REPLAY_WORDS[result.status.value]
        listing.add_row(
            cell(result.business_id),
            cell(result.day),
            cell(word, tone),
            cell(result.slices),
            cell(result.rows_written),
        )
    console().print(listing)
    left_alone = sum(result.bodies_removed for result in replayed)
    if left_alone:
        say(
            f"{left_alone} slices stay as they are: the bodies of their replies are older than "
            "CLARITY_KEEP_EXPORTS_DAYS keeps them."
        )
    for result in replayed:
        if result.error_message:
            complain(f"{result.business_id} {result.day}: {result.error_message}")
