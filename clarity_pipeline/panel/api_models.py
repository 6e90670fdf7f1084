"""What the API takes and gives, with the units and examples that its document shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.connections import (
    BUSINESS_ID_PATTERN,
    MAX_NAME_LENGTH,
    MAX_TOKEN_LENGTH,
    PROJECT_ID_PATTERN,
    ConnectionState,
    DisabledBy,
)
from clarity_pipeline.domain.day_history import DayWord
from clarity_pipeline.domain.failures import ComboStatus
from clarity_pipeline.domain.insight import BreakdownBy, PageEvent, PageRanking
from clarity_pipeline.domain.quota import CallOutcome
from clarity_pipeline.domain.quota_slots import SlotKind
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.domain.sync_requests import ComboStage, RequestState

LARGEST_ID: Final = 2**63 - 1

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _day(value: object) -> object:
    """Pydantic would also take a number of seconds for a day."""
    if isinstance(value, str):
        if not _DAY.fullmatch(value):
            raise ValueError("a day is written as YYYY-MM-DD")
        return date.fromisoformat(value)
    return value


Day = Annotated[date, BeforeValidator(_day)]
"""A UTC day as `YYYY-MM-DD`."""

BusinessIdText = Annotated[
    str, Field(description="Id of a business: 1 to 64 of a-z, 0-9, _ and -.", examples=["acme"])
]


class Sent(BaseModel):
    """What a request may say: nothing that is not named here, and nothing of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Told(BaseModel):
    """What an answer says; read from the values of the domain."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class FieldProblem(Told):
    """What is wrong with one part of a request."""

    pointer: str | None = Field(
        default=None, description="Where it is, from body, query or path.", examples=["body/token"]
    )
    line: int | None = Field(default=None, description="Line of a list, from 1.", examples=[3])
    message: str = Field(examples=["Field required"])


class ProblemDocument(Told):
    """An error as RFC 9457 has it; `code` is stable, the sentences are for people."""

    type: str = Field(examples=["urn:clarity-pipeline:problem:not_connected"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(examples=["This business is not connected to Clarity."])
    code: str = Field(examples=["not_connected"])
    errors: list[FieldProblem] | None = Field(
        default=None, description="The parts of a request that cannot be used, where known."
    )


class ConnectionChange(Sent):
    """How a business is to be connected. What is left out of `overview` follows the setting."""

    project_id: str = Field(
        max_length=60,
        description="As in clarity.microsoft.com/projects/view/<project id>.",
        examples=["abc123xyz0"],
        # Only said: what does not fit is refused with a code of its own.
        json_schema_extra={"pattern": rf"^\s*{PROJECT_ID_PATTERN}\s*$"},
    )
    token: SecretStr | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_TOKEN_LENGTH,
        description="API token, which is never shown again. Left out: the stored one is kept.",
        examples=["eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"],
    )
    overview: bool | None = Field(
        default=None,
        description="Make a fifth call a day for true totals; null follows the agency's setting.",
    )


class TokenTold(Told):
    """What may be shown of a stored token."""

    last4: str = Field(description="Its last four characters.", examples=["c2ln"])
    expires_at: datetime | None = Field(description="UTC; null where the token does not say.")
    needs_renewal: bool = Field(description="Whether it expires within a week.")
    has_expired: bool


class LandedTold(Told):
    """How much of yesterday is in."""

    day: Day = Field(description="The latest UTC day that is over.")
    landed: int = Field(ge=0, description="Combinations of dimensions that have arrived.")
    due: int = Field(ge=0, description="Combinations that a day has.")


class AttemptTold(Told):
    """The newest sync that could have made calls."""

    at: datetime
    day: Day
    trigger: Trigger
    status: JobStatus


class ErrorTold(Told):
    """The newest sync with an error to tell of, which may be mended since."""

    at: datetime
    day: Day
    code: str | None = Field(examples=["auth_failed"])
    message: str
    advice: str = Field(description="What to do about it.")


class ConnectionTold(Told):
    """A business's connection to Clarity; every instant is UTC."""

    business_id: BusinessIdText
    name: str = Field(examples=["Acme Inc."])
    description: str = Field(description="What the connection does and what it costs.")
    state: ConnectionState = Field(description="The one thing most worth knowing about it.")
    project_id: str | None = Field(description="Null when disconnected.", examples=["abc123xyz0"])
    token: TokenTold | None
    overview: bool | None = Field(description="The business's own choice; null follows the agency.")
    overview_in_force: bool = Field(description="Whether the fifth call of a day is made.")
    sync_enabled: bool
    disabled_by: DisabledBy | None
    disabled_reason: str | None
    disabled_at: datetime | None
    last_tested_at: datetime | None
    last_test_result: str | None = Field(
        description='"ok", or the code of what was wrong.', examples=["ok"]
    )
    last_success_at: datetime | None = Field(description="When data were last stored.")
    last_attempt: AttemptTold | None
    last_error: ErrorTold | None
    next_run_at: datetime | None = Field(description="Null while the sync is off.")
    yesterday: LandedTold


