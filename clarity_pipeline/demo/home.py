"""The demo's own directory: everything it makes is in there, and nothing of the user's is."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.settings import Settings, load_settings

MARKER: Final = "MADE_BY_CLARITY_DEMO"
"""The file that says that a directory may be deleted."""


def demo_directory(settings: Settings) -> Path:
    """Where the demo lives, beside the user's own data.

    Somebody who has pointed CLARITY_HOME at a demo, to look at it, means that one.
    """
    home = settings.home.resolve()
    return home if (home / MARKER).is_file() else home / "demo"


def has_demo_data(directory: Path) -> bool:
    """Whether an earlier demo was played to its end there."""
    return (directory / MARKER).is_file() and (directory / MARKER).read_text() == _COMPLETE


def mark_complete(directory: Path) -> None:
    (directory / MARKER).write_text(_COMPLETE)


def make_anew(directory: Path) -> None:
    """An empty directory. Raises ConfigurationError rather than delete what is not the demo's."""
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARKER).is_file():
            raise ConfigurationError(
                f"{directory} holds something that the demo has not made; move it away, or set "
                "CLARITY_HOME to another directory."
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARKER).write_text("")


@contextmanager
def claimed(directory: Path) -> Generator[None]:
    """Keep other demos out of this directory. Raises ConfigurationError when one is in it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f"{directory.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another `clarity demo` or `clarity dev` is at work in {directory}; end it first."
            ) from None
        yield


@contextmanager
def environment(
    directory: Path, *, api_url: str, meta_api_url: str | None = None
) -> Generator[Settings]:
    """The process's environment as the demo needs it, and its settings; put back at the end.

    Every other variable of the project is taken away: the demo must not touch a configured
    database, nor read the user's keys.
    """
    before = dict(os.environ)
    for name in before:
        if name.startswith(("CLARITY_", "DAGSTER_")):
            del os.environ[name]
    os.environ["CLARITY_HOME"] = str(directory)
    os.environ["CLARITY_API_URL"] = api_url
    if meta_api_url is not None:
        os.environ["CLARITY_META_API_URL"] = meta_api_url
    os.environ["DAGSTER_HOME"] = str(directory / "dagster")
    try:
        yield load_settings()
    finally:
        os.environ.clear()
        os.environ.update(before)


_COMPLETE: Final = "complete\n"
