"""How long the panel's pages take, whole: request, session, store, template, on a year of data.

    python benchmarks/panel_pages.py                        fills a store and keeps it
    python benchmarks/panel_pages.py --url postgresql://...  measures one that panel_store filled

CPU time is told beside the time on the clock, because on a machine that does other things, too,
the second says little about the panel.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from panel_store import BUSY, StoreSize, business_id, fill
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from starlette.testclient import TestClient

from clarity_pipeline.domain.access import Role, secret_hash
from clarity_pipeline.domain.agency_overview import OverviewSort
from clarity_pipeline.domain.days import due_at
from clarity_pipeline.domain.insight import WINDOW_LENGTHS
from clarity_pipeline.panel.app import create_app
from clarity_pipeline.panel.serve import imports_set_aside
from clarity_pipeline.panel.services import PanelServices
from clarity_pipeline.settings import Settings
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.panel_users import add_user, begin_session, get_user

GOAL_MS: Final = 100
"""Of p95 on the clock, for a page."""

NOW: Final = due_at(StoreSize().last_day) + timedelta(hours=2)

AGENCY: Final[Sequence[str]] = (
    "/agency",
    "/agency?page=20",
    "/agency?q=bakery",
    "/agency?state=partial",
    *(f"/agency?sort={sort}&order=desc" for sort in OverviewSort),
    "/agency/people",
    "/agency/keys",
    "/agency/audit",
)

PARTS: Final[Sequence[str]] = (
    "",
    "/history",
    "/history?months=24",
    *(f"/data?days={length}" for length in WINDOW_LENGTHS),
    *(f"/data?days={max(WINDOW_LENGTHS)}&{choice}" for choice in ("ranking=rate", "split=source")),
)


def pages(usual: str) -> Iterator[str]:
    """The addresses of what people look at, the dearest choices included."""
    yield from AGENCY
    for of_business in (usual, BUSY):
        yield from (f"/agency/businesses/{of_business}/clarity{part}" for part in PARTS)


@contextmanager
def browser(database: Database) -> Generator[TestClient]:
    """Somebody of the agency who has signed in."""
    login, secret = f"benchmark-{secrets.token_hex(4)}", secrets.token_hex(16)
    add_user(
        database,
        login=login,
        password_hash="no password",
        role=Role.AGENCY,
        business_id=None,
        now=NOW,
    )
    begin_session(
        database,
        user_id=get_user(database, login).id,
        password_hash="no password",
        token_hash=secret_hash(secret),
        now=NOW,
        remote_address=None,
        user_agent=None,
    )
    services = PanelServices(settings=Settings(), database=database, clock=lambda: NOW)
    with TestClient(
        create_app(services), base_url="http://127.0.0.1:8300", follow_redirects=False
    ) as client:
        client.cookies.set("clarity_session", secret)
        with imports_set_aside():
            yield client


def measure(client: TestClient, address: str, *, requests: int) -> tuple[list[float], list[float]]:
    """Milliseconds on the clock, and of processor, of so many requests after a first one."""
    wall: list[float] = []
    processor: list[float] = []
    for _ in range(requests + 1):
        began, began_cpu = time.perf_counter(), time.process_time()
        answer = client.get(address)
        processor.append((time.process_time() - began_cpu) * 1000)
        wall.append((time.perf_counter() - began) * 1000)
        if answer.status_code != 200:
            raise SystemExit(f"{address} answered {answer.status_code}.")
    return wall[1:], processor[1:]


def filled(path: Path, size: StoreSize) -> str:
    """The address of a store of this size, filled now unless there is one from before."""
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        began = time.perf_counter()
        with Database.open(f"sqlite:///{unfinished}") as database:
            fill(database, size)
        unfinished.rename(path)
        print(f"Filled {path} in {time.perf_counter() - began:.0f} s.")
    return f"sqlite:///{path}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a store that panel_store filled")
    parser.add_argument("--store", type=Path, default=Path("/tmp/panel_store.db"))
    parser.add_argument("--businesses", type=int, default=StoreSize().businesses)
    parser.add_argument("--days", type=int, default=StoreSize().days)
    parser.add_argument("--pages", type=int, default=20, help="of a business, in a new store")
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--only", default="", help="part of the addresses to ask for")
    arguments = parser.parse_args()
    size = StoreSize(businesses=arguments.businesses, days=arguments.days, pages=arguments.pages)
    url = arguments.url or filled(arguments.store, size)
    table = Table("page", *("CPU min", "CPU p50", "CPU p95", "p50 ms", "p95 ms", "goal"))
    with Database.open(SecretStr(url)) as database, browser(database) as client:
        for address in pages(business_id(size.businesses // 2)):
            if arguments.only not in address:
                continue
            wall, processor = measure(client, address, requests=arguments.requests)
            p95 = statistics.quantiles(wall, n=20)[-1]
            numbers = (
                min(processor),
                statistics.median(processor),
                statistics.quantiles(processor, n=20)[-1],
                statistics.median(wall),
                p95,
            )
            table.add_row(
                address.replace("/agency/businesses/", "…/"),
                *(f"{number:.0f}" for number in numbers),
                "" if p95 < GOAL_MS else "missed",
            )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