class TestWanted(Sent):
    """A test of the stored token; it burns one of the project's ten calls of today."""

    __test__ = False  # not one of pytest's

    confirm_last_slot: bool = Field(
        default=False, description="Needed where it would take the last call that is free."
    )


class QuotaTold(Told):
    """A project's calls on one UTC day."""

    project_id: str = Field(examples=["abc123xyz0"])
    utc_day: Day
    limit: int = Field(description="Calls per project and UTC day.", examples=[10])
    used: int = Field(ge=0)
    kept_for_schedule: int = Field(ge=0, description="Calls that only the daily sync may make.")
    free: int = Field(ge=0, description="Calls left for tests and manual syncs.")
    rate_limited: bool = Field(description="Whether Clarity has said that there are none left.")
    resets_at: datetime


class TestTold(Told):
    """What a test found."""

    __test__ = False  # not one of pytest's

    verdict: Literal["accepted", "refused", "not_judged"] = Field(
        description="What Clarity said of the token; not_judged where the quota is spent, or the "
        "call failed for a reason that says nothing of the token."
    )
    result: str = Field(description='"ok", or the code of what was wrong.', examples=["ok"])
    message: str = Field(examples=["Clarity accepts the token; the reply was kept."])
    calls_spent: int = Field(ge=0, le=1)
    sync_switched_off: bool = Field(
        description="Whether this test has switched the daily sync off, for a refused token."
    )
    quota: QuotaTold


class EnabledWanted(Sent):
    """Whether the daily sync is to run."""

    enabled: bool


class EnabledTold(Told):
    """How the sync stands now; `changed` is false where it stood so before."""

    sync_enabled: bool
    changed: bool


class DisconnectedTold(Told):
    """Project and token are forgotten; the history is retained."""

    changed: bool = Field(description="False where the business was not connected.")


class PurgePreviewTold(Told):
    """The history that there is, and that a purge would delete."""

    rows: Mapping[str, int] = Field(
        description="Rows by table.", examples=[{"clarity_daily_metrics": 1200}]
    )
    first_day: Day | None
    last_day: Day | None


class PurgeWanted(Sent):
    """The id of the business, repeated, as the confirmation of a deletion that is final."""

    business_id: str = Field(max_length=64, examples=["acme"])


class PurgedTold(Told):
    """What was deleted: rows by table, and of how many days."""

    rows: Mapping[str, int] = Field(examples=[{"clarity_daily_metrics": 1200}])
    days: int = Field(ge=0)


class SyncWanted(Sent):
    """The day that is to be synced."""

    day: Day | None = Field(
        default=None, description="UTC; the latest day that is over when left out."
    )


class ComboTold(Told):
    """How far one combination of dimensions is."""

    dimension_set: str = Field(examples=["Device,URL"])
    status: ComboStage | ComboStatus
    message: str | None


class SyncRequestTold(Told):
    """A sync that somebody asked for, and how far it is."""

    id: int = Field(examples=[17])
    day: Day
    requested_by: str = Field(examples=["ada@agency.example", "key: dashboard"])
    requested_at: datetime
    state: RequestState
    is_over: bool = Field(description="Whether nothing about it changes any more.")
    message: str = Field(examples=["Waiting for the worker."])
    job_id: int | None = Field(description="The sync job, once there is one.")
    combos: list[ComboTold]


