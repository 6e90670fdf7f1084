"""The client against a real server on a socket: every way in which a call can end."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import ssl
import traceback
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from clarity_pipeline.domain.dimensions import (
    DEFAULT_COMBOS,
    OVERVIEW,
    URL_DEVICE,
    Dimension,
    DimensionCombo,
)
from clarity_pipeline.domain.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionBroken,
    DimensionIgnored,
    ExportError,
    RateLimited,
    ReplyTimedOut,
    ReplyUnreadable,
    RequestRejected,
    ServiceUnavailable,
)
from clarity_pipeline.domain.exports import Export, ExportRequest
from clarity_pipeline.export_api import client as client_module
from clarity_pipeline.export_api.client import (
    ExportApiClient,
    FetchedExport,
    OnReply,
    Timeouts,
    large_replies_at_once,
)
from clarity_pipeline.export_api.emulator import (
    EmulatedProject,
    EmulatorServer,
    Fault,
    emulator_token,
)
from clarity_pipeline_tests.export_api.conftest import NOW, PROJECT

TOKEN = SecretStr(emulator_token(PROJECT.project_id))
REQUEST = ExportRequest(URL_DEVICE)
PATIENT = Timeouts()


def ticking_clock() -> Callable[[], datetime]:
    """NOW, one second later at every look."""
    looks = iter(range(1_000_000))
    return lambda: NOW + timedelta(seconds=next(looks))


def fetch(
    base_url: str,
    request: ExportRequest = REQUEST,
    *,
    token: SecretStr = TOKEN,
    on_reply: OnReply | None = None,
    timeouts: Timeouts = PATIENT,
    max_reply_bytes: int = 4 * 1024 * 1024,
) -> FetchedExport:
    async def go() -> FetchedExport:
        async with ExportApiClient(
            base_url=base_url, timeouts=timeouts, max_reply_bytes=max_reply_bytes
        ) as client:
            return await client.fetch(request, token, clock=ticking_clock(), on_reply=on_reply)

    return asyncio.run(go())


def failure_of(run: Callable[[], object]) -> ExportError:
    """The error that this raises, after a look for the token in everything it drags along."""
    with pytest.raises(ExportError) as caught:
        run()
    assert_no_token(caught.value)
    return caught.value


def assert_no_token(error: BaseException) -> None:
    """Not in the message, not in the chain, not in the client's frames as a debugger shows them."""
    secret = TOKEN.get_secret_value()
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        link = pending.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        assert not hasattr(link, "request"), f"{link!r} carries a request and its headers"
        for text in (str(link), repr(link), repr(vars(link)), repr(link.args)):
            assert secret not in text
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if frame.f_code.co_filename == client_module.__file__:
                assert secret not in repr(dict(frame.f_locals))
        pending += [link.__cause__, link.__context__]


class Landing:
    """Keeps what `on_reply` is given, as a caller who commits it first would."""

    def __init__(self) -> None:
        self.exports: list[Export] = []

    async def __call__(self, export: Export) -> None:
        await asyncio.sleep(0)
        self.exports.append(export)


def test_a_reply_comes_with_its_envelope_and_summary(server: EmulatorServer) -> None:
    landing = Landing()

    export, summary = fetch(server.base_url, on_reply=landing)

    assert landing.exports == [export]
    assert (export.http_status, export.request) == (200, REQUEST)
    assert (export.requested_at, export.received_at) == (NOW, NOW + timedelta(seconds=1))
    assert json.loads(export.body)[0]["metricName"] == "DeadClickCount"
    assert summary.row_counts["RageClickCount"] > 10
    assert (summary.truncated, summary.unknown_blocks) == (False, ())


@pytest.mark.parametrize("combo", [*DEFAULT_COMBOS, OVERVIEW])
@pytest.mark.parametrize("days", [1, 3])
def test_every_combo_is_asked_for_in_the_words_of_the_api(
    server: EmulatorServer, combo: DimensionCombo, days: int
) -> None:
    fetch(server.base_url, ExportRequest(combo, days))

    names = "".join(
        f"&dimension{place}={dimension.value}"
        for place, dimension in enumerate(combo.dimensions, start=1)
    )
    assert server.control.calls()[-1].query == f"numOfDays={days}{names}"


