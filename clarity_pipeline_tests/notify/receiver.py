"""A webhook that keeps what it is sent, on this machine, for notices to go to."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "hunter2secretpath"
"""Part of every address: whoever reads it could write into the chat."""


@dataclass
class Receiver:
    """What has arrived; `status` is what the webhook answers from now on."""

    port: int = 0
    status: int = 200
    arrived: list[dict[str, Any]] = field(default_factory=lambda: list[dict[str, Any]]())

    @property
    def url(self) -> str:
        return f"json://someone:{SECRET}@127.0.0.1:{self.port}/{SECRET}?format=text"

    @property
    def titles(self) -> list[str]:
        return [str(message["title"]) for message in self.arrived]


@contextmanager
def webhook() -> Generator[Receiver]:
    """A receiver that listens until the end of the block."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if receiver.status == 200:
                receiver.arrived.append(json.loads(body))
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
