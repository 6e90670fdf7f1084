"""Disks that are full for PostgreSQL: a small file system, and the device that never has room.

The kernel says that there is no space left, and the server passes it on (53100). A file system can
be mounted by few; a device can take the place of a table's file wherever the tests run.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from clarity_pipeline_tests.conftest import PostgresServer

MEBIBYTE = 2**20
FILE_SYSTEM_MEBIBYTES = 48
"""A migrated database takes ten of them."""

FULL_DEVICE = Path("/dev/full")

_CAP_SYS_ADMIN = 21


def may_mount() -> bool:
    """Whether this process may mount file systems; in most containers not even root may."""
    with suppress(FileNotFoundError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


@dataclass(frozen=True, slots=True)
class FillingDisk:
    """A migrated database on a disk that can be filled, and emptied again."""

    database_url: str
    fill: Callable[[], None]
    make_room: Callable[[], None]


@contextmanager
def small_file_system(server: PostgresServer, *, template: str) -> Generator[FillingDisk]:
    """A tablespace on a tmpfs, which can be filled to the last byte."""
    directory = Path(tempfile.mkdtemp(prefix="clarity-small-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={FILE_SYSTEM_MEBIBYTES}m", "tmpfs", directory],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        directory.rmdir()
        pytest.fail(
            "This process has CAP_SYS_ADMIN, and yet may not mount a tmpfs; allow it, or run the "
            f"tests without the capability: {mounted.stderr}"
        )
    try:
        directory.chmod(0o755)
        tablespace = directory / "tablespace"
        tablespace.mkdir()
        shutil.chown(tablespace, server.directory.stat().st_uid)
        with server.tablespace(tablespace) as name:
            database = server.create(template=template, tablespace=name)
            ballast = directory / "ballast"
            try:
                yield FillingDisk(
                    server.url(database), lambda: _take_all_room(ballast), ballast.unlink
                )
            finally:
                ballast.unlink(missing_ok=True)
                server.drop(database)
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
        directory.rmdir()


def _take_all_room(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (MEBIBYTE, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    assert shutil.disk_usage(ballast.parent).free == 0


@contextmanager
def full_device(server: PostgresServer, *, template: str, table: str) -> Generator[FillingDisk]:
    """A database where the full device can take the place of the file of an empty table.

    Connections that have used the table by then keep its file, and have room. Rows must come one
    at a time: for the many of a COPY the server uses a call that devices do not know.
    """
    database = server.create(template=template)
    with psycopg.connect(server.url(database)) as connection:
        row = connection.execute(
            "SELECT pg_relation_filepath(%(table)s), pg_relation_size(%(table)s)", {"table": table}
        ).fetchone()
    assert row is not None
    assert row[1] == 0, "rows would disappear with their file"
    file = server.directory / row[0]
    kept = file.with_name(f"{file.name}.kept")

    def fill() -> None:
        file.rename(kept)
        file.symlink_to(FULL_DEVICE)

    def make_room() -> None:
        kept.replace(file)

    try:
        yield FillingDisk(server.url(database), fill, make_room)
    finally:
        # A test that failed in between must not leave the server with a file it cannot sync.
        if kept.exists():
            make_room()
        server.drop(database)