@pytest.mark.parametrize("suffix", ["", "/", "//"])
def test_slashes_at_the_end_of_the_base_url_make_no_difference(
    server: EmulatorServer, suffix: str
) -> None:
    assert fetch(server.base_url + suffix).export.http_status == 200


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        (400, RequestRejected, "rejected the call's parameters"),
        (401, AuthenticationFailed, "wrong, has expired or was revoked"),
        (403, AuthenticationFailed, "may not export"),
        (404, RequestRejected, "unexpected status"),
        (410, RequestRejected, "unexpected status"),
        (201, RequestRejected, "unexpected status"),
        (429, RateLimited, "00:00 UTC"),
        (500, ServiceUnavailable, "the token is not to blame"),
        (502, ServiceUnavailable, "try again later"),
        (503, ServiceUnavailable, "try again later"),
        (504, ServiceUnavailable, "try again later"),
        (599, ServiceUnavailable, "try again later"),
    ],
)
@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        ("", "text/plain", "no text"),
        ("<html><h1>Sorry</h1></html>", "text/html", "an HTML page of 27 bytes"),
        ('{"message": "no"}', "application/json", "a JSON text of 17 bytes"),
        ('"Exceeded daily limit"', "application/json", "a JSON text of 22 bytes"),
        ("Exceeded daily limit", "text/plain; charset=utf-8", "a text of 20 bytes"),
    ],
)
def test_a_status_decides_the_class_whatever_the_body(
    server: EmulatorServer,
    status: int,
    expected: type[ExportError],
    words: str,
    body: str,
    content_type: str,
    kind: str,
) -> None:
    server.control.add_fault(
        Fault(status=status, body=body, headers={"Content-Type": content_type})
    )

    error = failure_of(lambda: fetch(server.base_url))

    assert type(error) is expected
    assert error.http_status == status
    assert words in str(error)
    assert f"HTTP {status}, {kind}" in str(error)
    assert "Sorry" not in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_the_token_does_not_follow_it(
    server: EmulatorServer, status: int
) -> None:
    target = f"{server.base_url}/project-live-insights?numOfDays=3"
    server.control.add_fault(Fault(status=status, headers={"Location": target}))

    error = failure_of(lambda: fetch(server.base_url))

    assert type(error) is RequestRejected
    assert "redirect" in str(error)
    assert [call.status for call in server.control.calls()] == [status]


def test_the_emulator_s_own_refusals_are_understood(server: EmulatorServer) -> None:
    expired = SecretStr(emulator_token(PROJECT.project_id, expires_at=NOW))
    assert type(failure_of(lambda: fetch(server.base_url, token=expired))) is AuthenticationFailed

    server.control.set_quota_used(PROJECT.project_id, used=10)
    assert type(failure_of(lambda: fetch(server.base_url))) is RateLimited

    server.control.set_outage(on=True)
    assert type(failure_of(lambda: fetch(server.base_url))) is ServiceUnavailable


@pytest.mark.parametrize("status", [400, 302, 404, 204])
def test_a_permanent_refusal_is_landed_before_it_is_raised(
    server: EmulatorServer, status: int
) -> None:
    body = "" if status == 204 else f"you sent Bearer {TOKEN.get_secret_value()}, really?"
    server.control.add_fault(Fault(status=status, body=body))
    landing = Landing()

    error = failure_of(lambda: fetch(server.base_url, on_reply=landing))

    assert type(error) is RequestRejected
    (export,) = landing.exports
    assert export.http_status == status
    assert export.body == (b"" if status == 204 else b"you sent Bearer ***, really?")


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_refusal_that_may_pass_is_not_landed(server: EmulatorServer, status: int) -> None:
    server.control.add_fault(Fault(status=status, body="later"))
    landing = Landing()

    failure_of(lambda: fetch(server.base_url, on_reply=landing))

    assert landing.exports == []


