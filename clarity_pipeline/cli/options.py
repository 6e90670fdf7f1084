"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, also for errors.")]

BusinessId = Annotated[str, typer.Argument(metavar="ID", help="The business.")]
