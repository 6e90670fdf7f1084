"""Everything right of raw landing: free, repeatable, rebuilt from what was landed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import accumulate
from typing import TypeVar

import pandas as pd
from pydantic import SecretStr

from clarity_pipeline.domain.aggregates import (
    AGGREGATES_VERSION,
    SUMMED_COLUMNS,
    aggregate_business_day,
    aggregate_url_days,
)
from clarity_pipeline.domain.collection import exports_of_record
from clarity_pipeline.domain.cycles import no_cyclic_garbage_collection
from clarity_pipeline.domain.derive import derive_slice, derived_from
from clarity_pipeline.domain.dimensions import OVERVIEW, URL_DEVICE
from clarity_pipeline.domain.errors import (
    ClarityError,
    ExportCorrupt,
    ExportError,
    ExportRemoved,
    RebuildFailed,
)
from clarity_pipeline.domain.normalise import (
    NormalisedSlice,
    built_from,
    normalise_export,
    without_payload,
)
from clarity_pipeline.domain.recovery import DerivablePair, derivable_pairs
from clarity_pipeline.domain.retention import is_kept
from clarity_pipeline.operations.second_process import called_beside
from clarity_pipeline.store import (
    aggregates,
    daily_metrics,
    dimension_aggregates,
    exports,
    sync_jobs,
)
from clarity_pipeline.store.daily_metrics import SliceState, WriteCounts
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.dimension_aggregates import SliceToRollUp
from clarity_pipeline.store.exports import JudgedExport

logger = logging.getLogger(__name__)

NORMALISED_AT_ONCE = 2
"""Businesses in work at the same time: while one waits for the database another is parsed. More
would only hold more replies in memory."""

ROLLED_UP_AT_ONCE = 4
"""Rolling up is mostly waiting for the database."""

SHARED_FROM_BYTES = 100 * 1024 * 1024
"""Below that, a second process would come too late: one normalises a quarter of it while another
starts."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What rebuilding one layer of a day did, per business; `failures` name what was left alone.

    `bodies_removed` counts the slices that stay as they are because the body of their reply is no
    longer kept; that is no failure.
    """

    written: dict[str, WriteCounts] = field(default_factory=lambda: dict[str, WriteCounts]())
    unchanged: tuple[str, ...] = ()
    failures: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    bodies_removed: dict[str, int] = field(default_factory=lambda: dict[str, int]())

    @property
    def rows_written(self) -> int:
        return sum(rows_written(counts) for counts in self.written.values())

    def __or__(self, other: Rebuilt) -> Rebuilt:
        """Both together; they are about different businesses."""
        return Rebuilt(
            self.written | other.written,
            tuple(sorted({*self.unchanged, *other.unchanged})),
            self.failures | other.failures,
            self.bodies_removed | other.bodies_removed,
        )


def rows_written(counts: WriteCounts) -> int:
    """Rows that a write touched: inserted, updated and deleted."""
    return counts.inserted + counts.updated + counts.deleted


@dataclass(frozen=True, slots=True)
class SliceSource:
    """What a slice of a day is made of: the reply about it, or the pair that gives it back."""

    business_id: str
    day: date
    landed: JudgedExport | DerivablePair[JudgedExport]

    @property
    def is_derived(self) -> bool:
        return isinstance(self.landed, DerivablePair)

    @property
    def window_end(self) -> datetime:
        """Where the hours that the slice is about end (UTC)."""
        return self.landed.window_end

    @property
    def body_bytes(self) -> int:
        """How much there is to read."""
        if isinstance(self.landed, DerivablePair):
            return self.landed.minuend.body_bytes + self.landed.subtrahend.body_bytes
        return self.landed.body_bytes

    @property
    def built_from(self) -> str:
        if isinstance(self.landed, DerivablePair):
            return derived_from(
                minuend_sha256=self.landed.minuend.sha256,
                subtrahend_sha256=self.landed.subtrahend.sha256,
            )
        return built_from(self.landed.sha256)


def slice_sources(
    database: Database, *, day: date, business_ids: Collection[str] | None = None
) -> dict[tuple[str, str], SliceSource]:
    """What has landed for each (business, dimension set) of a day that can be built."""
    replies = exports.list_exports(database, day=day, business_ids=business_ids)
    sources = {
        key: SliceSource(reply.business_id, day, reply)
        for key, reply in exports_of_record(replies).items()
    }
    if any(reply.num_of_days > 1 for reply in replies):
        replies += exports.list_exports(
            database, day=day + timedelta(days=1), business_ids=business_ids
        )
        pairs = derivable_pairs(day, replies)
        sources |= {key: SliceSource(key[0], day, pair) for key, pair in pairs.items()}
    return sources


def rebuild_metrics(
    database: Database,
    *,
    day: date,
    now: datetime,
    business_ids: Collection[str] | None = None,
    force: bool = False,
    keep_payload_days: int | None = None,
    shared_from_bytes: int = SHARED_FROM_BYTES,
) -> Rebuilt:
    """Normalise a day's landed exports into `clarity_daily_metrics`.

    A slice without an export of its own is derived where a pair of longer ones gives it back. One
    that was built from the same exports by the same code is left alone unless `force`, and always
    when a body is no longer kept. An export that cannot be read fails its business only; its other
    slices are written. Of a day older than `keep_payload_days` the raw payload is not written:
    retention has removed it, and a replay must not bring it back.

    On PostgreSQL a second process does nearly half of it where `shared_from_bytes` or more are to
    be read; SQLite has one writer at a time.
    """
    selected = _select(database, day=day, business_ids=business_ids, force=force)
    keep_payload = is_kept(day, now=now, days=keep_payload_days)

    def build(ids: Collection[str], *, at_once: int) -> Rebuilt:
        return _build(
            database, selected.only(ids), now=now, keep_payload=keep_payload, at_once=at_once
        )

    theirs = (
        selected.second_share(late_by_bytes=shared_from_bytes // 4)
        if database.dialect_name == "postgresql" and selected.body_bytes >= shared_from_bytes
        else frozenset[str]()
    )
    if not theirs:
        return build(selected.business_ids, at_once=NORMALISED_AT_ONCE)
    with called_beside(
        _rebuild_metrics_of,
        database.url,
        day=day,
        now=now,
        business_ids=theirs,
        force=force,
        keep_payload=keep_payload,
    ) as rebuilt_beside:
        ours = build(selected.business_ids - theirs, at_once=1)
        try:
            return ours | rebuilt_beside()
        except ChildProcessError as error:
            logger.warning("%s Its businesses are rebuilt in this one.", error)
            return ours | build(theirs, at_once=1)


def _rebuild_metrics_of(
    database_url: SecretStr,
    *,
    day: date,
    now: datetime,
    business_ids: Collection[str],
    force: bool,
    keep_payload: bool,
) -> Rebuilt:
    """A share of `rebuild_metrics`, in a process of its own."""
    with Database.open(database_url, migrate=False) as database:
        selected = _select(database, day=day, business_ids=business_ids, force=force)
        return _build(database, selected, now=now, keep_payload=keep_payload, at_once=1)


@dataclass(frozen=True, slots=True)
class _Selected:
    """The sources of a day, by business, and all businesses that have any."""

    outdated: dict[str, list[SliceSource]]
    business_ids: frozenset[str]

    def only(self, business_ids: Collection[str]) -> _Selected:
        return _Selected(
            {each: of for each, of in self.outdated.items() if each in business_ids},
            self.business_ids.intersection(business_ids),
        )

    @property
    def body_bytes(self) -> int:
        return sum(map(_body_bytes, self.outdated.values()))

    def second_share(self, *, late_by_bytes: int) -> frozenset[str]:
        """The businesses for a process that starts when this one has read so many bytes."""
        most = (self.body_bytes - late_by_bytes) / 2
        by_weight = sorted(self.outdated, key=lambda each: _body_bytes(self.outdated[each]))
        totals = accumulate(_body_bytes(self.outdated[each]) for each in by_weight)
        return frozenset(
            each for each, total in zip(by_weight, totals, strict=True) if total <= most
        )


def _body_bytes(sources: Iterable[SliceSource]) -> int:
    return sum(source.body_bytes for source in sources)


def _select(
    database: Database, *, day: date, business_ids: Collection[str] | None, force: bool
) -> _Selected:
    standing = {
        (state.business_id, state.dimension_set): state.built_from
        for state in daily_metrics.list_slices(
            database, start=day, end=day, business_ids=business_ids
        )
    }
    outdated: dict[str, list[SliceSource]] = {}
    seen: set[str] = set()
    for key, source in slice_sources(database, day=day, business_ids=business_ids).items():
        seen.add(source.business_id)
        if force or standing.get(key) != source.built_from:
            outdated.setdefault(source.business_id, []).append(source)
    return _Selected(outdated, frozenset(seen))


def _build(
    database: Database, selected: _Selected, *, now: datetime, keep_payload: bool, at_once: int
) -> Rebuilt:
    bodies_removed: dict[str, int] = {}

    def rebuild(sources: list[SliceSource]) -> WriteCounts:
        slices, removed, problem = _build_slices(database, sources, keep_payload=keep_payload)
        if removed:
            bodies_removed[sources[0].business_id] = removed
        counts = daily_metrics.replace_slices(database, slices, now=now)
        if problem is not None:
            raise problem
        return counts

    written, failures = _for_each_business(selected.outdated.items(), rebuild, at_once=at_once)
    unchanged = selected.business_ids - selected.outdated.keys()
    return Rebuilt(written, tuple(sorted(unchanged)), failures, bodies_removed)


def rebuild_business_aggregates(
    database: Database,
    *,
    day: date,
    now: datetime,
    business_ids: Collection[str] | None = None,
    force: bool = False,
) -> Rebuilt:
    """Roll a day up into `clarity_business_aggregates` and `clarity_dimension_aggregates`.

    Only what was built from other slices, or in another way, unless `force`. What was written is
    that of the business-days.
    """
    sources = _aggregate_sources(database, day, business_ids)
    standing = (
        {} if force else aggregates.aggregate_states(database, day=day, business_ids=business_ids)
    )
    standing_values = (
        {}
        if force
        else dimension_aggregates.dimension_states(
            database, day=day, business_ids=[each.business_id for each in sources]
        )
    )

    def stale_slices(sources: AggregateSources) -> list[SliceToRollUp]:
        return [
            item
            for item, has_rows in sources.slices_to_roll_up
            # Without rows there is no value, and so nothing that could say what it is built from.
            if standing_values.get((item.business_id, item.dimension_set))
            != (item.built_from if has_rows else None)
        ]

    def is_current(sources: AggregateSources) -> bool:
        return not stale_slices(sources) and (
            not sources.has_business_day or standing.get(sources.business_id) == sources.built_from
        )

    def rebuild(sources: AggregateSources) -> WriteCounts:
        device, overview = sources.url_device, sources.overview
        slices = stale_slices(sources)
        business_day = aggregate_business_day(
            business_id=sources.business_id,
            day=day,
            url_device=_frame(database, device),
            url_device_truncated=device is not None and device.truncated,
            overview=_frame(database, overview),
            overview_truncated=overview is not None and overview.truncated,
            built_from=sources.built_from,
        )
        if business_day is None:
            aggregates.replace_dimension_values(
                database, business_id=sources.business_id, slices=slices, now=now
            )
            return WriteCounts()
        return aggregates.replace_business_day(
            database, business_day=business_day, slices=slices, now=now
        )

    return _rebuild_aggregates(sources, is_current, rebuild)


def rebuild_url_aggregates(
    database: Database,
    *,
    day: date,
    now: datetime,
    business_ids: Collection[str] | None = None,
    force: bool = False,
) -> Rebuilt:
    """Roll a day up into `clarity_url_aggregates`, where its Device,URL slice has changed."""
    standing = aggregates.url_aggregate_states(database, day=day, business_ids=business_ids)

    def rebuild(sources: AggregateSources) -> WriteCounts:
        assert sources.url_device is not None
        frame = _frame(database, sources.url_device)
        assert frame is not None
        return aggregates.replace_url_days(
            database,
            business_id=sources.business_id,
            day=day,
            url_days=aggregate_url_days(frame),
            truncated=sources.url_device.truncated,
            built_from=sources.built_from,
            now=now,
        )

    # No other slice says as much about single pages.
    by_url = [
        AggregateSources(sources.business_id, {URL_DEVICE.dimension_set: sources.url_device})
        for sources in _aggregate_sources(database, day, business_ids)
        if sources.url_device is not None
    ]
    return _rebuild_aggregates(
        by_url,
        lambda sources: not force and standing.get(sources.business_id) == sources.built_from,
        rebuild,
    )


def rebuild(
    database: Database,
    *,
    day: date,
    now: datetime,
    business_ids: Collection[str] | None = None,
    force: bool = False,
    keep_payload_days: int | None = None,
) -> Rebuilt:
    """Rebuild a day's metrics and both roll-ups.

    What was written is that of the metrics; a failure in any layer is the business's failure.
    """
    layers = [
        rebuild_metrics(
            database,
            day=day,
            now=now,
            business_ids=business_ids,
            force=force,
            keep_payload_days=keep_payload_days,
        ),
        *(
            layer(database, day=day, now=now, business_ids=business_ids, force=force)
            for layer in (rebuild_business_aggregates, rebuild_url_aggregates)
        ),
    ]
    failures = {
        business_id: message
        for layer in reversed(layers)
        for business_id, message in layer.failures.items()
    }
    return replace(layers[0], failures=failures)


def record_in_jobs(database: Database, rebuilt: Rebuilt, *, day: date, run_id: str) -> None:
    """Write into this run's sync jobs what became of what they had landed: rows, or an error."""
    for business_id, counts in rebuilt.written.items():
        sync_jobs.record_rows_written(
            database,
            dagster_run_id=run_id,
            business_id=business_id,
            day=day,
            rows_written=rows_written(counts),
        )
    _record_failures(
        database,
        rebuilt,
        said="What had landed is kept, but could not be made into rows",
        day=day,
        run_id=run_id,
    )