class JobTold(Told):
    """A sync job: one business-day in one run."""

    id: int
    day: Day
    trigger: Trigger
    status: JobStatus
    started_at: datetime
    finished_at: datetime | None
    duration_seconds: float | None = Field(description="Null while it runs.")
    calls_used: int = Field(ge=0, description="Calls of the quota.")
    rows_written: int = Field(ge=0)
    error_code: str | None
    error_message: str | None


class JobsTold(Told):
    """Sync jobs, newest first."""

    jobs: list[JobTold]
    next_before_id: int | None = Field(
        description="Send it as before_id for the next page; null on the last."
    )


class SlotTold(Told):
    """One of the ten calls of a day. Of another business that shares the project, only the use."""

    number: int = Field(ge=1)
    kind: SlotKind | Literal["other"] = Field(
        description="What it was spent on, or what it is for while nobody has taken it."
    )
    business_id: str | None = Field(description="Who used it, where that may be known.")
    reserved_at: datetime | None
    outcome: CallOutcome | None = Field(description="Null while free, kept or in flight.")


class QuotaSlotsTold(QuotaTold):
    """A project's calls on one UTC day, with each of its ten slots."""

    slots: list[SlotTold]


_COUNT: Final[dict[str, Any]] = {"ge": 0, "examples": [420]}


class ValuesTold(Told):
    """The ten values; null is unknown, never zero."""

    clarity_sessions: int | None = Field(description="Sessions.", **_COUNT)
    clarity_rage_clicks: int | None = Field(description="Events.", **_COUNT)
    clarity_dead_clicks: int | None = Field(description="Events.", **_COUNT)
    clarity_excessive_scroll: int | None = Field(description="Events.", **_COUNT)
    clarity_quick_backs: int | None = Field(description="Events.", **_COUNT)
    clarity_rage_click_rate: float | None = Field(
        description="Events per session: 0.12 is 12 per 100.", examples=[0.12]
    )
    clarity_dead_click_rate: float | None = Field(
        description="Events per session.", examples=[0.31]
    )
    clarity_quick_back_rate: float | None = Field(
        description="Events per session.", examples=[0.05]
    )
    clarity_scroll_depth: float | None = Field(
        description="Percent of the page's height, 0 to 100.", examples=[61.5]
    )
    clarity_engagement_time_ms: int | None = Field(
        description="Active time per session, in milliseconds.", examples=[48000]
    )


class AggregatesTold(ValuesTold):
    """The ten values of a window, and how much of it they stand on."""

    days_in_window: int = Field(ge=0)
    days_with_data: int = Field(ge=0)
    last_date: Day | None = Field(description="The last day with data.")
    truncated: bool = Field(description="Whether a reply was cut at 1,000 rows.")
    session_basis: Literal["sessions", "page_sessions", "mixed"] | None = Field(
        description="Sessions of the project, or sessions per page, where a visit to three pages "
        "counts three times."
    )


class WindowTold(Told):
    """UTC days, both included."""

    start: Day
    end: Day


class AggregateTold(AggregatesTold):
    """The aggregates of a business, or of one of its pages."""

    url: str | None = Field(description="The page; null for the business as a whole.")


class WindowAggregatesTold(Told):
    """What rules are evaluated on: unknown where Clarity is disconnected or its sync is off."""

    window: WindowTold
    by: Literal["business", "url"]
    aggregates: list[AggregateTold] = Field(
        description="One for the business, or one per page, by address."
    )


class SeriesDayTold(ValuesTold):
    """One day; all values null where there are none."""

    day: Day
    has_data: bool
    word: DayWord
    reason: str | None = Field(description="Why the day is less than complete.")
    is_truncated: bool
    is_derived: bool
    is_shifted: bool
    is_partial: bool
    session_basis: Literal["sessions", "page_sessions"] | None


