"""The panel in a real Chromium: a real server, a real store, an emulated Clarity.

The sync requests of a test are worked on in another thread, as the daemon does it elsewhere:
Playwright keeps an event loop in the thread of the test, and Dagster's ops need their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe  # pyright: ignore[reportMissingTypeStubs]
from playwright.sync_api import Browser, Page, sync_playwright

from clarity_pipeline.domain.access import Role
from clarity_pipeline.panel.app import create_app
from clarity_pipeline.panel.passwords import hash_password
from clarity_pipeline.panel.services import PanelServices
from clarity_pipeline.store.panel_users import add_user
from clarity_pipeline_tests.agency import Agency, emulator_server, open_agency

__all__ = ["emulator_server"]

CHROMIUM: Final = Path("/usr/bin/chromium")
PASSWORD: Final = "correct horse battery staple"
PASSWORD_HASH: Final = hash_password(PASSWORD)
PATIENCE_MS: Final = 20_000
"""How long a page may take to show something on a busy machine."""


@dataclass
class Site:
    """A served panel, and who can use it."""

    url: str
    agency: Agency
    browser: Browser
    pages: list[Page] = field(default_factory=lambda: list[Page]())

    def open(self, path: str = "/", *, dark: bool = False, width: int = 1280) -> Page:
        """A page in a browser of its own: no cookies, no history."""
        context = self.browser.new_context(
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": 900},
            timezone_id="Europe/Berlin",
            locale="en-GB",
        )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        self.pages.append(page)
        page.goto(self.url + path)
        return page

    def add_person(self, login: str, business_id: str | None = None) -> None:
        add_user(
            self.agency.database,
            login=login,
            password_hash=PASSWORD_HASH,
            role=Role.AGENCY if business_id is None else Role.CLIENT,
            business_id=business_id,
            now=self.agency.now,
        )

    def sign_in(
        self,
        login: str,
        path: str = "/",
        *,
        business_id: str | None = None,
        dark: bool = False,
        width: int = 1280,
    ) -> Page:
        """Somebody new, signed in through the form, at a page."""
        self.add_person(login, business_id)
        page = self.open("/login", dark=dark, width=width)
        page.get_by_label("Login").fill(login)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: not url.endswith("/login"))
        if path != "/":
            page.goto(self.url + path)
        return page

    def pass_time(self, span: timedelta) -> None:
        self.agency.move_to(self.agency.now + span)


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(
            f"There is no {CHROMIUM}, in which these tests click; `make browser` installs it where "
            "it can (as root, with apt-get), else: apt-get install chromium."
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def site(
    browser: Browser,
    sqlite_url: str,
    emulator_server: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Generator[Site]:
    """An agency without businesses or users, and its panel."""
    with (
        open_agency(
            database_url=sqlite_url,
            emulator=emulator_server,  # pyright: ignore[reportArgumentType]
            home=tmp_path / "home",
            environment=monkeypatch,
        ) as agency,
        served(agency) as url,
    ):
        opened = Site(url, agency, browser)
        yield opened
        for page in opened.pages:
            page.context.close()


@contextmanager
def served(agency: Agency) -> Generator[str]:
    """Serve the agency's panel on a free port; the address."""
    services = PanelServices(
        settings=agency.settings, database=agency.database, clock=lambda: agency.now
    )
    config = uvicorn.Config(create_app(services), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the panel did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def elsewhere() -> Generator[Callable[[Callable[[], object]], Future[object]]]:
    """Runs something in another thread, as the daemon does in another process."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool.submit


def serious_violations(page: Page) -> list[str]:
    """What axe-core has against a page, as a person would have to fix it."""
    axe: Any = Axe()
    return [
        f"{violation['id']}: {violation['help']} ({violation['nodes'][0]['html'][:120]})"
        for violation in axe.run(page).response["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]