def record_roll_up_in_jobs(database: Database, rebuilt: Rebuilt, *, day: date, run_id: str) -> None:
    """Fail this run's sync jobs of businesses whose rows could not be rolled up."""
    _record_failures(
        database,
        rebuilt,
        said="The rows of the day are there, but could not be rolled up into aggregates",
        day=day,
        run_id=run_id,
    )


def _record_failures(
    database: Database, rebuilt: Rebuilt, *, said: str, day: date, run_id: str
) -> None:
    for business_id, message in rebuilt.failures.items():
        sync_jobs.record_rebuild_failure(
            database,
            dagster_run_id=run_id,
            business_id=business_id,
            day=day,
            message=(
                f"{said}: {message} Once that is mended, `clarity replay --from {day} --to {day}` "
                "rebuilds it without a call."
            ),
        )


def raise_if_nothing_worked(rebuilt: Rebuilt) -> None:
    """Raises RebuildFailed when every business failed: then it is not the businesses' fault."""
    if rebuilt.failures and not rebuilt.written and not rebuilt.unchanged:
        business_id, message = next(iter(rebuilt.failures.items()))
        raise RebuildFailed(
            f"None of {len(rebuilt.failures)} businesses could be rebuilt; the first, "
            f"{business_id}, because: {message}"
        )


