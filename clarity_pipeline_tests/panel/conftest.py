"""The panel over a real store and an emulated Clarity, as people and programs reach it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from clarity_pipeline.domain.access import KeyScope, Role, form_token, secret_hash
from clarity_pipeline.panel.app import create_app
from clarity_pipeline.panel.guard import FORM_TOKEN_HEADER
from clarity_pipeline.panel.passwords import hash_password
from clarity_pipeline.panel.services import PanelServices
from clarity_pipeline.store.api_keys import add_key
from clarity_pipeline.store.panel_users import add_user, begin_session, get_user
from clarity_pipeline_tests.agency import Agency, agency, emulator_server

__all__ = ["agency", "emulator_server"]

PASSWORD = "correct horse battery staple"
PASSWORD_HASH = hash_password(PASSWORD)


@dataclass
class Panel:
    """The application, and ways to be somebody."""

    app: FastAPI
    agency: Agency

    def anybody(self) -> TestClient:
        """A browser without a session; it does not follow redirects."""
        return TestClient(self.app, base_url="http://127.0.0.1:8300", follow_redirects=False)

    def agency_person(self, login: str = "ada@agency.example") -> TestClient:
        return self._person(login, Role.AGENCY, None)

    def client_of(self, business_id: str, login: str | None = None) -> TestClient:
        return self._person(login or f"client@{business_id}", Role.CLIENT, business_id)

    def key(
        self,
        *,
        scope: KeyScope = KeyScope.WRITE,
        business_id: str | None = None,
        name: str | None = None,
    ) -> TestClient:
        """A program with an API key; of the agency unless a business is named."""
        secret = name or f"key-{scope}-{business_id}"
        add_key(
            self.agency.database,
            name=secret,
            key_hash=secret_hash(secret),
            key_last4=secret[-4:],
            scope=scope,
            business_id=business_id,
            created_by="tests",
            now=self.agency.now,
        )
        program = self.anybody()
        program.headers["authorization"] = f"Bearer {secret}"
        return program

    def _person(self, login: str, role: Role, business_id: str | None) -> TestClient:
        """Somebody who has signed in, and whose pages send the form token."""
        database, secret = self.agency.database, f"session of {login}"
        add_user(
            database,
            login=login,
            password_hash=PASSWORD_HASH,
            role=role,
            business_id=business_id,
            now=self.agency.now,
        )
        begin_session(
            database,
            user_id=get_user(database, login).id,
            password_hash=PASSWORD_HASH,
            token_hash=secret_hash(secret),
            now=self.agency.now,
            remote_address=None,
            user_agent=None,
        )
        browser = self.anybody()
        browser.cookies.set("clarity_session", secret)
        browser.headers[FORM_TOKEN_HEADER] = form_token(secret)
        return browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is stored has its own tests on both databases; that pages and routes do as well on
    PostgreSQL is tried with the rest that takes long."""
    for item in items:
        if item.path.parent.name == "panel" and "[postgresql" in item.name:
            item.add_marker(pytest.mark.long)


@pytest.fixture
def make_panel(agency: Agency) -> Callable[..., Panel]:
    """Makes a panel whose settings differ from the agency's in what is named."""

    def make(**settings: Any) -> Panel:
        services = PanelServices(
            settings=agency.settings.model_copy(update=settings),
            database=agency.database,
            clock=lambda: agency.now,
        )
        return Panel(create_app(services), agency)

    return make


@pytest.fixture
def panel(make_panel: Callable[..., Panel]) -> Panel:
    """A panel as a laptop serves it."""
    return make_panel()