@pytest.mark.parametrize(
    "body",
    ["", "   ", "<html>maintenance</html>", '{"error": 1}', '"text"', "null", "[1]", '[{"a": 1}]'],
)
def test_a_200_that_is_no_export_is_landed_before_it_is_refused(
    server: EmulatorServer, body: str
) -> None:
    server.control.add_fault(Fault(body=body))
    landing = Landing()

    error = failure_of(lambda: fetch(server.base_url, on_reply=landing))

    assert type(error) is ReplyUnreadable
    assert [export.body for export in landing.exports] == [body.encode()]


def test_a_dimension_that_was_ignored_is_landed_and_refused(server: EmulatorServer) -> None:
    plain = fetch(server.base_url, ExportRequest(OVERVIEW)).export.body.decode()
    server.control.add_fault(Fault(body=plain))
    landing = Landing()

    error = failure_of(lambda: fetch(server.base_url, on_reply=landing))

    assert type(error) is DimensionIgnored
    assert [export.body for export in landing.exports] == [plain.encode()]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(pad_to_bytes=2_000_000, announce_length=False),
        Fault(body="[{" + " " * 100_000),
        Fault(body='[{"metricName": "Traffic", "information": [{"sessions": 1}]}]'),
    ],
)
def test_whoever_keeps_an_error_does_not_keep_the_reply(
    server: EmulatorServer, fault: Fault
) -> None:
    server.control.add_fault(fault)
    error = failure_of(lambda: fetch(server.base_url, max_reply_bytes=1_000_000))
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert frames[-1].f_code is ExportApiClient.fetch.__code__
    for frame in frames:
        for kept in frame.f_locals.values():
            assert not isinstance(kept, bytes | bytearray | list | Export), frame


class CommitFailed(Exception):
    """What a caller's database might raise."""


@pytest.mark.parametrize("fault", [None, Fault(body="garbage"), Fault(status=400)])
def test_what_on_reply_raises_comes_out_untouched(
    server: EmulatorServer, fault: Fault | None
) -> None:
    if fault is not None:
        server.control.add_fault(fault)
    failure = CommitFailed()

    async def landing(_: Export) -> None:
        raise failure

    with pytest.raises(CommitFailed) as caught:
        fetch(server.base_url, on_reply=landing)

    assert caught.value is failure
    assert caught.value.__context__ is None


def test_a_timeout_inside_on_reply_is_not_taken_for_clarity_s(server: EmulatorServer) -> None:
    async def landing(_: Export) -> None:
        raise TimeoutError("our database")

    with pytest.raises(TimeoutError, match="our database"):
        fetch(server.base_url, on_reply=landing)


def test_a_reply_that_does_not_start_is_timed_out(server: EmulatorServer) -> None:
    server.control.add_fault(Fault(delay_seconds=30))

    error = failure_of(lambda: fetch(server.base_url, timeouts=Timeouts(read_seconds=0.3)))

    assert type(error) is ReplyTimedOut
    assert "sent nothing for 0.3 s" in str(error)


def test_a_reply_that_drips_for_ever_is_cut_by_the_total_time(server: EmulatorServer) -> None:
    """Each piece comes in time, so no timeout of the HTTP library ever strikes."""
    server.control.add_fault(Fault(drip_bytes=10, drip_seconds=0.05))
    started = datetime.now(UTC)

    error = failure_of(
        lambda: fetch(server.base_url, timeouts=Timeouts(read_seconds=1, total_seconds=0.6))
    )

    assert type(error) is ReplyTimedOut
    assert "not complete within 0.6 s" in str(error)
    assert datetime.now(UTC) - started < timedelta(seconds=2)


def test_a_refusal_whose_body_drips_keeps_its_class(server: EmulatorServer) -> None:
    server.control.add_fault(Fault(status=401, body="x" * 10_000, drip_bytes=1))

    error = failure_of(lambda: fetch(server.base_url, timeouts=Timeouts(total_seconds=0.5)))

    assert type(error) is AuthenticationFailed


