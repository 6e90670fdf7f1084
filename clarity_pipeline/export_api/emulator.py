"""A local Clarity for everyone who has no token: the application, and ways to run it.

`run_emulator` serves until interrupted, `EmulatorServer` serves while a `with` block runs. What it
answers is in `emulator_app`, what can be set from outside in `emulator_control`.
"""

from __future__ import annotations

import asyncio
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.export_api.emulated_projects import (
    EmulatedProject,
    default_projects,
    emulator_token,
)
from clarity_pipeline.export_api.emulator_app import (
    BASE_PATH,
    CONNECTION_EXTENSION,
    ENDPOINT_PATH,
    Emulator,
    Fault,
    ReceivedCall,
    export_routes,
)
from clarity_pipeline.export_api.emulator_control import EmulatorControl, control_routes
from clarity_pipeline.settings import is_loopback

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Receive, Scope, Send

__all__ = [
    "EmulatedProject",
    "Emulator",
    "EmulatorControl",
    "EmulatorServer",
    "Fault",
    "ReceivedCall",
    "create_emulator",
    "default_projects",
    "emulator_token",
    "run_emulator",
]

_START_SECONDS: Final = 30
_STOP_SECONDS: Final = 10

_INDEX: Final = f"""This is a local emulator of the Microsoft Clarity Data Export API.
Its sites, visitors and figures are invented; nothing here comes from Microsoft.

GET {ENDPOINT_PATH}?numOfDays=1&dimension1=URL
    takes an Authorization header like the real one
GET /control
    shows clock, projects, quotas and faults; GET /control/calls shows the calls received
"""


def create_emulator(
    projects: Sequence[EmulatedProject] | None = None, *, emulator: Emulator | None = None
) -> Starlette:
    """The application for these projects (`default_projects()` when None), or for an `Emulator`
    that the caller keeps in hand."""
    served = emulator or Emulator(default_projects() if projects is None else projects)

    async def index(_: Request) -> Response:
        return PlainTextResponse(_INDEX)

    return Starlette(
        routes=[Route("/", index), *export_routes(served), *control_routes(served)],
    )


def run_emulator(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    projects: Sequence[EmulatedProject] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted; `on_ready` gets the base URL for `CLARITY_API_URL` (port 0 picks a
    free one). Raises ConfigurationError for an address that is not loopback, or is taken.
    """
    if not is_loopback(host):
        raise ConfigurationError(
            f"The emulator serves this machine only, not {host}: anybody who can reach it can "
            "control it."
        )
    listener = _listen(host, port)
    if on_ready is not None:
        on_ready(_base_url(listener))
    server = uvicorn.Server(_config(create_emulator(projects)))
    try:
        asyncio.run(server.serve(sockets=[listener]))
    except KeyboardInterrupt:
        return
    finally:
        listener.close()


class EmulatorServer:
    """An emulator on a free loopback port while the `with` block runs.

    In this process it is a thread, and `emulator` is its state; with `separate_process` it has an
    interpreter of its own, for measurements that must not share one. `control` works with both.
    """

    def __init__(
        self, projects: Sequence[EmulatedProject] = (), *, separate_process: bool = False
    ) -> None:
        self._projects = tuple(projects)
        self._backend = _ProcessBackend() if separate_process else _ThreadBackend()
        self._control: EmulatorControl | None = None
        self._base_url = ""

    def __enter__(self) -> Self:
        self._base_url = self._backend.start()
        self._control = EmulatorControl(self.root_url)
        try:
            self._control.put_projects(self._projects)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        self._backend.stop()

    @property
    def base_url(self) -> str:
        """What `CLARITY_API_URL` has to be."""
        return self._base_url

    @property
    def root_url(self) -> str:
        return self._base_url.removesuffix(BASE_PATH)

    @property
    def control(self) -> EmulatorControl:
        if self._control is None:
            raise RuntimeError("The emulator is not running.")
        return self._control

    @property
    def emulator(self) -> Emulator:
        """The state itself, for the ground truth; only there without `separate_process`."""
        if isinstance(self._backend, _ThreadBackend):
            return self._backend.emulator
        raise RuntimeError("The emulator runs in another process; use `control`.")


class _ThreadBackend:
    def __init__(self) -> None:
        self.emulator = Emulator()
        self._server = uvicorn.Server(_config(create_emulator(emulator=self.emulator)))
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        listener = _listen("127.0.0.1", 0)
        base_url = _base_url(listener)
        self._thread = threading.Thread(
            target=self._serve, args=(listener,), name="clarity-emulator", daemon=True
        )
        self._thread.start()
        return base_url

    def stop(self) -> None:
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_SECONDS)

    def _serve(self, listener: socket.socket) -> None:
        with listener:
            asyncio.run(self._server.serve(sockets=[listener]))


class _ProcessBackend:
    """The child ends when its standard input does, so it cannot outlive its parent."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "clarity_pipeline.export_api.emulator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        output = self._process.stdout
        if output is None or not select.select([output], [], [], _START_SECONDS)[0]:
            self.stop()
            raise RuntimeError("The emulator's process did not start.")
        return output.readline().strip()

    def stop(self) -> None:
        process = self._process
        if process is None:
            return
        with process:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


class _DroppableConnection(H11Protocol):
    """Hands each connection's transport to the application, which may have to drop it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        served = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            extensions = scope.setdefault("extensions", {})
            extensions[CONNECTION_EXTENSION] = {
                "close": transport.close,
                "abort": transport.abort,
            }
            await served(scope, receive, send)

        self.app = app


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_DroppableConnection,
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; 40 ms per reply with it.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"The emulator cannot listen on {host} port {port}: {error}; choose another port."
        ) from None
    return listener


def _base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{BASE_PATH}"


def _serve_until_stdin_ends() -> None:
    """The child's side of `_ProcessBackend`: the first line written is the base URL."""
    listener = _listen("127.0.0.1", 0)
    server = uvicorn.Server(_config(create_emulator(())))

    def stop_with_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    sys.stdout.write(f"{_base_url(listener)}\n")
    sys.stdout.flush()
    with listener:
        asyncio.run(server.serve(sockets=[listener]))


if __name__ == "__main__":
    _serve_until_stdin_ends()
