"""Users, API keys and the audit log at the command line, and serving the panel."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager

import httpx
import pytest

from clarity_pipeline.cli.session import command_line_actor
from clarity_pipeline.domain.access import secret_hash
from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.panel.passwords import is_password
from clarity_pipeline.panel.serve import check_host, port_to_listen_on, proxies_to_trust
from clarity_pipeline.settings import Settings
from clarity_pipeline.store.api_keys import principal_of_key
from clarity_pipeline.store.panel_users import read_password_hash
from clarity_pipeline_tests.cli.conftest import Desk
from clarity_pipeline_tests.cli.test_entry_point import start
from clarity_pipeline_tests.factories import NOW

PASSWORD = "correct horse battery staple"
NEW = "seven quiet rivers at dawn"


def test_a_user_is_added_with_a_password_from_standard_input(desk: Desk) -> None:
    desk.succeed("init")
    desk.succeed("business", "add", "acme")
    desk.succeed("user", "add", "Ada@agency.example", "--role", "agency", stdin=f"{PASSWORD}\n")
    added = desk.succeed(
        "user", "add", "joe", "--role", "client", "--business", "acme", "--json", stdin=PASSWORD
    ).document
    assert (added["login"], added["role"], added["business_id"]) == ("joe", "client", "acme")
    listed = desk.succeed("user", "list", "--json").document["users"]
    assert [each["login"] for each in listed] == ["ada@agency.example", "joe"]
    assert "every business" in desk.succeed("user", "list").out
    with desk.open_database() as database:
        known = read_password_hash(database, "ada@agency.example")
    assert known is not None
    assert known[1].startswith("$argon2id$")
    assert is_password(PASSWORD, known[1])
    assert PASSWORD not in desk.printed
    assert "argon2" not in desk.printed


@pytest.mark.parametrize(
    ("arguments", "password", "code"),
    [
        (["joe", "--role", "client"], PASSWORD, "invalid_business_id"),
        (["joe", "--role", "agency", "--business", "acme"], PASSWORD, "invalid_business_id"),
        (["joe", "--role", "client", "--business", "nobody"], PASSWORD, "unknown_business"),
        (["no login", "--role", "agency"], PASSWORD, "invalid_login"),
        (["ada", "--role", "agency"], PASSWORD, "invalid_login"),
        (["joe", "--role", "agency"], "short", "invalid_password"),
        (["joe", "--role", "agency"], "x" * 300, "invalid_password"),
        (["joe", "--role", "agency"], "", "invalid_password"),
        (["joe", "--role", "king"], PASSWORD, "usage"),
    ],
)
def test_a_user_that_cannot_be_is_refused(
    desk: Desk, arguments: list[str], password: str, code: str
) -> None:
    desk.succeed("init")
    desk.succeed("business", "add", "acme")
    desk.succeed("user", "add", "ada", "--role", "agency", stdin=PASSWORD)
    ran = desk.run("user", "add", *arguments, "--json", stdin=password)
    assert (ran.code, ran.error["code"]) == (2, code)
    assert len(desk.succeed("user", "list", "--json").document["users"]) == 1


def test_a_new_password_and_the_end_of_access(desk: Desk) -> None:
    desk.succeed("init")
    desk.succeed("user", "add", "ada", "--role", "agency", stdin=PASSWORD)
    desk.succeed("user", "password", "ADA", stdin=NEW)
    with desk.open_database() as database:
        known = read_password_hash(database, "ada")
    assert known is not None
    assert is_password(NEW, known[1])
    ran = desk.succeed("user", "revoke", "ada")
    assert "cannot sign in any more" in ran.out
    assert "`clarity panel` prints a link" in ran.out
    assert desk.succeed("user", "revoke", "ada", "--json").document["changed"] is False
    assert "ended" in desk.succeed("user", "list").out
    assert desk.run("user", "revoke", "bob", "--json").error["code"] == "unknown_user"


def test_a_key_is_printed_once_and_kept_as_a_hash(desk: Desk) -> None:
    desk.succeed("init")
    desk.succeed("business", "add", "acme")
    printed = desk.succeed("api-key", "add", "nightly export", "--business", "acme").out
    secret = printed.splitlines()[-1]
    assert re.fullmatch(r"clarity_[\w-]{43}", secret)
    made = desk.succeed("api-key", "add", "loader", "--scope", "write", "--json").document
    assert (made["scope"], made["business_id"]) == ("write", None)
    listing = desk.succeed("api-key", "list").out
    document = desk.succeed("api-key", "list", "--json").document
    assert [each["name"] for each in document["api_keys"]] == ["loader", "nightly export"]
    for given in (secret, made["key"]):
        assert given not in listing + json.dumps(document)
        assert given[-4:] in listing
    with desk.open_database() as database:
        principal = principal_of_key(database, key_hash=secret_hash(secret), now=NOW)
        assert principal is not None
        assert (principal.business_id, principal.may_write) == ("acme", False)
        desk.succeed("api-key", "revoke", str(document["api_keys"][1]["id"]))
        assert principal_of_key(database, key_hash=secret_hash(secret), now=NOW) is None
    assert desk.run("api-key", "revoke", "99", "--json").error["code"] == "unknown_api_key"
    assert desk.run("api-key", "add", " ", "--json").error["code"] == "invalid_key_name"
    refused = desk.run("api-key", "add", "x", "--business", "nobody", "--json")
    assert refused.error["code"] == "unknown_business"


def test_what_changes_something_is_in_the_audit_log(desk: Desk) -> None:
    token = desk.connect("acme")
    desk.succeed("test", "acme")
    desk.succeed("disable", "acme")
    desk.succeed("disable", "acme")
    desk.succeed("enable", "acme")
    desk.succeed("disconnect", "acme")
    desk.succeed("disconnect", "acme")
    desk.succeed("user", "add", "joe", "--role", "client", "--business", "acme", stdin=PASSWORD)
    desk.succeed("user", "password", "joe", stdin=NEW)
    desk.succeed("user", "revoke", "joe")
    desk.succeed("user", "revoke", "joe")
    key = desk.succeed("api-key", "add", "loader", "--business", "acme", "--json").document
    desk.succeed("api-key", "revoke", str(key["id"]))
    desk.succeed("api-key", "revoke", str(key["id"]))
    entries = desk.succeed("audit", "--business", "acme", "--json").document["entries"]
    assert [entry["action"] for entry in reversed(entries)] == [
        "business_added",
        "connected",
        "tested",
        "disabled",
        "enabled",
        "disconnected",
        "user_added",
        "password_changed",
        "user_revoked",
        "key_added",
        "key_revoked",
    ]
    assert {entry["actor"] for entry in entries} == {command_line_actor()}
    written = json.dumps(entries) + desk.succeed("audit").out
    for secret in (token, PASSWORD, NEW, key["key"]):
        assert secret not in written
    assert "paused the sync" in written
    assert "There is no entry yet" in desk.succeed("audit", "--business", "bolt").out


def test_the_actor_is_the_user_of_the_process_whatever_variables_say(desk: Desk) -> None:
    actor = command_line_actor()
    for name in ("USER", "LOGNAME", "USERNAME"):
        desk.monkeypatch.setenv(name, "somebody-else")
    assert command_line_actor() == actor
    assert actor.startswith("command line: ")


@contextmanager
def served(desk: Desk, *arguments: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """The panel on a free port until the block ends, and what it printed when it was ready."""
    process = start(["panel", "--port", "0", *arguments], desk.directory)
    assert process.stdout is not None
    printed = process.stdout.readline()
    assert printed, process.communicate()
    try:
        yield process, printed
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


def test_the_first_start_prints_a_link_that_makes_the_first_user(desk: Desk) -> None:
    desk.succeed("init")
    with served(desk) as (process, printed):
        assert process.stdout is not None
        url = printed.split()[4].rstrip(";")
        process.stdout.readline()
        link = process.stdout.readline().strip()
        assert link.startswith(f"{url}/setup#")
        code = link.partition("#")[2]
        with httpx.Client(base_url=url, trust_env=False) as browser:
            page = browser.get("/setup")
            form = {"code": code, "login": "ada", "password": PASSWORD, "repeated": PASSWORD}
            made = browser.post("/setup", data=form)
            people = browser.get("/agency/people?secret=hunter2")
        assert (made.status_code, people.status_code) == (303, 200)
        assert "server" not in page.headers
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out.strip()) == (0, "The panel has ended.")
    assert '"GET /agency/people HTTP/1.1" 200' in err
    for secret in (code, PASSWORD, "hunter2"):
        assert secret not in err
    with served(desk) as (process, printed):
        url = printed.split()[4].rstrip(";")
        assert httpx.get(f"{url}/login", trust_env=False).status_code == 200
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert "setup" not in out


def test_a_taken_port_is_said(desk: Desk) -> None:
    desk.succeed("init")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = desk.run("panel", "--port", str(taken.getsockname()[1]))
    assert (ran.code, "choose another with --port" in ran.err) == (2, True)


def test_plain_http_is_for_this_machine_only(desk: Desk) -> None:
    ran = desk.run("panel", "--host", "0.0.0.0")
    assert ran.code == 2
    assert "passwords would cross the network" in ran.err
    check_host(Settings(panel_url="https://clarity.example"), "0.0.0.0")
    for host in ("127.0.0.1", "::1", "localhost"):
        check_host(Settings(), host)


def test_the_port_is_the_one_that_people_are_told() -> None:
    assert port_to_listen_on(Settings(), None) == 8300
    assert port_to_listen_on(Settings(), 9000) == 9000
    told = Settings(panel_url="http://127.0.0.1:9000")
    assert port_to_listen_on(told, None) == port_to_listen_on(told, 9000) == 9000
    with pytest.raises(ConfigurationError, match="port 9000, but --port says 8300"):
        port_to_listen_on(told, 8300)
    behind_a_proxy = Settings(panel_url="https://clarity.example")
    assert port_to_listen_on(behind_a_proxy, None) == 8300
    assert port_to_listen_on(behind_a_proxy, 9000) == 9000


def test_nobody_is_believed_about_addresses_unless_a_proxy_must_be() -> None:
    behind_a_proxy = Settings(panel_url="https://clarity.example")
    assert proxies_to_trust(Settings(), None) == []
    assert proxies_to_trust(behind_a_proxy, None) == ["127.0.0.1", "::1"]
    assert proxies_to_trust(behind_a_proxy, ["10.0.0.0/24"]) == ["10.0.0.0/24"]
    for nonsense in ("*", "proxy.example", "10.0.0.1/24", ""):
        with pytest.raises(ConfigurationError, match="no address or network"):
            proxies_to_trust(behind_a_proxy, [nonsense])


def test_only_a_trusted_proxy_says_where_a_request_comes_from(desk: Desk) -> None:
    desk.succeed("init")
    desk.succeed("user", "add", "ada", "--role", "agency", stdin=PASSWORD)
    headers = {"x-forwarded-for": "192.0.2.7"}
    for arguments, seen in (((), "127.0.0.1"), (("--trusted-proxy", "127.0.0.1"), "192.0.2.7")):
        with served(desk, *arguments) as (_, printed):
            form = {"login": "ada", "password": PASSWORD}
            url = f"{printed.split()[4].rstrip(';')}/login"
            assert httpx.post(url, data=form, headers=headers, trust_env=False).status_code == 303
        [entry] = desk.succeed("audit", "--limit", "1", "--json").document["entries"]
        assert (entry["action"], entry["remote_address"]) == ("signed_in", seen)
