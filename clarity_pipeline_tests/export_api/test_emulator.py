"""The emulator over a socket: tokens, quota, parameters, clock, faults and its control endpoint."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from clarity_pipeline.domain.connections import parse_token
from clarity_pipeline.domain.dimensions import Dimension
from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.domain.metrics import BREAKDOWN_BLOCKS, TUPLE_BLOCKS
from clarity_pipeline.export_api.emulated_site import SessionKind
from clarity_pipeline.export_api.emulator import (
    EmulatedProject,
    EmulatorServer,
    Fault,
    default_projects,
    emulator_token,
    run_emulator,
)
from clarity_pipeline_tests.export_api.conftest import NOW, PROJECT
from clarity_pipeline_tests.reply_contract import check_reply

TOKEN = emulator_token(PROJECT.project_id)


def call(
    server: EmulatorServer, query: str = "numOfDays=1", *, token: str = TOKEN, path: str = ""
) -> httpx.Response:
    return httpx.get(
        f"{server.base_url}/project-live-insights{path}?{query}",
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
    )


def names(response: httpx.Response) -> list[str]:
    return [block["metricName"] for block in response.json()]


def human_sessions(response: httpx.Response) -> int:
    blocks: list[dict[str, Any]] = response.json()
    return blocks[0]["information"][0]["sessionsCount"]


def test_a_token_reads_like_one_of_clarity_s() -> None:
    expires_at = datetime(2027, 1, 1, tzinfo=UTC)
    text = emulator_token("shoptest1", expires_at=expires_at)
    facts = parse_token(text, now=NOW)

    assert facts.expires_at == expires_at
    assert facts.audience == "clarity.data-exporter"
    assert facts.subject is not None
    assert (len(facts.subject), facts.subject.isdigit()) == (16, True)
    assert 600 <= len(text) <= 800
    assert text == emulator_token("shoptest1", expires_at=expires_at)
    assert text != emulator_token("shoptest1", expires_at=expires_at, serial=2)


def test_a_call_with_dimensions_has_nine_blocks_and_without_sixteen(
    server: EmulatorServer,
) -> None:
    split = call(server, "numOfDays=1&dimension1=URL&dimension2=Device")
    whole = call(server, "numOfDays=1")

    assert split.headers["content-type"].startswith("application/json")
    assert names(split) == [*TUPLE_BLOCKS]
    assert names(whole) == [*TUPLE_BLOCKS, *BREAKDOWN_BLOCKS]
    assert check_reply(split.json(), [Dimension.URL, Dimension.DEVICE]) == []
    assert check_reply(whole.json(), []) == []


@pytest.mark.parametrize(
    "query",
    [
        "numOfDays=1&dimension1=Country/Region",
        "numOfDays=1&dimension1=Popular%20Pages",
        "numOfDays=1&dimension1=url",
        "numOfDays=1&dimension1=URL&dimension2=Nothing",
    ],
)
def test_an_unknown_dimension_is_ignored_without_an_error(
    server: EmulatorServer, query: str
) -> None:
    response = call(server, query)

    assert names(response) == [*TUPLE_BLOCKS, *BREAKDOWN_BLOCKS]
    assert response.content == call(server, "numOfDays=1").content


def test_country_region_can_be_made_to_work(server: EmulatorServer) -> None:
    server.control.put_projects(
        [EmulatedProject(PROJECT.project_id, seed=11, accepts_country_region=True)]
    )

    response = call(server, "numOfDays=1&dimension1=Country/Region")

    assert check_reply(response.json(), [Dimension.COUNTRY]) == []


@pytest.mark.parametrize("days", ["0", "4", "-1", "1.0", "", "many"])
def test_a_number_of_days_outside_1_to_3_is_a_400_without_a_body(
    server: EmulatorServer, days: str
) -> None:
    response = call(server, f"numOfDays={days}")

    assert (response.status_code, response.content) == (400, b"")


def test_days_left_out_mean_one_and_strange_parameters_mean_nothing(
    server: EmulatorServer,
) -> None:
    plain = call(server, "numOfDays=1")

    assert call(server, "").json() == plain.json()
    assert call(server, "numOfDays=1&startDate=2020-01-01&src=mcp").json() == plain.json()
    assert call(server, "numOfDays=1", path="/").json() == plain.json()


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "a.b.c",
        "ä.ö.ü".encode().decode("latin-1"),
        emulator_token("anotherproject"),
        emulator_token(PROJECT.project_id, expires_at=NOW),
        TOKEN[:-2],
    ],
)
def test_a_token_that_is_unknown_expired_or_damaged_is_a_401(
    server: EmulatorServer, token: str
) -> None:
    response = httpx.get(
        f"{server.base_url}/project-live-insights",
        headers={b"Authorization": f"Bearer {token}".encode("latin-1")},
        trust_env=False,
    )

    assert (response.status_code, response.content) == (401, b"")


def test_a_call_without_any_authorization_is_a_401(server: EmulatorServer) -> None:
    assert httpx.get(f"{server.base_url}/project-live-insights", trust_env=False).status_code == 401


def test_a_revoked_token_is_a_401_and_the_next_one_works(server: EmulatorServer) -> None:
    server.control.revoke_token(PROJECT.project_id, serial=1)

    assert call(server).status_code == 401
    assert call(server, token=emulator_token(PROJECT.project_id, serial=2)).status_code == 200


def test_a_token_expires_by_the_emulator_s_clock(server: EmulatorServer) -> None:
    token = emulator_token(PROJECT.project_id, expires_at=NOW + timedelta(hours=1))
    assert call(server, token=token).status_code == 200

    server.control.advance_clock(timedelta(hours=1))

    assert call(server, token=token).status_code == 401


def test_a_project_that_may_not_export_is_a_403(server: EmulatorServer) -> None:
    server.control.put_projects([EmulatedProject(PROJECT.project_id, seed=1, export_enabled=False)])

    assert call(server).status_code == 403


def test_the_eleventh_call_of_a_utc_day_is_a_429_and_midnight_brings_ten_more(
    server: EmulatorServer,
) -> None:
    statuses = [call(server).status_code for _ in range(11)]
    server.control.set_clock(datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC))
    before_midnight = call(server)
    server.control.advance_clock(timedelta(seconds=1))

    assert statuses == [200] * 10 + [429]
    assert (before_midnight.status_code, before_midnight.text) == (429, "Exceeded daily limit")
    assert call(server).status_code == 200


def test_projects_have_quotas_of_their_own_whatever_tokens_they_use(
    server: EmulatorServer,
) -> None:
    server.control.put_projects([EmulatedProject("othershop", seed=1)])
    server.control.set_quota_used(PROJECT.project_id, used=10)

    second_token = emulator_token(PROJECT.project_id, serial=2)
    assert call(server, token=second_token).status_code == 429
    assert call(server, token=emulator_token("othershop")).status_code == 200
    assert server.control.state()["quota_used_today"] == {
        **{project["project_id"]: 0 for project in server.control.state()["projects"]},
        PROJECT.project_id: 10,
        "othershop": 1,
    }


@pytest.mark.parametrize("failed_calls_count", [True, False])
def test_whether_failed_calls_count_can_be_chosen(
    server: EmulatorServer, *, failed_calls_count: bool
) -> None:
    server.control.put_projects(
        [EmulatedProject(PROJECT.project_id, seed=1, failed_calls_count=failed_calls_count)]
    )
    server.control.add_fault(Fault(skip=1, status=503))

    assert [call(server, "numOfDays=9").status_code, call(server).status_code] == [400, 503]
    used = server.control.state()["quota_used_today"][PROJECT.project_id]
    assert used == (2 if failed_calls_count else 0)


def test_the_quota_of_another_day_can_be_set(server: EmulatorServer) -> None:
    server.control.set_quota_used(PROJECT.project_id, used=10, day=date(2026, 11, 21))

    assert call(server).status_code == 200
    server.control.set_clock(NOW + timedelta(days=1))
    assert call(server).status_code == 429


def test_the_window_rolls_with_the_clock(server: EmulatorServer) -> None:
    served: list[int] = []
    truth: list[int] = []
    for now in (NOW, NOW + timedelta(hours=7), NOW + timedelta(hours=50)):
        server.control.set_clock(now)
        served.append(human_sessions(call(server)))
        sessions = server.emulator.sessions(
            PROJECT.project_id, start=now - timedelta(days=1), end=now
        )
        truth.append(sum(1 for session in sessions if session.kind is SessionKind.HUMAN))

    assert served == truth
    assert len(set(served)) > 1


def test_a_session_younger_than_the_delay_is_not_yet_there(server: EmulatorServer) -> None:
    server.control.put_projects(
        [EmulatedProject("delayed", seed=11, pages=12, visibility_delay_seconds=23 * 3600)]
    )
    token = emulator_token("delayed")
    start = NOW - timedelta(days=1)
    truth = server.emulator.sessions("delayed", start=start, end=start + timedelta(hours=1))

    visible = human_sessions(call(server, token=token))

    assert visible == sum(1 for session in truth if session.kind is SessionKind.HUMAN)
    server.control.put_projects([EmulatedProject("delayed", seed=11, pages=12)])
    assert human_sessions(call(server, token=token)) > visible


def test_equal_parameters_are_equal_bytes_whatever_the_project_is_called(
    server: EmulatorServer,
) -> None:
    twin = EmulatedProject("shoptwin", seed=11, sessions_per_day=40, pages=12)
    server.control.put_projects([twin])
    query = "numOfDays=2&dimension1=URL"

    assert (
        call(server, query, token=emulator_token("shoptwin")).content == call(server, query).content
    )


def test_an_outage_is_an_empty_500_on_every_call(server: EmulatorServer) -> None:
    server.control.set_outage(on=True)
    response = call(server)
    server.control.set_outage(on=False)

    assert (response.status_code, response.content) == (500, b"")
    assert call(server).status_code == 200


def test_bodies_of_errors_can_be_chosen(server: EmulatorServer) -> None:
    server.control.set_error_body(401, body='"token expired"', content_type="application/json")

    response = call(server, token="nonsense")

    assert response.json() == "token expired"
    assert response.headers["content-type"] == "application/json"


def test_a_fault_hits_its_project_and_dimensions_after_those_let_through(
    server: EmulatorServer,
) -> None:
    server.control.put_projects([EmulatedProject("othershop", seed=1)])
    server.control.add_fault(
        Fault(
            project_id=PROJECT.project_id,
            dimension_set="Device,URL",
            skip=1,
            times=2,
            status=502,
            body="<html>bad gateway</html>",
            headers={"Content-Type": "text/html", "X-Cache": "MISS"},
        )
    )
    query = "numOfDays=1&dimension1=URL&dimension2=Device"

    assert call(server, query, token=emulator_token("othershop")).status_code == 200
    assert call(server).status_code == 200
    responses = [call(server, query) for _ in range(4)]
    assert [response.status_code for response in responses] == [200, 502, 502, 200]
    assert responses[1].text == "<html>bad gateway</html>"
    assert responses[1].headers["x-cache"] == "MISS"


def test_a_dropped_connection_ends_without_a_reply(server: EmulatorServer) -> None:
    server.control.add_fault(Fault(drop=True))

    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        call(server)
    assert server.control.calls()[-1].status is None
    assert call(server).status_code == 200


def test_a_truncated_body_ends_before_its_announced_length(server: EmulatorServer) -> None:
    server.control.add_fault(Fault(truncate_at_bytes=100))

    with pytest.raises(httpx.RemoteProtocolError, match="received 100 bytes"):
        call(server)


def test_the_calls_received_are_listed_without_their_tokens(server: EmulatorServer) -> None:
    call(server, "numOfDays=1&dimension1=URL&dimension2=Device")
    call(server, "numOfDays=7")
    call(server, token="nonsense")
    listed = server.control.calls()

    assert [(each.project_id, each.dimension_set, each.status) for each in listed] == [
        (PROJECT.project_id, "Device,URL", 200),
        (PROJECT.project_id, "", 400),
        (None, "", 401),
    ]
    assert listed[0].received_at == NOW
    assert listed[0].query == "numOfDays=1&dimension1=URL&dimension2=Device"
    raw = httpx.get(f"{server.root_url}/control/calls", trust_env=False).text
    assert TOKEN not in raw
    server.control.clear_calls()
    assert server.control.calls() == []


def test_the_clock_runs_unless_frozen_and_can_go_back_to_real_time(
    server: EmulatorServer,
) -> None:
    def now() -> datetime:
        return datetime.fromisoformat(server.control.state()["clock"]["now"])

    assert now() == now() == NOW
    server.control.set_clock(NOW, frozen=False)
    assert NOW < now() < NOW + timedelta(minutes=1)
    server.control.set_clock(None)
    assert abs(now() - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/control/clock", {"now": "2026-11-20T00:00:00"}),
        ("PUT", "/control/clock", {"nwo": None}),
        ("POST", "/control/faults", {"faults": [{"stauts": 500}]}),
        ("PUT", "/control/projects", {"projects": [{"project_id": "x", "seed": 1, "pages": 0}]}),
        ("PUT", "/control/quota", {"project_id": "x"}),
    ],
)
def test_a_setting_with_a_mistake_is_refused_and_changes_nothing(
    server: EmulatorServer, method: str, path: str, body: dict[str, object]
) -> None:
    before = server.control.state()
    response = httpx.request(
        method, f"{server.root_url}{path}", content=json.dumps(body), trust_env=False
    )

    assert response.status_code == 422
    assert response.json()["errors"]
    assert server.control.state() == before


def test_small_replies_do_not_wait_for_the_client_to_acknowledge(server: EmulatorServer) -> None:
    """Head and body are two segments: with Nagle's algorithm each reply would take 40 ms."""
    with httpx.Client(trust_env=False) as client:
        started = time.monotonic()
        for _ in range(50):
            client.get(f"{server.root_url}/control/calls")
        seconds = time.monotonic() - started

    assert seconds < 1.5