class SeriesTold(Told):
    """A window day by day, gaps included, and against the window before it."""

    window: WindowTold
    days: list[SeriesDayTold]
    values: AggregatesTold
    before: AggregatesTold = Field(description="The window of the same length before.")
    changes: Mapping[str, float | None] = Field(
        description="Change against the window before, in percent, by name of value.",
        examples=[{"clarity_rage_clicks": 12.0}],
    )


class PageTold(ValuesTold):
    """A page; a session that visits three pages counts for each of them."""

    url: str = Field(examples=["https://shop.example/sale"])
    days_with_data: int = Field(ge=0)
    truncated: bool


class PagesTold(Told):
    """The worst pages of a window, worst first."""

    window: WindowTold
    by: PageEvent
    ranking: PageRanking
    pages: list[PageTold]
    pages_with_events: int = Field(ge=0)
    days_with_data: int = Field(ge=0)
    truncated: bool


class GroupTold(ValuesTold):
    """One value of a dimension; null where Clarity gave none, empty where it knew none."""

    group: str | None = Field(examples=["Mobile"])


class BreakdownTold(Told):
    """A window by the values of a dimension, most sessions first; sessions are page sessions."""

    window: WindowTold
    by: BreakdownBy
    groups: list[GroupTold]
    others: GroupTold | None = Field(description="All groups after those that are listed.")
    others_count: int = Field(ge=0)
    days_in_window: int = Field(ge=0)
    days_with_data: int = Field(ge=0)
    truncated: bool
    is_derived: bool = Field(description="Whether a day was computed from a longer reply.")


class CalendarDayTold(Told):
    """A day in one word."""

    day: Day
    word: DayWord
    reason: str | None


class CalendarTold(Told):
    """Every day of a window, oldest first."""

    window: WindowTold
    days: list[CalendarDayTold]


class BusinessWanted(Sent):
    """A business that is to be added."""

    business_id: str = Field(
        max_length=64,
        description="1 to 64 of a-z, 0-9, _ and -.",
        examples=["acme"],
        json_schema_extra={"pattern": f"^{BUSINESS_ID_PATTERN}$"},
    )
    name: str = Field(
        default="",
        max_length=MAX_NAME_LENGTH,
        description="For people; the id when left out.",
        examples=["Acme Inc."],
    )


class BusinessTold(Told):
    """A business that was added."""

    business_id: BusinessIdText
    name: str
    created_at: datetime


class OverviewRowTold(Told):
    """A business and how it stands."""

    business_id: BusinessIdText
    name: str
    state: ConnectionState
    is_connected: bool
    last_synced_at: datetime | None
    latest_day: Day | None = Field(description="The latest day with data.")
    quota_used: int | None = Field(description="Null when not connected.")
    quota_kept: int | None
    quota_free: int | None
    rate_limited: bool
    rage_click_rate: float | None = Field(
        description="Events per session, of the last 30 days.", examples=[0.12]
    )
    rage_click_rates: list[float | None] = Field(description="By day, oldest first.")
    sessions: int | None = Field(description="Of the last 7 days.")


class BusinessesTold(Told):
    """A page of the list of businesses."""

    businesses: list[OverviewRowTold]
    total: int = Field(ge=0, description="All businesses.")
    matching: int = Field(ge=0, description="Those that the search and the states leave.")
    state_counts: Mapping[ConnectionState, int] = Field(
        description="Of those that the search leaves."
    )


class ConnectedTold(Told):
    """A business that the list has connected."""

    business_id: BusinessIdText
    is_new: bool = Field(description="Whether the list added the business.")
    project_id: str
    token_last4: str
    token_expires_at: datetime | None


class ManyConnectedTold(Told):
    """All businesses of the list, in its order."""

    connected: list[ConnectedTold]


class AuditEntryTold(Told):
    """Something that somebody did."""

    id: int
    at: datetime
    actor: str = Field(examples=["ada@agency.example", "key: dashboard"])
    action: AuditAction
    business_id: str | None
    detail: Mapping[str, Any] | None
    remote_address: str | None


class AuditTold(Told):
    """The audit log, newest first."""

    entries: list[AuditEntryTold]
    next_before_id: int | None = Field(
        description="Send it as before_id for the next page; null on the last."
    )
