"""What is kept for how long: cut-offs from settings, and what may go once it is older.

Metrics and aggregates are kept for ever. What may go is what they were made of: the raw rows in
`raw_payload`, the bodies of landed replies, and the orchestrator's records of its runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol, TypeVar

from clarity_pipeline.domain.collection import JudgedReply, exports_of_record
from clarity_pipeline.domain.exports import Verdict


class Kept(StrEnum):
    """What a setting limits the age of."""

    PAYLOADS = "payloads"
    EXPORTS = "exports"
    RUNS = "runs"


_IN_WORDS: Final = {
    Kept.PAYLOADS: "Raw payloads",
    Kept.EXPORTS: "Landed bodies",
    Kept.RUNS: "Finished Dagster runs",
}


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """How many days each kind is kept, as set; None is for ever."""

    payload_days: int | None = None
    exports_days: int | None = None
    runs_days: int | None = None

    @property
    def any_is_set(self) -> bool:
        return any((self.payload_days, self.exports_days, self.runs_days))


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed of one kind, or with a dry run would be.

    `cutoff` is the first day that is kept, None where all of it is. `rows` counts metrics rows,
    landed replies or runs; `stored_bytes` is what they took up, 0 where nobody can tell. The days
    are those the data are about, of runs those they ended on.
    """

    kind: Kept
    cutoff: date | None
    rows: int = 0
    stored_bytes: int = 0
    oldest_day: date | None = None
    newest_day: date | None = None

    def sentence(self, *, dry_run: bool = False) -> str:
        """What a person reads: what, older than when, how many, of which days."""
        what = _IN_WORDS[self.kind]
        if self.cutoff is None:
            return f"{what} are kept for ever."
        verb = "would be removed" if dry_run else "were removed"
        if not self.rows:
            return f"{what} before {self.cutoff}: none {verb}."
        return (
            f"{what} before {self.cutoff}: {self.rows:,} {verb} ({self.stored_bytes:,} bytes), of "
            f"{self.oldest_day} to {self.newest_day}."
        )

    def numbers(self) -> dict[str, int | str]:
        """The same for programs, days as text; what there is none of is left out."""
        days = {
            "first_day_kept": self.cutoff,
            "oldest_day": self.oldest_day,
            "newest_day": self.newest_day,
        }
        return {
            "rows_removed": self.rows,
            "bytes_removed": self.stored_bytes,
            **{name: day.isoformat() for name, day in days.items() if day is not None},
        }

    def with_batch(self, *, day: date, rows: int, stored_bytes: int) -> Removal:
        """The same with one more batch; one of no rows changes nothing."""
        if not rows:
            return self
        return Removal(
            kind=self.kind,
            cutoff=self.cutoff,
            rows=self.rows + rows,
            stored_bytes=self.stored_bytes + stored_bytes,
            oldest_day=min(self.oldest_day or day, day),
            newest_day=max(self.newest_day or day, day),
        )


def first_day_kept(*, now: datetime, days: int | None) -> date | None:
    """The oldest UTC day that is still kept: today and the `days` before it are. None is all."""
    return None if days is None else now.astimezone(UTC).date() - timedelta(days=days)


def is_kept(day: date, *, now: datetime, days: int | None) -> bool:
    """Whether a day is young enough to be kept whole."""
    cutoff = first_day_kept(now=now, days=days)
    return cutoff is None or day >= cutoff


class StoredReply(JudgedReply, Protocol):
    """What deciding about a landed body needs to know beside the verdict."""

    @property
    def has_body(self) -> bool: ...


Reply = TypeVar("Reply", bound=StoredReply)


def removable_replies(
    replies: Iterable[Reply], *, built_from_export: Mapping[tuple[str, str], int]
) -> list[Reply]:
    """Those of one day's replies whose body nothing waits for any more.

    `built_from_export` says from which export the slice of each (business, dimension set) was
    built. A reply that has not been judged keeps its body, whatever its age. So do all accepted
    replies for a slice that has not been built, or was built from another reply than the one of
    record: the first failed rebuild would otherwise lose what cannot be asked for again.
    """
    candidates = list(replies)
    waiting = {
        key
        for key, reply in exports_of_record(candidates).items()
        if built_from_export.get(key) != reply.id
    }
    return [
        reply
        for reply in candidates
        if reply.has_body
        and reply.verdict is not None
        and not (
            reply.verdict is Verdict.ACCEPTED
            and (reply.business_id, reply.dimension_set) in waiting
        )
    ]


class FinishedRun(Protocol):
    """What deciding about an orchestrator's run needs to know of it."""

    @property
    def run_id(self) -> str: ...
    @property
    def ended_at(self) -> datetime: ...
    @property
    def backfill_id(self) -> str | None: ...


Run = TypeVar("Run", bound=FinishedRun)


def removable_runs(
    finished: Iterable[Run],
    *,
    cutoff: date,
    needed_run_ids: frozenset[str],
    needed_backfill_ids: frozenset[str],
) -> list[Run]:
    """Those of the finished runs that ended before the cut-off and that nothing at work needs.

    Needed are the runs that an unfinished one re-executes, and those of unfinished backfills,
    which count what has been done by them.
    """
    return [
        run
        for run in finished
        if run.ended_at.astimezone(UTC).date() < cutoff
        and run.run_id not in needed_run_ids
        and run.backfill_id not in needed_backfill_ids
    ]
