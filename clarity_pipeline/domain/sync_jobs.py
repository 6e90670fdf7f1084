"""What a sync job is asked by and how it ends; one job is one business-day in one run."""

from __future__ import annotations

from enum import StrEnum


class Trigger(StrEnum):
    """Who asked for the job."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    PANEL = "panel"
    BACKFILL = "backfill"
    REPLAY = "replay"


class JobStatus(StrEnum):
    """How the job stands; everything but `running` is final."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    RATE_LIMITED = "rate_limited"
    AUTH_FAILED = "auth_failed"
    FAILED = "failed"
    SKIPPED = "skipped"
