"""Waits after failed sign-ins, addresses to go on to, logins, passwords, names of keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.access import (
    FAILURES_PER_ADDRESS,
    FAILURES_PER_LOGIN,
    FIRST_SIGN_IN_WAIT,
    LONGEST_SIGN_IN_WAIT,
    Role,
    SignInFailures,
    address_to_count_by,
    business_of,
    own_path,
    parse_key_name,
    parse_login,
    sign_in_wait,
)
from clarity_pipeline.domain.errors import InvalidBusinessId, InvalidKeyName, InvalidLogin

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
NONE = SignInFailures(0, None)


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [
        (0, 0),
        (FAILURES_PER_LOGIN - 1, 0),
        (FAILURES_PER_LOGIN, 30),
        (FAILURES_PER_LOGIN + 1, 60),
        (FAILURES_PER_LOGIN + 2, 120),
        (FAILURES_PER_LOGIN + 5, 15 * 60),
        (1_000_000, 15 * 60),
    ],
)
def test_the_wait_doubles_up_to_a_quarter_of_an_hour(failures: int, seconds: int) -> None:
    by_login = SignInFailures(failures, NOW if failures else None)
    wait = sign_in_wait(by_login=by_login, by_address=NONE, now=NOW)
    assert wait == timedelta(seconds=seconds)


def test_an_address_may_fail_more_often_than_a_login() -> None:
    free = SignInFailures(FAILURES_PER_ADDRESS - 1, NOW)
    assert not sign_in_wait(by_login=NONE, by_address=free, now=NOW)
    over = SignInFailures(FAILURES_PER_ADDRESS, NOW)
    assert sign_in_wait(by_login=NONE, by_address=over, now=NOW) == FIRST_SIGN_IN_WAIT


@given(
    counts=st.tuples(st.integers(0, 200), st.integers(0, 200)),
    ago=st.integers(0, 7200),
)
def test_a_wait_is_never_negative_nor_longer_than_the_longest(
    counts: tuple[int, int], ago: int
) -> None:
    last_at = NOW - timedelta(seconds=ago)
    by_login, by_address = (SignInFailures(count, last_at) for count in counts)
    wait = sign_in_wait(by_login=by_login, by_address=by_address, now=NOW)
    assert timedelta(0) <= wait <= LONGEST_SIGN_IN_WAIT
    assert not sign_in_wait(by_login=by_login, by_address=by_address, now=NOW + wait)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::99", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_an_address_is_counted_by_what_one_person_has(address: str, counted: str) -> None:
    assert address_to_count_by(address) == counted


@pytest.mark.parametrize("path", ["/", "/agency/audit", "/client/clarity?days=30#charts"])
def test_a_path_of_ours_is_gone_on_to(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "agency",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\n/evil.example",
        " /agency",
        "/\u2025evil",
        f"/{'x' * 500}",
    ],
)
def test_anything_else_is_not(text: str) -> None:
    assert own_path(text) is None


@given(st.text(alphabet="/\\:.@?#[]% \t\r\n\0aé", max_size=12))
def test_no_text_leads_away(text: str) -> None:
    path = own_path(text)
    if path is not None:
        # As browsers do, who drop these and read a backslash as a slash.
        seen = path.replace("\t", "").replace("\n", "").replace("\r", "").replace("\\", "/")
        assert urlsplit(urljoin("https://panel.example/login", seen)).netloc == "panel.example"


def test_a_login_has_one_form() -> None:
    assert parse_login("  Ada@Agency.Example ") == "ada@agency.example"


@pytest.mark.parametrize("login", ["", "a", "two words", "a\0b", "é@example", "x" * 255, "-a"])
def test_what_is_no_login_is_refused(login: str) -> None:
    with pytest.raises(InvalidLogin):
        parse_login(login)


def test_a_client_has_one_business_and_the_agency_none() -> None:
    assert business_of(Role.CLIENT, "acme") == "acme"
    assert business_of(Role.AGENCY, None) is None
    for role, business_id in ((Role.CLIENT, None), (Role.CLIENT, ""), (Role.AGENCY, "acme")):
        with pytest.raises(InvalidBusinessId):
            business_of(role, business_id)


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "two\nlines", "a\0b"])
def test_a_key_has_a_name_that_people_can_read(name: str) -> None:
    with pytest.raises(InvalidKeyName):
        parse_key_name(name)
    assert parse_key_name(" the nightly export ") == "the nightly export"