def test_the_root_says_in_plain_words_what_this_is(server: EmulatorServer) -> None:
    response = httpx.get(server.root_url, trust_env=False)

    assert "local emulator" in response.text
    assert response.headers["content-type"].startswith("text/plain")


def test_it_refuses_to_serve_anything_but_this_machine() -> None:
    with pytest.raises(ConfigurationError, match=r"not 0\.0\.0\.0"):
        run_emulator(host="0.0.0.0")


def test_a_port_that_is_taken_is_a_sentence(server: EmulatorServer) -> None:
    port = httpx.URL(server.root_url).port
    assert port is not None
    with pytest.raises(ConfigurationError, match="choose another port"):
        run_emulator(port=port)


def test_served_until_interrupted_it_says_where_and_ends_quietly() -> None:
    """Ctrl-C is the ordinary end of `clarity emulator`: no traceback, exit code 0."""
    program = (
        "from clarity_pipeline.export_api.emulator import run_emulator\n"
        "run_emulator(on_ready=lambda base_url: print(base_url, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        base_url = process.stdout.readline().strip()
        token = emulator_token(default_projects()[0].project_id)
        response = httpx.get(
            f"{base_url}/project-live-insights",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
        exit_code = process.wait(10)

    assert response.status_code == 200
    assert (exit_code, errors) == (0, "")


def test_the_default_projects_answer_each_in_its_own_way() -> None:
    with EmulatorServer(default_projects()) as server:
        statuses = {
            project.project_id: call(server, token=emulator_token(project.project_id)).status_code
            for project in default_projects()
        }

    assert sorted(set(statuses.values())) == [200, 403]


def test_an_emulator_in_a_process_of_its_own_serves_the_same_and_ends_with_the_block() -> None:
    query = "numOfDays=1&dimension1=URL"
    with (
        EmulatorServer([PROJECT]) as threaded,
        EmulatorServer([PROJECT], separate_process=True) as separate,
    ):
        for server in (threaded, separate):
            server.control.set_clock(NOW)
        assert call(threaded, query).content == call(separate, query).content
        with pytest.raises(RuntimeError, match="another process"):
            _ = separate.emulator
        address = separate.root_url

    with pytest.raises(httpx.ConnectError):
        httpx.get(address, trust_env=False)


def test_stopping_is_quick_and_silent_with_connections_left_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING), httpx.Client(trust_env=False) as client:
        with EmulatorServer([PROJECT]) as server:
            client.get(server.root_url)
            server.control.add_fault(Fault(delay_seconds=60))
            with pytest.raises(httpx.ReadTimeout):
                client.get(
                    f"{server.base_url}/project-live-insights",
                    headers={"Authorization": f"Bearer {TOKEN}"},
                    timeout=0.2,
                )
            started = datetime.now(UTC)
        assert datetime.now(UTC) - started < timedelta(seconds=1)
    assert caplog.records == []