@dataclass(frozen=True, slots=True)
class AggregateSources:
    """The slices that one business's roll-ups of a day are made of, by dimension set."""

    business_id: str
    slices: Mapping[str, SliceState]

    @property
    def url_device(self) -> SliceState | None:
        return self.slices.get(URL_DEVICE.dimension_set)

    @property
    def overview(self) -> SliceState | None:
        return self.slices.get(OVERVIEW.dimension_set)

    @property
    def has_business_day(self) -> bool:
        """The other slices are by what a session may have several of."""
        return self.url_device is not None or self.overview is not None

    @property
    def built_from(self) -> str:
        """Of the business-day; changes whenever a source or the way of rolling up does."""
        parts = [state.built_from if state else "-" for state in (self.url_device, self.overview)]
        return ":".join([*parts, str(AGGREGATES_VERSION)])

    @property
    def slices_to_roll_up(self) -> list[tuple[SliceToRollUp, bool]]:
        """Those with values to tell visitors apart by, and whether they have rows."""
        return [
            (
                SliceToRollUp(
                    business_id=self.business_id,
                    day=state.day,
                    dimension_set=name,
                    built_from=f"{state.built_from}:{AGGREGATES_VERSION}",
                ),
                state.rows > 0,
            )
            for name, state in self.slices.items()
            if dimension_aggregates.is_rolled_up(name)
        ]