def test_a_refusal_whose_body_is_cut_off_keeps_its_class(server: EmulatorServer) -> None:
    server.control.add_fault(Fault(status=429, body="x" * 10_000, truncate_at_bytes=50))

    assert type(failure_of(lambda: fetch(server.base_url))) is RateLimited


def test_a_refusal_with_an_endless_body_is_read_only_so_far(server: EmulatorServer) -> None:
    server.control.add_fault(Fault(status=400, body="no", pad_to_bytes=8 << 20))
    landing = Landing()

    assert type(failure_of(lambda: fetch(server.base_url, on_reply=landing))) is RequestRejected
    assert len(landing.exports[0].body) == 1 << 20


@pytest.mark.parametrize("fault", [Fault(drop=True), Fault(truncate_at_bytes=200)])
def test_a_connection_that_ends_too_early_is_broken_and_nothing_is_landed(
    server: EmulatorServer, fault: Fault
) -> None:
    server.control.add_fault(fault)
    landing = Landing()

    error = failure_of(lambda: fetch(server.base_url, on_reply=landing))

    assert type(error) is ConnectionBroken
    assert "before the reply was complete" in str(error)
    assert landing.exports == []


@pytest.mark.parametrize(
    "base_url",
    [
        "http://127.0.0.1:1/export-data/api/v1",
        "https://clarity.invalid/export-data/api/v1",
        f"https://{'x' * 64}.invalid/export-data/api/v1",
    ],
)
def test_nobody_there_or_no_such_name_is_a_broken_connection(
    base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_proxies(monkeypatch)

    assert type(failure_of(lambda: fetch(base_url))) is ConnectionBroken


@pytest.mark.parametrize("announce_length", [True, False])
@pytest.mark.parametrize("compress", [True, False])
def test_a_reply_over_the_cap_is_not_read_to_its_end(
    server: EmulatorServer, *, announce_length: bool, compress: bool
) -> None:
    """64 MiB of blanks are 64 KiB of gzip: the cap is on what comes out."""
    server.control.add_fault(
        Fault(pad_to_bytes=64 << 20, announce_length=announce_length, compress=compress)
    )
    landing = Landing()

    error = failure_of(lambda: fetch(server.base_url, on_reply=landing, max_reply_bytes=1_000_000))

    assert type(error) is ReplyUnreadable
    assert "larger than 1,000,000 bytes" in str(error)
    assert landing.exports == []


def test_a_reply_of_exactly_the_cap_is_read(server: EmulatorServer) -> None:
    server.control.add_fault(Fault(pad_to_bytes=1_000_000, times=2))

    assert len(fetch(server.base_url, max_reply_bytes=1_000_000).export.body) == 1_000_000
    error = failure_of(lambda: fetch(server.base_url, max_reply_bytes=999_999))
    assert type(error) is ReplyUnreadable


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 30))
def test_large_replies_fit_into_their_memory_and_one_is_always_let_through(
    large_replies_bytes: int, max_reply_bytes: int
) -> None:
    count = large_replies_at_once(
        large_replies_bytes=large_replies_bytes, max_reply_bytes=max_reply_bytes
    )
    assert count == 1 or (count + 1) * max_reply_bytes > large_replies_bytes
    assert count == 1 or count * max_reply_bytes <= large_replies_bytes
    assert count >= 1


