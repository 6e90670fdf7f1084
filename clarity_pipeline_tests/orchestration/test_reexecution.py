"""A run that is executed again, in whatever parts, asks Clarity only for what is missing.

The runs are of a reconstructable job, so that outputs are stored between them as they are for the
runs that the Dagster UI starts.
"""

from __future__ import annotations

from collections import Counter

import dagster as dg
import pytest
from pydantic import PrivateAttr

from clarity_pipeline.definitions import build_defs
from clarity_pipeline.domain.collection import TRIGGER_TAG
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, URL_CAMPAIGN_CHANNEL
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.export_api.emulator import Fault, emulator_token
from clarity_pipeline.operations import connecting
from clarity_pipeline.operations.call_runner import CallRunner
from clarity_pipeline.orchestration.resources import (
    ClockResource,
    ExportApiResource,
    StoreResource,
)
from clarity_pipeline_tests.agency import DAY, ON_TIME, Agency

FIRST_FETCH = "fetch_url_campaign_channel"
"""Steps that are ready at the same time run in the order of their names."""

FOUR = Counter(combo.dimension_set for combo in DEFAULT_COMBOS)


class ExportApiWithABug(ExportApiResource):
    """Fails the step that is the second to ask for the call runner: the first fetch."""

    _asked: int = PrivateAttr(default=0)

    def call_runner(self, store: StoreResource, clock: ClockResource) -> CallRunner:
        self._asked += 1
        if self._asked == 2:
            raise RuntimeError("a bug")
        return super().call_runner(store, clock)


def daily_sync(*, with_a_bug: bool) -> dg.JobDefinition:
    """The job as a process that is started for one run builds it."""
    export_api = ExportApiWithABug if with_a_bug else ExportApiResource
    return build_defs(
        clock=ClockResource(fixed_at=ON_TIME.isoformat()),
        export_api=export_api(retry_after_seconds=0),
    ).resolve_job_def("clarity_daily_sync")


def run(
    agency: Agency,
    *,
    again: dg.ReexecutionOptions | None = None,
    with_a_bug: bool = False,
    business_ids: list[str] | None = None,
) -> dg.JobExecutionResult:
    """A run of DAY, or the re-execution of one; failing is a result, not an exception."""
    job = dg.build_reconstructable_job(
        __name__, "daily_sync", reconstructable_kwargs={"with_a_bug": with_a_bug}
    )
    config = {"clarity_raw_exports": {"config": {"business_ids": business_ids or []}}}
    with (
        agency.instance() as instance,
        dg.execute_job(
            job,
            instance=instance,
            run_config={"ops": config, "loggers": {"console": {"config": {"log_level": "ERROR"}}}},
            tags={"dagster/partition": DAY.isoformat(), TRIGGER_TAG: Trigger.SCHEDULE.value},
            reexecution_options=again,
        ) as result,
    ):
        return result


def from_failure(agency: Agency, failed: dg.JobExecutionResult) -> dg.ReexecutionOptions:
    with agency.instance() as instance:
        return dg.ReexecutionOptions.from_failure(failed.run_id, instance)


def steps_of(agency: Agency, result: dg.JobExecutionResult) -> set[str]:
    with agency.instance() as instance:
        stats = instance.get_run_step_stats(result.run_id)
    return {step.step_key.removeprefix("clarity_raw_exports.").split("[")[0] for step in stats}


def called(agency: Agency, business_id: str | None = None) -> Counter[str]:
    return Counter(call.dimension_set for call in agency.calls(business_id))


def test_from_failure_after_every_business_failed_the_missing_calls_are_made(
    agency: Agency,
) -> None:
    project = agency.connect("acme")
    agency.emulator.control.revoke_token(project.project_id)
    failed = run(agency)
    assert not failed.success
    assert called(agency) == {"Device,URL": 1}
    connecting.connect(
        agency.database,
        agency.vault,
        business_id="acme",
        project_id=project.project_id,
        token=emulator_token(project.project_id, serial=2),
        now=agency.now,
    )
    agency.emulator.control.clear_calls()
    again = run(agency, again=from_failure(agency, failed))

    assert again.success
    assert "plan_day" not in steps_of(agency, again)
    assert called(agency) == FOUR
    job = agency.latest_job("acme")
    assert (job.status, job.calls_used, job.trigger, job.dagster_run_id) == (
        JobStatus.SUCCEEDED,
        4,
        Trigger.SCHEDULE,
        again.run_id,
    )
    assert job.rows_written > 0


def test_from_failure_while_nothing_is_mended_one_call_is_made_and_the_run_fails_again(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With the usual 1 the business would be switched off by then, and nothing asked.
    monkeypatch.setenv("CLARITY_AUTH_FAILURES_BEFORE_DISABLE", "3")
    project = agency.connect("acme")
    agency.emulator.control.revoke_token(project.project_id)
    failed = run(agency)
    again = run(agency, again=from_failure(agency, failed))
    assert not again.success
    assert called(agency) == {"Device,URL": 2}
    assert agency.latest_job("acme").dagster_run_id == again.run_id


def test_from_failure_a_run_stays_narrowed_to_its_businesses(agency: Agency) -> None:
    agency.connect("acme")
    agency.connect("globex")
    agency.emulator.control.add_fault(
        Fault(project_id=agency.projects["acme"].project_id, status=400, times=4)
    )
    failed = run(agency, business_ids=["acme"])
    assert not failed.success
    again = run(agency, again=from_failure(agency, failed), business_ids=["acme"])
    assert not again.success
    assert called(agency, "acme") == FOUR
    assert agency.calls("globex") == []


def test_from_failure_of_a_single_step_nothing_that_landed_is_asked_for_again(
    agency: Agency,
) -> None:
    agency.connect("acme")
    failed = run(agency, with_a_bug=True)
    assert not failed.success
    assert called(agency) == FOUR
    again = run(agency, again=from_failure(agency, failed))

    assert again.success
    repeated = {step for step in steps_of(agency, again) if step.startswith("fetch")}
    assert repeated == {FIRST_FETCH}
    assert called(agency) == FOUR
    assert agency.latest_job("acme").status is JobStatus.SUCCEEDED


def test_what_a_repeated_step_was_refused_is_not_asked_for_a_second_time_in_its_run(
    agency: Agency,
) -> None:
    """Its failure is of this run; only what other runs came to is history."""
    agency.connect("acme")
    combo = URL_CAMPAIGN_CHANNEL.dimension_set
    agency.emulator.control.add_fault(Fault(dimension_set=combo, status=503, times=None))
    failed = run(agency, with_a_bug=True)
    before = called(agency)
    again = run(agency, again=from_failure(agency, failed))
    assert again.success
    assert called(agency) - before == {combo: 2}
    job = agency.latest_job("acme")
    assert (job.status, job.calls_used) == (JobStatus.PARTIAL, 2)


@pytest.mark.parametrize("selection", [[], ["clarity_raw_exports.collect_outcomes*"]])
def test_a_run_that_succeeded_costs_nothing_when_it_is_executed_again(
    agency: Agency, selection: list[str]
) -> None:
    agency.connect("acme")
    first = run(agency)
    assert first.success
    again = run(
        agency,
        again=dg.ReexecutionOptions(parent_run_id=first.run_id, step_selection=selection),
    )
    assert again.success
    assert called(agency) == FOUR
    job = agency.latest_job("acme")
    assert (job.status, job.calls_used) == (JobStatus.SUCCEEDED, 0)