def _build_slices(
    database: Database, sources: list[SliceSource], *, keep_payload: bool
) -> tuple[list[NormalisedSlice], int, ClarityError | None]:
    """One business's slices, how many cannot be built for want of a body, and the first error."""
    slices: list[NormalisedSlice] = []
    removed = 0
    problem: ClarityError | None = None
    for source in sources:
        try:
            built = _build_slice(database, source)
        except ExportRemoved:
            removed += 1
        except (ExportCorrupt, ExportError) as error:
            problem = problem or error
        else:
            slices.append(built if keep_payload else without_payload(built))
    return slices, removed, problem


def _build_slice(database: Database, source: SliceSource) -> NormalisedSlice:
    def normalise(reply: JudgedExport) -> NormalisedSlice:
        return normalise_export(exports.read_export(database, reply.id))

    if not isinstance(source.landed, DerivablePair):
        return normalise(source.landed)
    return derive_slice(
        day=source.day,
        minuend=normalise(source.landed.minuend),
        subtrahend=normalise(source.landed.subtrahend),
        built_from=source.built_from,
    )


def _aggregate_sources(
    database: Database, day: date, business_ids: Collection[str] | None
) -> list[AggregateSources]:
    slices: dict[str, dict[str, SliceState]] = {}
    for state in daily_metrics.list_slices(database, start=day, end=day, business_ids=business_ids):
        slices.setdefault(state.business_id, {})[state.dimension_set] = state
    return [AggregateSources(business_id, by_set) for business_id, by_set in slices.items()]