class Held(Landing):
    """Keeps every reply in memory, not yet landed, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()

    async def __call__(self, export: Export) -> None:
        await super().__call__(export)
        await self.let_go.wait()


def client_with_room_for(server: EmulatorServer, large: int, **settings: Any) -> ExportApiClient:
    return ExportApiClient(
        base_url=server.base_url,
        max_reply_bytes=3_000_000,
        small_reply_bytes=500_000,
        large_replies_bytes=large * 3_000_000,
        **settings,
    )


@pytest.mark.parametrize("compress", [True, False])
def test_large_replies_wait_for_memory_until_others_are_landed_and_small_ones_do_not(
    server: EmulatorServer, *, compress: bool
) -> None:
    server.control.add_fault(
        Fault(
            dimension_set=URL_DEVICE.dimension_set,
            pad_to_bytes=2_000_000,
            announce_length=False,
            compress=compress,
            times=5,
        )
    )

    async def go() -> list[FetchedExport]:
        landing = Held()
        async with client_with_room_for(server, 2) as client, asyncio.timeout(60):
            large = [
                asyncio.create_task(
                    client.fetch(REQUEST, TOKEN, clock=ticking_clock(), on_reply=landing)
                )
                for _ in range(5)
            ]
            while len(landing.exports) < 2:
                await asyncio.sleep(0.01)
            small = await client.fetch(ExportRequest(OVERVIEW), TOKEN, clock=ticking_clock())
            assert len(small.export.body) < 500_000
            # Long enough for the others, had they not been held back.
            await asyncio.sleep(0.3)
            assert len(landing.exports) == 2
            landing.let_go.set()
            return await asyncio.gather(*large)

    assert [len(each.export.body) for each in asyncio.run(go())] == [2_000_000] * 5


def test_a_reply_that_waits_for_memory_in_vain_is_not_called_a_slow_answer(
    server: EmulatorServer,
) -> None:
    server.control.add_fault(Fault(pad_to_bytes=2_000_000, times=3))
    timeouts = Timeouts(read_seconds=0.2, total_seconds=1)

    async def go() -> None:
        landing = Held()
        async with (
            client_with_room_for(server, 1, timeouts=timeouts) as client,
            asyncio.timeout(60),
        ):
            first = asyncio.create_task(
                client.fetch(REQUEST, TOKEN, clock=ticking_clock(), on_reply=landing)
            )
            while not landing.exports:
                await asyncio.sleep(0.01)
            with pytest.raises(ReplyTimedOut, match="wait for memory that other large ones held"):
                await client.fetch(REQUEST, TOKEN, clock=ticking_clock())
            landing.let_go.set()
            await first
            # Whoever waited in vain has taken nothing away.
            await client.fetch(REQUEST, TOKEN, clock=ticking_clock())

    asyncio.run(go())


@pytest.mark.parametrize(
    "fault", [Fault(body="[1]", pad_to_bytes=2_000_000), Fault(pad_to_bytes=9_000_000)]
)
def test_a_large_reply_that_is_refused_gives_its_memory_back(
    server: EmulatorServer, fault: Fault
) -> None:
    server.control.add_fault(fault)
    server.control.add_fault(Fault(pad_to_bytes=2_000_000))

    async def go() -> FetchedExport:
        async with client_with_room_for(server, 1) as client, asyncio.timeout(60):
            with pytest.raises(ReplyUnreadable):
                await client.fetch(REQUEST, TOKEN, clock=ticking_clock())
            return await client.fetch(REQUEST, TOKEN, clock=ticking_clock())

    assert len(asyncio.run(go()).export.body) == 2_000_000


def test_a_compressed_reply_is_kept_uncompressed(server: EmulatorServer) -> None:
    plain = fetch(server.base_url).export.body
    server.control.add_fault(Fault(compress=True, announce_length=False))

    assert fetch(server.base_url).export.body == plain


@pytest.mark.parametrize(
    ("token", "why"),
    [("", "empty"), ("abc def", "space"), ("abc\r\nX-Evil: 1", "newline"), ("tökén", "wide")],
)
def test_a_token_that_no_header_can_hold_is_refused_unsent_and_unquoted(
    server: EmulatorServer, token: str, why: str
) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        fetch(server.base_url, token=SecretStr(token))

    assert caught.value.http_status is None
    assert not token or token not in "".join(traceback.format_exception(caught.value)), why
    assert server.control.calls() == []


@pytest.mark.parametrize(
    "base_url",
    [
        "http://clarity.example/export-data/api/v1",
        "ftp://127.0.0.1/",
        "https://user:pass@clarity.example/",
        "https://clarity.example/api?x=1",
        "https://clarity.example/api#part",
        "https:///nothing",
        "nonsense",
        "https://[::1/",
        "https://clarity.example:port/",
    ],
)
def test_an_address_that_a_token_must_not_be_sent_to_is_refused_at_once(base_url: str) -> None:
    with pytest.raises(ConfigurationError):
        ExportApiClient(base_url=base_url)


def test_a_log_line_per_call_and_no_token_in_any_logger(
    server: EmulatorServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        fetch(server.base_url)
        server.control.add_fault(Fault(status=401, body=TOKEN.get_secret_value()))
        failure_of(lambda: fetch(server.base_url))
        server.control.add_fault(Fault(drop=True))
        failure_of(lambda: fetch(server.base_url))

    ours = [record for record in caplog.records if record.name == "clarity_pipeline.export_api"]
    assert [record.getMessage().split(",")[0].split(" after")[0] for record in ours] == [
        "call url_device days=1: HTTP 200",
        "call url_device days=1: HTTP 401",
        "call url_device days=1: connection_broken",
    ]
    assert len(caplog.records) > len(ours)
    assert TOKEN.get_secret_value() not in caplog.text


def test_a_client_does_not_show_tokens_it_has_sent(server: EmulatorServer) -> None:
    async def go() -> str:
        async with ExportApiClient(base_url=server.base_url) as client:
            fetched = await client.fetch(REQUEST, TOKEN, clock=ticking_clock())
            return repr(client) + repr(vars(client)) + repr(fetched)

    assert TOKEN.get_secret_value() not in asyncio.run(go())


def test_calls_share_a_pool_of_bounded_size(server: EmulatorServer) -> None:
    """16 calls, two at a time, 0.2 s each: the last waits longer for its turn than a call may take,
    and that wait is not part of its own time."""
    server.control.set_latency(seconds=0.2)
    projects = [
        EmulatedProject(f"shoppool{number}", seed=number, sessions_per_day=5, pages=3)
        for number in range(4)
    ]
    server.control.put_projects(projects)

    async def go() -> list[FetchedExport]:
        async with ExportApiClient(
            base_url=server.base_url, timeouts=Timeouts(total_seconds=1.2), max_connections=2
        ) as client:
            return await asyncio.gather(
                *(
                    client.fetch(
                        ExportRequest(OVERVIEW),
                        SecretStr(emulator_token(project.project_id)),
                        clock=lambda: datetime.now(UTC),
                    )
                    for project in projects
                    for _ in range(4)
                )
            )

    spans = [(each.export.requested_at, each.export.received_at) for each in asyncio.run(go())]

    most_at_once = max(
        sum(1 for start, end in spans if start <= moment < end) for moment, _ in spans
    )
    assert (len(spans), most_at_once) == (16, 2)
    assert max(end for _, end in spans) - min(start for start, _ in spans) > timedelta(seconds=1.2)


def test_a_cancelled_call_gives_its_place_back(server: EmulatorServer) -> None:
    server.control.add_fault(Fault(delay_seconds=30))

    async def go() -> FetchedExport:
        async with ExportApiClient(base_url=server.base_url, max_connections=1) as client:
            task = asyncio.create_task(client.fetch(REQUEST, TOKEN, clock=ticking_clock()))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await client.fetch(REQUEST, TOKEN, clock=ticking_clock())

    assert asyncio.run(go()).export.http_status == 200


# A server that sends whatever bytes a test wants, for what the emulator is too correct to do.

Answer = Callable[[bytes], bytes]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(
    answer: Answer, *, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """Answers each request head with `answer(head)`, then closes; yields its port and the heads."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        writer.write(answer(head))
        await writer.drain()
        writer.close()

    async with listening(handle, tls=tls) as port:
        yield port, heads


