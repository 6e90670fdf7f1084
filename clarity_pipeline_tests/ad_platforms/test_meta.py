"""Meta's Marketing API as rules use it, against a local stand-in over real HTTP."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from clarity_pipeline.ad_platforms.interface import AdObject, AdPlatform
from clarity_pipeline.ad_platforms.meta import MetaAds
from clarity_pipeline.ad_platforms.meta_stand_in import (
    MetaStandIn,
    MetaStandInServer,
    StandInAccount,
    StandInFault,
    StandInObject,
)
from clarity_pipeline.domain.errors import (
    ConfigurationError,
    PlatformError,
    PlatformRefused,
    PlatformThrottled,
    PlatformTokenRefused,
    PlatformUnavailable,
)
from clarity_pipeline.domain.rules.delivery import PlatformState
from clarity_pipeline.domain.rules.model import EntityStatus, Level

TOKEN = SecretStr("EAAB-secret-token")
NOW = datetime(2026, 11, 2, 0, 30, tzinfo=UTC)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

CAMPAIGN = AdObject(platform_id="11", account_id="act_1", level=Level.CAMPAIGN)
AD_SET = AdObject(platform_id="12", account_id="1", level=Level.AD_SET)
AD = AdObject(platform_id="13", account_id="1", level=Level.AD)


@pytest.fixture
def stand_in() -> MetaStandIn:
    return MetaStandIn(
        [
            StandInAccount(id="1", tokens={TOKEN.get_secret_value()}),
            StandInAccount(id="2", currency="JPY", tokens={TOKEN.get_secret_value()}),
        ],
        [
            StandInObject(id="11", account_id="1", daily_budget=10_000),
            StandInObject(id="12", account_id="1", level=Level.AD_SET, parent_id="11"),
            StandInObject(id="13", account_id="1", level=Level.AD, parent_id="12"),
            StandInObject(id="21", account_id="2", daily_budget=10_000),
        ],
        clock=lambda: NOW,
    )


@pytest.fixture
def base_url(stand_in: MetaStandIn) -> Generator[str]:
    with MetaStandInServer(stand_in) as server:
        yield server.base_url


@pytest.fixture
def meta(base_url: str) -> Generator[MetaAds]:
    with MetaAds(base_url=base_url) as made:
        yield made


def test_it_is_an_ad_platform(meta: MetaAds) -> None:
    platform: AdPlatform = meta
    assert platform.read_state(CAMPAIGN, TOKEN) == PlatformState(
        status=EntityStatus.ACTIVE, daily_budget=10_000, units=100, changed_at=CREATED
    )


@pytest.mark.parametrize("entity", [CAMPAIGN, AD_SET, AD], ids=lambda each: each.level)
def test_each_level_is_paused_and_resumed(
    meta: MetaAds, stand_in: MetaStandIn, entity: AdObject
) -> None:
    meta.pause(entity, TOKEN)
    found = meta.read_state(entity, TOKEN)
    assert (found.status, found.changed_at) == (EntityStatus.PAUSED, NOW)
    meta.resume(entity, TOKEN)
    assert meta.read_state(entity, TOKEN).status is EntityStatus.ACTIVE
    assert stand_in.changes == [
        (entity.platform_id, {"status": "PAUSED"}),
        (entity.platform_id, {"status": "ACTIVE"}),
    ]


def test_a_pause_further_up_is_not_a_pause_of_what_hangs_below(
    meta: MetaAds, stand_in: MetaStandIn
) -> None:
    stand_in.touch("11", status="PAUSED")
    assert meta.read_state(AD, TOKEN).status is EntityStatus.ACTIVE


@pytest.mark.parametrize("status", ["ARCHIVED", "DELETED"])
def test_what_is_archived_is_gone(meta: MetaAds, stand_in: MetaStandIn, status: str) -> None:
    stand_in.touch("11", status=status)
    assert meta.read_state(CAMPAIGN, TOKEN).status is EntityStatus.DELETED


def test_a_budget_is_set_in_what_the_currency_is_counted_in(
    meta: MetaAds, stand_in: MetaStandIn
) -> None:
    meta.set_daily_budget(CAMPAIGN, TOKEN, daily_budget=12_000)
    found = meta.read_state(CAMPAIGN, TOKEN)
    assert (found.daily_budget, found.units, found.changed_at) == (12_000, 100, CREATED)
    yen = AdObject(platform_id="21", account_id="2", level=Level.CAMPAIGN)
    assert meta.read_state(yen, TOKEN).units == 1


def test_a_budget_further_up_is_none_of_its_own(meta: MetaAds) -> None:
    assert meta.read_state(AD_SET, TOKEN).daily_budget is None
    assert meta.read_state(AD, TOKEN).daily_budget is None


def test_the_currency_is_asked_for_once(meta: MetaAds, stand_in: MetaStandIn) -> None:
    for _ in range(3):
        meta.read_state(CAMPAIGN, TOKEN)
    assert sum(call.path.endswith("act_1") for call in stand_in.calls) == 1


def test_what_is_in_another_account_is_not_touched(meta: MetaAds) -> None:
    moved = AdObject(platform_id="21", account_id="1", level=Level.CAMPAIGN)
    with pytest.raises(PlatformRefused, match="not in the ad account"):
        meta.read_state(moved, TOKEN)


# What errors mean.


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1, PlatformUnavailable),
        (2, PlatformUnavailable),
        (4, PlatformThrottled),
        (17, PlatformThrottled),
        (32, PlatformThrottled),
        (341, PlatformThrottled),
        (613, PlatformThrottled),
        (80000, PlatformThrottled),
        (80004, PlatformThrottled),
        (80014, PlatformThrottled),
        (368, PlatformThrottled),
        (102, PlatformTokenRefused),
        (190, PlatformTokenRefused),
        (3, PlatformRefused),
        (10, PlatformRefused),
        (200, PlatformRefused),
        (299, PlatformRefused),
        (100, PlatformRefused),
        (1487, PlatformRefused),
    ],
)
def test_a_code_says_what_to_do_next(
    meta: MetaAds, stand_in: MetaStandIn, code: int, expected: type[PlatformError]
) -> None:
    stand_in.add_fault(StandInFault(code=code, subcode=77))
    with pytest.raises(PlatformError) as caught:
        meta.pause(CAMPAIGN, TOKEN)
    assert type(caught.value) is expected
    assert f"code {code}, subcode 77" in str(caught.value)
    assert stand_in.objects["11"].status == "ACTIVE"


def test_what_meta_calls_transient_is_worth_another_try(
    meta: MetaAds, stand_in: MetaStandIn
) -> None:
    stand_in.add_fault(StandInFault(code=1487, is_transient=True))
    with pytest.raises(PlatformUnavailable):
        meta.pause(CAMPAIGN, TOKEN)


@pytest.mark.parametrize(
    ("headers", "minutes"),
    [
        (
            {
                "x-business-use-case-usage": '{"1": [{"estimated_time_to_regain_access": 7}, '
                '{"estimated_time_to_regain_access": 12}]}'
            },
            12,
        ),
        ({"x-ad-account-usage": '{"acc_id_util_pct": 100, "reset_time_duration": 120}'}, 2),
        ({"x-app-usage": '{"call_count": 100, "total_time": 1, "total_cputime": 1}'}, 10),
        ({"x-app-usage": '{"call_count": 99, "total_time": 1, "total_cputime": 1}'}, None),
        ({"retry-after": "180"}, 3),
        ({"x-business-use-case-usage": "nonsense", "retry-after": "soon"}, None),
        ({"x-ad-account-usage": '{"reset_time_duration": -5}'}, None),
    ],
)
def test_a_throttled_call_says_for_how_long(
    meta: MetaAds, stand_in: MetaStandIn, headers: dict[str, str], minutes: int | None
) -> None:
    stand_in.add_fault(StandInFault(code=17, headers=headers))
    with pytest.raises(PlatformThrottled) as caught:
        meta.pause(CAMPAIGN, TOKEN)
    expected = None if minutes is None else minutes * MINUTE
    assert caught.value.retry_after == expected


def test_an_account_that_has_had_its_calls_says_when_to_come_back(
    meta: MetaAds, stand_in: MetaStandIn
) -> None:
    stand_in.accounts["1"].calls_left = 1
    meta.pause(CAMPAIGN, TOKEN)
    with pytest.raises(PlatformThrottled) as caught:
        meta.resume(CAMPAIGN, TOKEN)
    assert caught.value.retry_after == 5 * MINUTE


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"body": "<html>", "status": 502}, PlatformUnavailable),
        ({"body": "<html>", "status": 200}, PlatformUnavailable),
        ({"body": "[]", "status": 200}, PlatformUnavailable),
        ({"body": '{"success": false}', "status": 200}, PlatformUnavailable),
        ({"body": "slow down", "status": 429}, PlatformThrottled),
        ({"body": "", "status": 302, "headers": {"location": "/"}}, PlatformRefused),
        ({"body": "not here", "status": 404}, PlatformRefused),
        ({"body": '{"error": {"code": "x"}}', "status": 400}, PlatformRefused),
        ({"body": "x" * 400_000, "status": 200}, PlatformUnavailable),
    ],
)
def test_what_is_no_answer_of_metas_is_told_apart(
    meta: MetaAds, stand_in: MetaStandIn, fault: dict[str, Any], expected: type[PlatformError]
) -> None:
    stand_in.add_fault(StandInFault(**fault))
    with pytest.raises(PlatformError) as caught:
        meta.pause(CAMPAIGN, TOKEN)
    assert type(caught.value) is expected


def test_an_answer_that_does_not_come_may_have_been_acted_upon(
    base_url: str, stand_in: MetaStandIn
) -> None:
    stand_in.add_fault(StandInFault(method="POST", after_acting=True, delay_seconds=1))
    with MetaAds(base_url=base_url, read_seconds=0.1) as impatient:
        with pytest.raises(PlatformUnavailable, match="may have been made"):
            impatient.pause(CAMPAIGN, TOKEN)
        assert impatient.read_state(CAMPAIGN, TOKEN).status is EntityStatus.PAUSED


def test_nobody_there_is_told_apart_from_no_answer() -> None:
    with (
        MetaAds(base_url="http://127.0.0.1:9/v25.0") as meta,
        pytest.raises(PlatformUnavailable, match="could not be reached"),
    ):
        meta.pause(CAMPAIGN, TOKEN)


# Secrets.


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ümlaut"])
def test_a_token_that_fits_no_header_is_not_sent(
    meta: MetaAds, stand_in: MetaStandIn, token: str
) -> None:
    with pytest.raises(PlatformTokenRefused):
        meta.pause(CAMPAIGN, SecretStr(token))
    assert stand_in.calls == []


def test_the_token_is_in_a_header_and_in_no_address_log_or_exception(
    base_url: str, stand_in: MetaStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    secret = TOKEN.get_secret_value()
    stand_in.add_fault(StandInFault(method="POST", after_acting=True, delay_seconds=1))
    stand_in.add_fault(
        StandInFault(method="POST", body=f'{{"error": {{"code": 100, "message": "{secret}"}}}}')
    )
    told = ""
    with caplog.at_level(logging.DEBUG), MetaAds(base_url=base_url, read_seconds=0.1) as meta:
        meta.read_state(CAMPAIGN, TOKEN)
        for _ in range(2):
            with pytest.raises(PlatformError) as caught:
                meta.pause(CAMPAIGN, TOKEN)
            assert caught.value.__context__ is None
            assert caught.value.__cause__ is None
            told += "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert all(call.token == secret for call in stand_in.calls)
    assert all(secret not in call.path + str(call.values) for call in stand_in.calls)
    assert secret not in told + caplog.text


@pytest.mark.parametrize(
    "url", ["http://graph.example.com/v25.0", "ftp://graph.facebook.com", "https://a:b@c.com"]
)
def test_an_address_that_a_token_must_not_be_sent_to_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="CLARITY_META_API_URL"):
        MetaAds(base_url=url)


# The stand-in.


def test_the_stand_in_refuses_what_meta_refuses(base_url: str, stand_in: MetaStandIn) -> None:
    def code(method: str, node: str, token: str = TOKEN.get_secret_value(), **values: str) -> int:
        answer = httpx.request(
            method,
            f"{base_url}/{node}",
            params=values if method == "GET" else None,
            data=values if method == "POST" else None,
            headers={"Authorization": f"Bearer {token}"},
        )
        return int(answer.json()["error"]["code"])

    assert code("GET", "11", token="wrong", fields="status") == 190
    assert code("GET", "99", fields="status") == 100
    assert code("GET", "13", fields="daily_budget") == 100
    assert code("POST", "13", daily_budget="5000") == 100
    assert code("POST", "12", daily_budget="5000") == 100
    assert code("POST", "11", daily_budget="5") == 100
    assert code("POST", "11", status="SLEEPING") == 100
    assert [each.status for each in stand_in.objects.values()] == ["ACTIVE"] * 4


def test_the_stand_in_can_be_made_to_fail_from_outside(base_url: str, meta: MetaAds) -> None:
    control = base_url.removesuffix("/v25.0") + "/control"
    assert httpx.post(f"{control}/faults", json={"code": 190, "method": "POST"}).status_code == 204
    assert httpx.post(f"{control}/faults", json={"kode": 190}).status_code == 400
    with pytest.raises(PlatformTokenRefused):
        meta.pause(CAMPAIGN, TOKEN)
    shown = httpx.get(control).json()
    assert [each["id"] for each in shown["objects"]] == ["11", "12", "13", "21"]
    assert TOKEN.get_secret_value() not in str(shown)