def _rebuild_aggregates(
    sources: Collection[AggregateSources],
    is_current: Callable[[AggregateSources], bool],
    rebuild: Callable[[AggregateSources], WriteCounts],
) -> Rebuilt:
    changed = [source for source in sources if not is_current(source)]
    unchanged = {source.business_id for source in sources} - {c.business_id for c in changed}
    written, failures = _for_each_business(
        ((source.business_id, source) for source in changed), rebuild, at_once=ROLLED_UP_AT_ONCE
    )
    return Rebuilt(written, tuple(sorted(unchanged)), failures)


def _frame(database: Database, state: SliceState | None) -> pd.DataFrame | None:
    if state is None:
        return None
    return daily_metrics.read_metrics(
        database,
        business_id=state.business_id,
        day=state.day,
        dimension_set=state.dimension_set,
        columns=SUMMED_COLUMNS,
    )


def _for_each_business(
    items: Iterable[tuple[str, Item]],
    work: Callable[[Item], WriteCounts],
    *,
    at_once: int,
) -> tuple[dict[str, WriteCounts], dict[str, str]]:
    """Do the work for each business, `at_once` at a time; one's error stays with it."""
    written: dict[str, WriteCounts] = {}
    failures: dict[str, str] = {}

    def attempt(item: Item) -> WriteCounts | str:
        try:
            return work(item)
        except ClarityError as error:
            # No more than its words: the frames that it came through hold a business's rows.
            return str(error.with_traceback(None))

    with (
        no_cyclic_garbage_collection(),
        ThreadPoolExecutor(at_once, thread_name_prefix="clarity-rebuild") as pool,
    ):
        attempts = {business_id: pool.submit(attempt, item) for business_id, item in items}
        for business_id, attempted in attempts.items():
            outcome = attempted.result()
            if isinstance(outcome, WriteCounts):
                written[business_id] = outcome
            else:
                logger.warning("business %s is left as it was: %s", business_id, outcome)
                failures[business_id] = outcome
    return written, failures