@asynccontextmanager
async def listening(handle: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
        try:
            await handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(tracked, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)


def http_reply(body: bytes, *, status: str = "200 OK", headers: Sequence[str] = ()) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def fetch_from_raw(answer: Answer, *, max_reply_bytes: int = 1_000_000) -> FetchedExport:
    async def go() -> FetchedExport:
        async with (
            raw_server(answer) as (port, _),
            ExportApiClient(
                base_url=f"http://127.0.0.1:{port}",
                max_reply_bytes=max_reply_bytes,
            ) as client,
        ):
            return await client.fetch(REQUEST, TOKEN, clock=ticking_clock())

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"", ConnectionBroken),
        (b"nonsense\r\n\r\n", ConnectionBroken),
        (b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\n", ConnectionBroken),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n[]", ConnectionBroken),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n[]", ConnectionBroken),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]", ConnectionBroken),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n", ConnectionBroken),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n[]", ReplyUnreadable),
        (http_reply(b"[]", headers=["Content-Encoding: br"]), ReplyUnreadable),
        (http_reply(b"no gzip", headers=["Content-Encoding: gzip"]), ReplyUnreadable),
        (
            http_reply(gzip.compress(b"[]", mtime=0)[:-9], headers=["Content-Encoding: gzip"]),
            ReplyUnreadable,
        ),
        (http_reply(b"\xff\xfe\x00"), ReplyUnreadable),
        (http_reply(b"[" * 100_000), ReplyUnreadable),
        (http_reply(b"", status="999 Odd"), ServiceUnavailable),
    ],
)
def test_malformed_http_becomes_an_error_of_ours(reply: bytes, expected: type[ExportError]) -> None:
    assert type(failure_of(lambda: fetch_from_raw(lambda _: reply))) is expected


