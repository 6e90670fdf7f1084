"""Missed days for tests: collecting without Dagster, and what really happened on the site."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection
from datetime import date, timedelta

from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.dimensions import COMBO_BY_DIMENSION_SET, Dimension
from clarity_pipeline.domain.metrics import CLICK_BLOCK_COLUMNS
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.domain.urls import canonical_url
from clarity_pipeline.export_api.client import ExportApiClient
from clarity_pipeline.export_api.emulated_site import PageView, Session, SessionKind, SiteHistory
from clarity_pipeline.export_api.emulator import EmulatedProject
from clarity_pipeline.operations.call_runner import CallRunner
from clarity_pipeline.operations.collect_day import plan_day, settle_day
from clarity_pipeline.operations.guarded_call import GuardedCaller
from clarity_pipeline.operations.rebuild_day import rebuild, record_in_jobs
from clarity_pipeline.store import daily_metrics
from clarity_pipeline.store.daily_metrics import SliceState
from clarity_pipeline_tests.agency import DAY, Agency, days_later

NEXT_DAY = DAY + timedelta(days=1)
Figures = dict[tuple[str | None, ...], Counter[str]]

_RUNS = itertools.count(1)


def collect(
    agency: Agency,
    day: date | None = None,
    *,
    trigger: Trigger = Trigger.SCHEDULE,
    business_ids: Collection[str] = (),
    recovery: bool = True,
) -> None:
    """What the daily job does with a day, yesterday unless told otherwise, without Dagster."""
    run_id = f"run {next(_RUNS)}"
    plan = plan_day(
        agency.database,
        day=day or day_collected_at(agency.now),
        business_ids=business_ids,
        trigger=trigger,
        overview_default=False,
        recovery=recovery,
        run_id=run_id,
        now=agency.now,
    )
    runner = CallRunner(
        GuardedCaller(
            database=agency.database,
            vault=agency.vault,
            client=ExportApiClient(base_url=agency.settings.api_url),
            clock=lambda: agency.now,
            overview_default=False,
            retry_after_seconds=0,
        )
    )
    try:
        outcomes = runner.outcomes(plan.calls)
    finally:
        runner.close()
    settle_day(agency.database, plan, outcomes, auth_failures_before_disable=1, now=agency.now)
    rebuilt = rebuild(agency.database, day=plan.day, now=agency.now)
    record_in_jobs(agency.database, rebuilt, day=plan.day, run_id=run_id)


def happened(project: EmulatedProject, state: SliceState) -> Figures:
    """Events and sessions of each tuple in the very window of a slice, out of what was generated.

    Tuples of unlabelled sessions alone, of which there is nothing to count, are left out.
    """
    combo = COMBO_BY_DIMENSION_SET[state.dimension_set]
    sessions: Counter[tuple[tuple[str | None, ...], SessionKind]] = Counter()
    figures: Figures = {}
    for session in SiteHistory().sessions(
        project.site, start=state.window_start, end=state.window_end
    ):
        # Two addresses of one page are two tuples of the reply, and their sessions are added up.
        seen = {
            (combo.dimensions and view.url, _values(combo.dimensions, session, view))
            for view in session.page_views
        }
        sessions.update((values, session.kind) for _, values in seen)
        for view in session.page_views:
            values = _values(combo.dimensions, session, view)
            for block, count in view.events.items():
                figures.setdefault(values, Counter())[CLICK_BLOCK_COLUMNS[block]] += count
    for (values, kind), count in sessions.items():
        if kind is SessionKind.HUMAN:
            figures.setdefault(values, Counter())["sessions"] += count
        elif kind is SessionKind.BOT:
            figures.setdefault(values, Counter())["bot_sessions"] += count
    return {values: +counts for values, counts in figures.items() if +counts}


def _values(
    dimensions: Collection[Dimension], session: Session, view: PageView
) -> tuple[str | None, ...]:
    texts = {
        Dimension.URL: None if view.url is None else canonical_url(view.url),
        Dimension.DEVICE: session.device,
        Dimension.COUNTRY: session.country,
        Dimension.SOURCE: view.source,
        Dimension.CAMPAIGN: view.campaign,
        Dimension.CHANNEL: view.channel,
    }
    return tuple(texts[dimension] for dimension in dimensions)


def stored(agency: Agency, state: SliceState) -> Figures:
    combo = COMBO_BY_DIMENSION_SET[state.dimension_set]
    frame = daily_metrics.read_metrics(
        agency.database,
        business_id=state.business_id,
        day=state.day,
        dimension_set=state.dimension_set,
    )
    names = ("sessions", "bot_sessions", *CLICK_BLOCK_COLUMNS.values())
    figures: Figures = {}
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        values = tuple(row[dimension.column] for dimension in combo.dimensions)
        figures[values] = +Counter({name: row[name] or 0 for name in names})
    return {values: counts for values, counts in figures.items() if counts}


def slices(agency: Agency, day: date = DAY) -> dict[str, SliceState]:
    states = daily_metrics.list_slices(agency.database, start=day, end=day)
    return {state.dimension_set: state for state in states}


def asked(agency: Agency) -> Counter[int]:
    """The calls Clarity received, by the number of days they asked for."""
    return Counter(int(call.num_of_days or 1) for call in agency.calls())


def miss(agency: Agency, *, days_ago: int = 2, **project: object) -> EmulatedProject:
    """A business whose day nobody collected, so many days after it."""
    emulated = agency.connect("acme", **project)
    agency.move_to(days_later(days_ago - 1))
    return emulated
