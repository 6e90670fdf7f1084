"""Business ids, project ids, and what a token says about itself."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.connections import (
    MAX_TOKEN_LENGTH,
    TOKEN_AUDIENCE,
    ConnectionFacts,
    ConnectionState,
    DisabledBy,
    connection_state,
    parse_business_id,
    parse_project_id,
    parse_token,
    token_fingerprint,
    token_has_expired,
    token_needs_renewal,
)
from clarity_pipeline.domain.errors import (
    ClarityError,
    InvalidBusinessId,
    InvalidProjectId,
    InvalidToken,
)
from clarity_pipeline.domain.sync_jobs import JobStatus

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def jwt(claims: object) -> str:
    return f"{part({'alg': 'RS256'})}.{part(claims)}.{part('signature')}"


def claims_expiring(expires_at: datetime | None, **others: Any) -> dict[str, Any]:
    claims: dict[str, Any] = {"aud": TOKEN_AUDIENCE, "iss": "clarity", "sub": "3141592653589793"}
    if expires_at is not None:
        claims["exp"] = int(expires_at.timestamp())
    return claims | others


@pytest.mark.parametrize("text", ["a", "acme", "acme-2_b", "0", "-", "a" * 64])
def test_a_business_id_is_1_to_64_of_its_characters(text: str) -> None:
    assert parse_business_id(text) == text


@pytest.mark.parametrize("text", ["", "A", "a b", " a", "a\n", "é", "a.b", "a/b", "٣", "a" * 65])
def test_any_other_business_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidBusinessId, match="1 to 64"):
        parse_business_id(text)


@pytest.mark.parametrize("text", ["w6n8ir65ol", "ABC123", " w6n8ir65ol\n", "a" * 20])
def test_a_project_id_is_6_to_20_letters_and_digits(text: str) -> None:
    assert parse_project_id(text) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "abc12", "a" * 21, "abc-123", "abc 123", "abcdeé", "٣٣٣٣٣٣", "w6n8ir65ol/"]
)
def test_any_other_project_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidProjectId, match="6 to 20"):
        parse_project_id(text)


def test_a_refused_project_id_is_quoted_in_part_only() -> None:
    """People paste their token into the wrong field."""
    token = jwt(claims_expiring(None))
    with pytest.raises(InvalidProjectId) as caught:
        parse_project_id(token)
    assert token not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_token_tells_its_expiry_audience_and_subject() -> None:
    expires_at = NOW + timedelta(days=90)
    token = jwt(claims_expiring(expires_at))
    facts = parse_token(f"  {token}\n", now=NOW)
    assert facts.token.get_secret_value() == token
    assert facts.expires_at == expires_at
    assert (facts.audience, facts.subject) == (TOKEN_AUDIENCE, "3141592653589793")
    assert facts.last4 == token[-4:]
    assert facts.fingerprint == token_fingerprint(token)


def test_the_token_is_in_no_repr() -> None:
    token = jwt(claims_expiring(None))
    assert token not in repr(parse_token(token, now=NOW))


def test_a_fingerprint_tells_tokens_apart_and_says_nothing_else() -> None:
    one, other = jwt({"n": 1}), jwt({"n": 2})
    assert token_fingerprint(one) == token_fingerprint(one) != token_fingerprint(other)
    assert len(token_fingerprint(one)) == 32
    assert token_fingerprint(one) not in one


def test_a_token_that_says_nothing_about_itself_is_accepted() -> None:
    facts = parse_token(jwt({}), now=NOW)
    assert facts.expires_at is facts.audience is facts.subject is None


@pytest.mark.parametrize("audience", [TOKEN_AUDIENCE, [TOKEN_AUDIENCE], 7, None, ["a", "b"]])
def test_only_a_clear_other_audience_is_refused(audience: object) -> None:
    assert parse_token(jwt({"aud": audience}), now=NOW)


@pytest.mark.parametrize("audience", ["https://graph.microsoft.com", ["other"]])
def test_a_token_for_another_service_is_refused(audience: object) -> None:
    with pytest.raises(InvalidToken, match="another service"):
        parse_token(jwt({"aud": audience}), now=NOW)


def test_a_token_is_expired_from_its_last_second_on() -> None:
    with pytest.raises(InvalidToken, match="expired on 2026-11-02 12:00 UTC"):
        parse_token(jwt(claims_expiring(NOW)), now=NOW)
    assert parse_token(jwt(claims_expiring(NOW + timedelta(seconds=1))), now=NOW)


@pytest.mark.parametrize("expiry", [True, "1", None, [], 1e300, 10**30, -(10**30)])
def test_an_expiry_that_is_no_instant_is_not_known(expiry: object) -> None:
    assert parse_token(jwt({"exp": expiry}), now=NOW).expires_at is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "token",
        "a.b",
        "a.b.c.d",
        "a..c",
        "ä.b.c",
        f"{part({})}.{part('text')}.{part('')}",
        f"{part({})}.{part([1])}.{part('')}",
        f"{part({})}.e30x.{part('')}",
        f"{part({})}._{part({})}.{part('')}",
        "a.a.a",
        f"Bearer {jwt({})}",
        f"{jwt({})} {jwt({})}",
        f"{jwt({'x': 'y' * MAX_TOKEN_LENGTH})}",
    ],
)
def test_what_is_no_jwt_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        parse_token(text, now=NOW)
    if len(text) > 5:
        assert text not in str(caught.value)


@given(
    st.one_of(
        st.text(st.characters(codec=None), max_size=30),
        st.binary(max_size=40).map(
            lambda raw: f"a.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}.c"
        ),
        st.dictionaries(
            st.sampled_from(["aud", "exp", "sub"]),
            st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.lists(st.text())),
        ).map(jwt),
    )
)
def test_any_text_is_a_token_or_refused_with_our_error(text: str) -> None:
    with suppress(ClarityError):
        parse_business_id(text)
    with suppress(ClarityError):
        parse_project_id(text)
    with suppress(ClarityError):
        parse_token(text, now=NOW)


def test_a_token_needs_renewal_in_its_last_week() -> None:
    assert token_needs_renewal(NOW + timedelta(days=7), now=NOW)
    assert token_needs_renewal(NOW - timedelta(days=1), now=NOW)
    assert not token_needs_renewal(NOW + timedelta(days=7, seconds=1), now=NOW)
    assert not token_needs_renewal(None, now=NOW)


def test_a_token_has_expired_from_the_instant_that_it_names() -> None:
    assert token_has_expired(NOW, now=NOW)
    assert not token_has_expired(NOW + timedelta(seconds=1), now=NOW)
    assert not token_has_expired(None, now=NOW)


SYNCED_AT = NOW - timedelta(hours=11)
BEFORE, AFTER = SYNCED_AT - timedelta(days=3), SYNCED_AT + timedelta(hours=1)

HEALTHY = ConnectionFacts(
    is_connected=True,
    disabled_by=None,
    is_rate_limited_today=False,
    last_tested_at=BEFORE,
    last_test_result="ok",
    last_synced_at=SYNCED_AT,
    yesterdays_job=JobStatus.SUCCEEDED,
    yesterdays_job_at=SYNCED_AT,
    yesterdays_rebuild_failed=False,
    yesterday_is_complete=True,
    is_expected=True,
)
INCOMPLETE = replace(HEALTHY, yesterday_is_complete=False)
NEW = replace(
    INCOMPLETE,
    last_tested_at=None,
    last_test_result=None,
    last_synced_at=None,
    yesterdays_job=None,
    yesterdays_job_at=None,
    is_expected=False,
)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (HEALTHY, ConnectionState.CONNECTED),
        (replace(HEALTHY, is_connected=False), ConnectionState.NOT_CONNECTED),
        (replace(HEALTHY, disabled_by=DisabledBy.USER), ConnectionState.PAUSED),
        (replace(HEALTHY, disabled_by=DisabledBy.AUTH_FAILURE), ConnectionState.DISABLED_AUTH),
        (NEW, ConnectionState.NEVER_TESTED),
        (replace(NEW, last_tested_at=AFTER, last_test_result="ok"), ConnectionState.CONNECTED),
        (replace(INCOMPLETE, yesterdays_job=None), ConnectionState.LATE),
        (
            replace(INCOMPLETE, yesterdays_job=None, is_expected=False),
            ConnectionState.CONNECTED,
        ),
        (replace(INCOMPLETE, yesterdays_job=JobStatus.RUNNING), ConnectionState.CONNECTED),
        (replace(INCOMPLETE, yesterdays_job=JobStatus.PARTIAL), ConnectionState.PARTIAL),
        (replace(INCOMPLETE, yesterdays_job=JobStatus.FAILED), ConnectionState.FAILING),
        (replace(INCOMPLETE, yesterdays_job=JobStatus.AUTH_FAILED), ConnectionState.FAILING),
        (
            replace(INCOMPLETE, yesterdays_job=JobStatus.PARTIAL, is_rate_limited_today=True),
            ConnectionState.RATE_LIMITED_TODAY,
        ),
    ],
)
def test_the_state_is_the_one_thing_most_worth_knowing(
    facts: ConnectionFacts, state: ConnectionState
) -> None:
    assert connection_state(facts) is state


def test_a_spent_quota_is_no_news_once_yesterday_is_in() -> None:
    facts = replace(HEALTHY, is_rate_limited_today=True)
    assert connection_state(facts) is ConnectionState.CONNECTED


def test_a_failed_test_after_the_sync_speaks_for_the_token() -> None:
    failed = replace(HEALTHY, last_tested_at=AFTER, last_test_result="auth_failed")
    assert connection_state(failed) is ConnectionState.FAILING
    assert connection_state(replace(failed, last_tested_at=BEFORE)) is ConnectionState.CONNECTED


def test_a_test_that_passed_after_a_failed_sync_clears_the_token() -> None:
    failed = replace(INCOMPLETE, yesterdays_job=JobStatus.AUTH_FAILED)
    passed = replace(failed, last_tested_at=AFTER, last_test_result="ok")
    assert connection_state(passed) is not ConnectionState.FAILING


def test_a_test_that_hit_the_quota_says_nothing_against_the_token() -> None:
    limited = replace(HEALTHY, last_tested_at=AFTER, last_test_result="rate_limited")
    assert connection_state(limited) is ConnectionState.CONNECTED
    failed = replace(limited, yesterday_is_complete=False, yesterdays_job=JobStatus.FAILED)
    assert connection_state(failed) is ConnectionState.FAILING
