"""The ways in which Clarity, or what is in between, misbehaves, and what has to come of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.export_api.emulator import Fault, ReceivedCall
from clarity_pipeline.store.sync_jobs import SyncJob

MIB: Final = 1024 * 1024
COMBOS: Final = 4


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """A fault of every call of a project, and the sync job that it must lead to.

    `says` is a piece of the job's message, `calls` what it may cost: one where the answer holds
    for the whole project, one per combo where it holds for the combo, two where it may pass. The
    last second try finds no slot if by then the other three combos are owed again.
    """

    fault: Fault
    status: JobStatus
    error_code: str
    says: str
    calls: Collection[int]


def _refused(fault: Fault, status: JobStatus, error_code: str, says: str) -> Misbehaviour:
    return Misbehaviour(fault, status, error_code, says, {1})


def _permanent(fault: Fault, error_code: str, says: str) -> Misbehaviour:
    return Misbehaviour(fault, JobStatus.FAILED, error_code, says, {COMBOS})


def _transient(fault: Fault, error_code: str, says: str) -> Misbehaviour:
    return Misbehaviour(fault, JobStatus.FAILED, error_code, says, {2 * COMBOS - 1, 2 * COMBOS})


_HTML: Final = {"Content-Type": "text/html"}

MISBEHAVIOURS: Final[Mapping[str, Misbehaviour]] = {
    "expired-token": _refused(Fault(status=401), JobStatus.AUTH_FAILED, "auth_failed", "401"),
    "foreign-token": _refused(Fault(status=403), JobStatus.AUTH_FAILED, "auth_failed", "403"),
    "spent-quota": _refused(Fault(status=429), JobStatus.RATE_LIMITED, "rate_limited", "429"),
    "outage": _transient(Fault(status=500), "service_unavailable", "HTTP 500"),
    "slow-loris": _transient(
        Fault(drip_bytes=1, drip_seconds=0.2), "timed_out", "was not complete within"
    ),
    "silence": _transient(Fault(delay_seconds=600), "timed_out", "sent nothing for"),
    "dropped": _transient(Fault(drop=True), "connection_broken", "broke before"),
    "cut-off": _transient(Fault(truncate_at_bytes=300), "connection_broken", "broke before"),
    "truncated-json": _permanent(
        Fault(body='[{"metricName":"Traffic","information":[{"totalSe'),
        "reply_unreadable",
        "is not JSON",
    ),
    "too-large": _permanent(Fault(pad_to_bytes=70 * MIB), "reply_unreadable", "larger than"),
    "too-large-unannounced": _permanent(
        Fault(pad_to_bytes=70 * MIB, announce_length=False), "reply_unreadable", "larger than"
    ),
    "html": _permanent(
        Fault(body="<html><h1>Sign in</h1></html>", headers=_HTML),
        "reply_unreadable",
        "is not JSON",
    ),
    "redirect": _permanent(
        Fault(status=302, headers={"Location": "https://example.org/"}),
        "request_rejected",
        "redirect",
    ),
}


TAKES_A_WHILE: Final = frozenset({"too-large-unannounced"})
"""64 MiB have to be sent before it shows: longer than a hurried test would wait for any reply."""


def fault_of(name: str, *, project_id: str) -> Fault:
    """What makes a project misbehave in this way until the end."""
    return replace(MISBEHAVIOURS[name].fault, project_id=project_id, times=None)


def complaints(
    *,
    jobs: Mapping[str, SyncJob],
    project_ids: Mapping[str, str],
    misbehaving: Mapping[str, str],
    calls: Sequence[ReceivedCall],
) -> list[str]:
    """What is not as it must be after a day, one line each.

    `jobs` are by business, `project_ids` too, and `misbehaving` says who does it how.
    """
    received = Counter(call.project_id for call in calls)
    found: list[str] = []
    for business_id, project_id in project_ids.items():
        job, count = jobs[business_id], received[project_id]
        name = misbehaving.get(business_id)
        if name is None:
            if (job.status, count) != (JobStatus.SUCCEEDED, COMBOS):
                found.append(f"{business_id}: {job.status} {job.error_message} after {count} calls")
            continue
        expected = MISBEHAVIOURS[name]
        if (job.status, job.error_code) != (expected.status, expected.error_code):
            found.append(f"{name}: {job.status}, {job.error_code}: {job.error_message}")
        elif expected.says not in (job.error_message or ""):
            found.append(f"{name} says {job.error_message}")
        if count not in expected.calls:
            found.append(f"{name}: {count} calls")
        if job.calls_used != count:
            found.append(f"{name}: {count} calls, and the job has counted {job.calls_used}")
    return found
