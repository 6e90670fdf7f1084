"""`clarity dev` without the display: Dagster's UI and the panel over the demo's data.

Dagster is started by `dg dev` in a process group of its own: a Ctrl-C on the terminal reaches
this process alone, which then ends the others in order, by force if need be.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from types import FrameType
from typing import Final

from clarity_pipeline.ad_platforms.meta_stand_in import MetaStandIn, MetaStandInServer
from clarity_pipeline.demo.ads import import_ads, make_meta
from clarity_pipeline.demo.clients import NEWCOMER, PROJECTS
from clarity_pipeline.demo.history import Timeline, Watch, connect_client, set_up, spend_quotas
from clarity_pipeline.demo.home import claimed, demo_directory, environment, has_demo_data
from clarity_pipeline.demo.play import play_into
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.errors import ClarityError, ConfigurationError
from clarity_pipeline.export_api.emulator import EmulatorServer
from clarity_pipeline.operations.access import make_setup_code
from clarity_pipeline.panel.serve import open_panel
from clarity_pipeline.settings import Settings, load_settings
from clarity_pipeline.store.businesses import list_businesses
from clarity_pipeline.store.database import Database

HOST: Final = "127.0.0.1"
FIRST_UI_PORT: Final = 3000
FIRST_PANEL_PORT: Final = 8300
PORTS_TO_TRY: Final = 100

READY_WITHIN_SECONDS: Final = 120.0
LOOK_EVERY_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 20.0
"""For Dagster to end its webserver, daemon and code server by itself."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What is being served, and where; the link makes the panel's first user, if it has none."""

    ui_url: str
    panel_url: str
    setup_link: str | None
    emulator_url: str
    meta_url: str
    directory: Path
    newcomer: str
    yesterday: date


class DagsterEnded(ClarityError):
    """The UI ended without being asked to."""

    code = "dagster_ended"


def serve_demo(
    *,
    clock: Callable[[], datetime],
    port: int | None,
    fresh: bool,
    watch: Watch,
    on_ready: Callable[[Serving], None],
) -> None:
    """Serve until interrupted (SIGINT or SIGTERM), then end every process that was started.

    Raises ConfigurationError when the port or the demo's directory is taken, and DagsterEnded when
    the UI does not start or stops by itself.
    """
    directory = demo_directory(load_settings())
    now = clock()
    ui_port = _choose_port(port, first=FIRST_UI_PORT)
    with claimed(directory):
        if fresh or not has_demo_data(directory):
            play_into(directory, now=now, watch=watch)
        with (
            EmulatorServer(PROJECTS) as server,
            MetaStandInServer(make_meta()) as meta,
            environment(directory, api_url=server.base_url, meta_api_url=meta.base_url) as settings,
            ExitStack() as running,
        ):
            _prepare(settings, server, meta.stand_in, now=now)
            panel_url, setup_link = running.enter_context(_panel(settings, clock=clock))
            serving = Serving(
                ui_url=f"http://{HOST}:{ui_port}",
                panel_url=panel_url,
                setup_link=setup_link,
                emulator_url=server.root_url,
                meta_url=meta.root_url,
                directory=directory,
                newcomer=NEWCOMER.business_id,
                yesterday=day_collected_at(now),
            )
            with _signals_handled(_interrupt), _dagster(directory, ui_port) as process:
                try:
                    _wait_until_ready(process, ui_port)
                    on_ready(serving)
                    process.wait()
                except KeyboardInterrupt:
                    return
                raise DagsterEnded(
                    f"Dagster ended by itself (code {process.returncode}); what it said is above."
                )


def _prepare(
    settings: Settings, server: EmulatorServer, meta: MetaStandIn, *, now: datetime
) -> None:
    """Real time, today's quotas as in the demo, somebody whose yesterday is not in yet, and ads."""
    timeline = Timeline.ending_now(now)
    spend_quotas(server, timeline.midnight.date())
    vault = set_up(settings)
    with Database.open(settings.database_url_or_default) as database:
        known = {business.id for business in list_businesses(database)}
        if NEWCOMER.business_id not in known:
            connect_client(database, vault, NEWCOMER, midnight=timeline.midnight, now=now)
        import_ads(database, vault, server.emulator, meta, now=now)


@contextmanager
def _panel(
    settings: Settings, *, clock: Callable[[], datetime]
) -> Generator[tuple[str, str | None]]:
    """The panel in another thread: its address, and the link that makes its first user."""
    port = _choose_port(None, first=FIRST_PANEL_PORT)
    with (
        Database.open(settings.database_url_or_default) as database,
        open_panel(
            settings, database, host=HOST, port=port, trusted_proxies=None, clock=clock
        ) as serving,
    ):
        code = make_setup_code(database, now=clock())
        thread = threading.Thread(target=serving.run)
        thread.start()
        try:
            yield serving.url, f"{serving.url}/setup#{code}" if code else None
        finally:
            serving.server.should_exit = True
            thread.join()


def _choose_port(wanted: int | None, *, first: int) -> int:
    """The port asked for, or the first free one. Raises ConfigurationError."""
    candidates = [wanted] if wanted else range(first, first + PORTS_TO_TRY)
    for port in candidates:
        with socket.socket() as probe, suppress(OSError):
            # As the webserver does; without it a port in TIME_WAIT would look taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise ConfigurationError(
        f"Port {wanted} is taken; choose another with --port."
        if wanted
        else f"None of the {PORTS_TO_TRY} ports from {first} on is free."
    )


@contextmanager
def _dagster(directory: Path, port: int) -> Generator[subprocess.Popen[bytes]]:
    """`dg dev` on the demo's definitions, with everything it starts ended afterwards."""
    command = [
        sys.executable,
        *("-c", "from dagster_dg_cli.cli import main; main()"),
        *("dev", "--host", HOST, "--port", str(port)),
        *("--module-name", "clarity_pipeline.demo.definitions"),
        *("--log-level", "warning", "--code-server-log-level", "error"),
    ]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own arguments
        command, cwd=directory, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    # A second, impatient Ctrl-C must not leave half of the processes behind.
    with _signals_handled(_ignore):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_SECONDS)
        # Whoever is left of the group: a run in progress, or Dagster itself when it hangs.
        for how in (signal.SIGTERM, signal.SIGKILL):
            if not _signal_group(process.pid, how):
                break
            _wait_for_group(process, PATIENCE_SECONDS / 4)
        process.wait()


def _signal_group(group: int, how: signal.Signals | int) -> bool:
    """Signal every process of the group; False when there is none any more."""
    try:
        os.killpg(group, how)
    except ProcessLookupError:
        return False
    return True


def _wait_for_group(process: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # A leader that has ended counts as there until it is waited for.
        process.poll()
        if not _signal_group(process.pid, 0):
            return
        time.sleep(LOOK_EVERY_SECONDS)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while process.poll() is None:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise DagsterEnded(
                f"The Dagster UI did not answer on port {port} within "
                f"{READY_WITHIN_SECONDS:.0f} s; what it said is above."
            )
        time.sleep(LOOK_EVERY_SECONDS)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Unlike SIG_IGN, not inherited by children."""


@contextmanager
def _signals_handled(handler: Callable[[int, FrameType | None], None]) -> Generator[None]:
    """SIGINT and SIGTERM both go to this handler while the block runs.

    SIGINT too: a shell starts background jobs with it ignored, and children inherit that.
    """
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