def test_a_compressed_flood_is_unpacked_no_further_than_the_cap() -> None:
    """One received chunk of 64 KiB may hold 64 MiB: it must not be unpacked as a whole."""
    flood = http_reply(gzip.compress(bytes(64 << 20)), headers=["Content-Encoding: gzip"])
    tracemalloc.start()
    try:
        error = failure_of(lambda: fetch_from_raw(lambda _: flood, max_reply_bytes=1_000_000))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert type(error) is ReplyUnreadable
    assert peak_bytes < 16 << 20


def test_a_refusal_that_goes_on_and_on_is_not_waited_for() -> None:
    """More than a refusal can sensibly say has come, and the connection is left open."""

    async def go() -> RequestRejected:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: 99999999\r\n\r\n" + bytes(2 << 20))
            await reader.read()

        async with (
            listening(handle) as port,
            ExportApiClient(base_url=f"http://127.0.0.1:{port}") as client,
            asyncio.timeout(10),
        ):
            with pytest.raises(RequestRejected) as caught:
                await client.fetch(REQUEST, TOKEN, clock=ticking_clock())
            return caught.value

    assert asyncio.run(go()).http_status == 400


def test_gzip_in_several_members_is_one_body() -> None:
    packed = gzip.compress(b"[") + gzip.compress(b"]")

    fetched = fetch_from_raw(lambda _: http_reply(packed, headers=["Content-Encoding: gzip"]))

    assert fetched.export.body == b"[]"


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    assert fetch_from_raw(lambda _: b"HTTP/1.1 200 OK\r\n\r\n[]").export.body == b"[]"


