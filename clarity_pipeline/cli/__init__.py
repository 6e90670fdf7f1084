"""The `clarity` command: reads arguments, calls `operations` and the store, prints what came of it.

Exit codes: 0 done, 1 something failed (said which), 2 wrong usage or input, 3 refused by the
quota, 4 authentication failed, 130 stopped by Ctrl-C. Modules here import Dagster, pandas and the
database inside the commands that need them, so that `clarity --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from clarity_pipeline.cli import (
    ads,
    api_keys,
    audit,
    businesses,
    connections,
    days,
    demo,
    emulator,
    figures,
    history,
    notices,
    panel,
    purge,
    retention,
    rule_actions,
    rule_trials,
    rules,
    upkeep,
    users,
)
from clarity_pipeline.cli.output import complain, complain_as_json, remark
from clarity_pipeline.domain.errors import BadRow, ClarityError, InvalidConnectionList

STOPPED: Final = 130

app = typer.Typer(
    name="clarity",
    help="Daily Microsoft Clarity data for every client, kept and ready for rules.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    upkeep,
    businesses,
    connections,
    days,
    history,
    figures,
    rules,
    ads,
    notices,
    retention,
    panel,
    users,
    api_keys,
    audit,
    purge,
    emulator,
    demo,
):
    module.register(app)
for part in (rule_trials, rule_actions):
    part.register(rules.rules_app)


@app.callback()
def common_options(
    *,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show log lines, and the traceback of an error.")
    ] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if debug else logging.CRITICAL,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never raises, never shows a traceback unasked."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = app(args=given, prog_name="clarity", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_has_gone()
    except (KeyboardInterrupt, typer.Abort):
        result = STOPPED
    except typer.TyperException as error:
        return _report_usage(error, given)
    except ClarityError as error:
        return _report(error, given)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a sentence, no traceback
        return _report_bug(error, given)
    if result == STOPPED:
        remark("Stopped.")
    return result if isinstance(result, int) else 0


def _report(error: ClarityError, given: Sequence[str]) -> int:
    if "--debug" in given:
        traceback.print_exception(error)
    bad_rows = error.bad_rows if isinstance(error, InvalidConnectionList) else ()
    _complain(given, code=error.code, message=str(error), bad_rows=bad_rows)
    return error.exit_code


def _report_usage(error: typer.TyperException, given: Sequence[str]) -> int:
    message = error.format_message()
    if message:
        _complain(given, code="usage", message=f"{message.rstrip('.')}; see `clarity --help`.")
    return error.exit_code


def _report_bug(error: Exception, given: Sequence[str]) -> int:
    # The text of an exception nobody expected may quote anything, a token included.
    if "--debug" in given:
        traceback.print_exception(error)
    _complain(
        given,
        code="bug",
        message=(
            f"clarity came upon a {type(error).__name__} that it did not expect; run it as "
            "`clarity --debug ...` to see where, and report that."
        ),
    )
    return 1


def _complain(
    given: Sequence[str], *, code: str, message: str, bad_rows: Sequence[BadRow] = ()
) -> None:
    if "--json" in given:
        rows = {"rows": [asdict(row) for row in bad_rows]} if bad_rows else {}
        complain_as_json(code=code, message=message, **rows)
        return
    for row in bad_rows:
        remark(f"Line {row.line}: {row.reason}")
    complain(message)


def _reader_has_gone() -> int:
    """Whoever read our output wants no more; Python would complain when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
