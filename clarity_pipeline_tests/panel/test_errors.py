"""How faults of our own are told: calmly, and without the settings of whoever runs this."""

from __future__ import annotations

from pathlib import Path

import pytest

from clarity_pipeline.domain.errors import DatabaseUnreachable, StoreError
from clarity_pipeline.panel.errors import problem_of
from clarity_pipeline_tests.panel.conftest import Panel

CANNOT_REACH = "The panel cannot reach its database just now; try again in a minute."


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """A database that a test can take away."""
    return sqlite_url


@pytest.mark.parametrize("kind", [StoreError, *StoreError.__subclasses__()])
def test_no_fault_of_the_database_is_told_in_the_words_of_its_settings(
    kind: type[StoreError],
) -> None:
    problem = problem_of(kind("Check that CLARITY_DATABASE_URL is right."))
    assert (problem.status, problem.code) == (503, kind.code)
    assert "CLARITY_" not in problem.detail
    assert "try again in a minute" in problem.detail
    assert problem.headers["Retry-After"] == "60"


def test_a_database_that_has_gone_is_a_page_and_a_problem_that_ask_for_patience(
    panel: Panel, sqlite_url: str
) -> None:
    browser, program = panel.agency_person(), panel.key()
    Path(sqlite_url.removeprefix("sqlite:///")).unlink()
    page = browser.get("/agency")
    assert (page.status_code, page.headers["retry-after"]) == (503, "60")
    assert CANNOT_REACH in page.text
    reply = program.get("/api/agency/businesses")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "60")
    assert (reply.json()["code"], reply.json()["detail"]) == (
        DatabaseUnreachable.code,
        CANNOT_REACH,
    )