@given(
    status=st.integers(200, 599),
    body=st.binary(max_size=400),
    content_type=st.sampled_from(["", "text/html", "application/json", "image/png", "x" * 300]),
    with_token=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_error_body_whatever_gets_past_the_classes(
    status: int, body: bytes, content_type: str, *, with_token: bool
) -> None:
    """Every status and any bytes: an ExportError in one sentence, without body and token."""
    body = body + TOKEN.get_secret_value().encode() if with_token else body
    reply = http_reply(
        b"" if status in {204, 304} else body,
        status=f"{status} X",
        headers=[f"Content-Type: {content_type}"],
    )

    if (status, body.strip()) == (200, b"[]"):
        return
    error = failure_of(lambda: fetch_from_raw(lambda _: reply))

    assert error.http_status == (None if status == 200 else status)
    assert "\n" not in str(error)
    assert len(str(error)) < 300


def test_a_cookie_set_for_one_business_is_not_sent_for_the_next() -> None:
    async def go() -> list[bytes]:
        def answer(_: bytes) -> bytes:
            return http_reply(b"[]", headers=["Set-Cookie: session=1; Path=/"])

        async with (
            raw_server(answer) as (port, heads),
            ExportApiClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            for _ in range(2):
                await client.fetch(REQUEST, TOKEN, clock=ticking_clock())
            return heads

    heads = asyncio.run(go())

    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_loopback_is_never_sent_to_a_proxy(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_proxies(monkeypatch)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert fetch(server.base_url).export.http_status == 200
    assert fetch(server.base_url.replace("127.0.0.1", "localhost")).export.http_status == 200


def test_a_proxy_that_refuses_is_a_broken_connection_and_never_sees_the_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def go() -> tuple[ExportError, list[bytes]]:
        async with raw_server(lambda _: http_reply(b"", status="403 No")) as (port, heads):
            monkeypatch.setenv("HTTPS_PROXY", f"http://someone:hunter2@127.0.0.1:{port}")
            async with ExportApiClient(base_url="https://clarity.example/api") as client:
                with pytest.raises(ConnectionBroken, match="proxy") as caught:
                    await client.fetch(REQUEST, TOKEN, clock=ticking_clock())
            return caught.value, heads

    without_proxies(monkeypatch)
    error, heads = asyncio.run(go())

    assert_no_token(error)
    assert "hunter2" not in "".join(traceback.format_exception(error))
    assert [head.split(b"\r\n")[0] for head in heads] == [b"CONNECT clarity.example:443 HTTP/1.1"]
    assert TOKEN.get_secret_value().encode() not in heads[0]


@pytest.mark.parametrize("proxy", ["gopher://proxy.example", "socks5://u:hunter2@127.0.0.1:1"])
def test_a_proxy_setting_that_cannot_be_used_is_said_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_proxies(monkeypatch)
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
        fetch("https://clarity.example/api")

    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a key and a certificate for clarity.example that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clarity.example")])
    alternatives: list[x509.GeneralName] = [
        x509.DNSName("clarity.example"),
        x509.IPAddress(IPv4Address("127.0.0.1")),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def fetch_through_proxy(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[FetchedExport, list[str], list[bytes]]:
    """Call https://clarity.example by way of a proxy that leads every tunnel to our TLS server."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tunnels: list[str] = []

    async with raw_server(lambda _: http_reply(b"[]"), tls=tls) as (tls_port, heads):

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tunnels.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0])
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", tls_port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pipe(reader, inner_writer), _pipe(inner_reader, writer))

        async with listening(tunnel) as proxy_port:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy_port}")
            async with ExportApiClient(base_url="https://clarity.example/api") as client:
                fetched = await client.fetch(REQUEST, TOKEN, clock=ticking_clock())
            return fetched, tunnels, heads


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()


def test_a_call_goes_through_the_proxy_of_the_environment_and_its_tls_holds(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_proxies(monkeypatch)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    fetched, tunnels, heads = asyncio.run(fetch_through_proxy(certificate, monkeypatch))

    assert fetched.export.body == b"[]"
    assert tunnels == ["CONNECT clarity.example:443 HTTP/1.1"]
    assert TOKEN.get_secret_value().encode() in heads[0]


def test_a_certificate_that_nobody_vouches_for_is_refused_before_the_token_is_sent(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_proxies(monkeypatch)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    error = failure_of(lambda: asyncio.run(fetch_through_proxy(certificate, monkeypatch)))

    assert type(error) is ConnectionBroken
    assert "certificate" in str(error)


def test_a_call_with_a_strange_dimension_combo_is_still_judged(server: EmulatorServer) -> None:
    combo = DimensionCombo((Dimension.SOURCE, Dimension.MEDIUM, Dimension.CAMPAIGN))
    blocks: list[dict[str, Any]] = json.loads(
        fetch(server.base_url, ExportRequest(combo)).export.body
    )

    assert list(blocks[0]["information"][0])[-3:] == ["Source", "Medium", "Campaign"]
