"""`clarity rules preview|backtest|explain`: what a rule would say, would have said, or has said."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clarity_pipeline.cli.options import AsJson
from clarity_pipeline.cli.output import cell, console, print_json, say, table
from clarity_pipeline.cli.session import open_session, utc_now

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from clarity_pipeline.domain.rules.backtest import Backtest, BacktestDay, BacktestEntity
    from clarity_pipeline.domain.rules.decisions import Decision, Finding, Reason
    from clarity_pipeline.domain.rules.model import Rule
    from clarity_pipeline.operations.rule_evaluation import Preview
    from clarity_pipeline.store.database import Database
    from clarity_pipeline.store.rule_evaluations import StoredDecision

RuleOrFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME", help="A YAML or JSON file with one rule, or a rule that is stored."
    ),
]
Businesses = Annotated[
    list[str] | None,
    typer.Option("--business", metavar="ID", help="Only this business; may be repeated."),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Most entities to print.")]

_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})

DAYS_ON_A_LINE: Final = 56
"""Eight weeks, so that a weekday is in the same column of every line."""

_BARS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_BARS: Final = "12345678"
"""For an output that cannot say the others."""

NOBODY, UNKNOWN, NO_HISTORY = ".", "?", "x"


def register(rules_app: typer.Typer) -> None:
    for command in (preview, backtest, explain):
        rules_app.command()(command)


def preview(
    rule: RuleOrFile,
    businesses: Businesses = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="YYYY-MM-DD", help="A UTC day that is over; yesterday."),
    ] = None,
    limit: Limit = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """Say what a rule would decide now, and why. Nothing is stored or done."""
    from clarity_pipeline.domain.days import check_day_is_over, day_collected_at, parse_day
    from clarity_pipeline.operations.rule_evaluation import preview as preview_rule

    now = utc_now()
    day = day_collected_at(now) if as_of is None else parse_day(as_of)
    check_day_is_over(day, now=now)
    with open_session() as session:
        tried = _read_rule(session.database, rule)
        found = preview_rule(
            session.database, tried, as_of=day, business_ids=businesses or None, limit=limit
        )
    if as_json:
        print_json(_preview_document(tried, found))
    else:
        _print_preview(tried, found)


def backtest(
    rule: RuleOrFile,
    start: Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", help="First UTC day.")],
    end: Annotated[str, typer.Option("--to", metavar="YYYY-MM-DD", help="Last UTC day.")],
    businesses: Businesses = None,
    limit: Limit = 20,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", help="Write when it fired for what to a file, all of it."
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Replay a rule over stored days, each as it was known then. Nothing is stored or done."""
    from clarity_pipeline.domain.days import parse_day
    from clarity_pipeline.operations.rule_backtest import backtest_rule

    first, last = parse_day(start), parse_day(end)
    with open_session() as session:
        found = backtest_rule(
            session.database,
            _read_rule(session.database, rule),
            start=first,
            end=last,
            now=utc_now(),
            business_ids=businesses or None,
        )
    if csv is not None:
        _write_csv(found, csv)
    if as_json:
        print_json(_backtest_document(found))
    else:
        _print_backtest(found, limit=limit)


def explain(
    decision: Annotated[
        str, typer.Argument(metavar="DECISION", help="Its address, such as 1234-17.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Say why a rule fired for an entity, did not, or could not say, by what it stood on."""
    from clarity_pipeline.store.rule_evaluations import read_decision

    with open_session() as session:
        stored = read_decision(session.database, decision)
    if as_json:
        print_json(_stored_document(stored))
    else:
        _print_stored(stored)


def _read_rule(database: Database, given: str) -> Rule:
    """The rule of a file, or the stored one of that name."""
    from clarity_pipeline.store.rules import find_rule

    path = Path(given)
    if given == "-" or path.suffix in _SUFFIXES or path.is_file():
        return _rule_of_file(path)
    return find_rule(database, given).rule


def _rule_of_file(path: Path) -> Rule:
    from clarity_pipeline.domain.errors import InputError, InvalidRule
    from clarity_pipeline.domain.rules.yaml_documents import MAX_FILE_BYTES, read_rules

    try:
        if str(path) == "-":
            documents = read_rules(sys.stdin.read(MAX_FILE_BYTES + 1), source="-")
        else:
            with path.open("rb") as file:
                documents = read_rules(file.read(MAX_FILE_BYTES + 1), source=str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None
    if len(documents) > 1:
        raise InvalidRule(
            f"{path} has {len(documents)} rules, and one is tried at a time; give it a file of its "
            "own."
        )
    (document,) = documents
    if document.rule is None:
        assert document.error is not None, "what is no rule has an error"
        raise document.error
    return document.rule


# A preview


def _print_preview(rule: Rule, found: Preview) -> None:
    say(
        f"{rule.name}, as of {found.as_of} (UTC): of {found.entities:,} entities it fires for "
        f"{found.fired:,}, not for {found.not_fired:,}, and cannot decide about {found.unknown:,}."
    )
    if found.reasons:
        say(f"Unknown: {_reason_words(found.reasons)}.")
    if not found.decisions:
        return
    listing = table(
        f"{len(found.decisions):,} of {found.entities:,} decisions, those that fire first",
        ("", "entity", "business", "why"),
    )
    for each in found.decisions:
        word, tone = _ANSWERS[each.truth.name]
        listing.add_row(
            cell(word, tone),
            cell(each.entity_name or each.entity_id),
            cell(each.business_id),
            cell(_sentence(each)),
        )
    console().print(listing)


_ANSWERS: Final = {
    "TRUE": ("fires", "good"),
    "FALSE": ("does not", "quiet"),
    "UNKNOWN": ("unknown", "warn"),
}


def _preview_document(rule: Rule, found: Preview) -> dict[str, object]:
    return {
        "rule": rule.name,
        "as_of": found.as_of,
        "entities": found.entities,
        "fired": found.fired,
        "not_fired": found.not_fired,
        "unknown": found.unknown,
        "reasons": found.reasons,
        "decisions": [_decision_document(each) for each in found.decisions],
    }


# A backtest


def _print_backtest(found: Backtest, *, limit: int) -> None:
    console().print(_summary(found))
    _print_strip(found.days)
    if found.fired:
        console().print(_fired_table(found.fired, limit=limit))
    if found.reasons:
        say(f"Unknown: {_reason_words(found.reasons)}.")
    for note in found.notes:
        say(note)


def _summary(found: Backtest) -> Table:
    listing = table(
        f"{found.rule_name}, as of {found.start} to {found.end} (UTC)", ("", ""), numbers_from=1
    )
    listing.show_header = False
    level = found.level.value.replace("_", " ")
    days = len(found.days)
    answers = max(days * found.entities, 1)
    unknown = sum(day.unknown for day in found.days)
    for name, value in (
        (f"entities ({level}) it looked at", cell(found.entities)),
        ("of which it would have fired for", cell(len(found.fired))),
        ("days on which it would have fired", cell(f"{found.days_fired:,} of {days:,}")),
        ("times it would have acted on one, under its cool-down", cell(found.actions)),
        ("entities it came and went for within days", _count(found.flapping)),
        (
            "days on which it would have been switched off",
            _count(sum(day.trips_breaker for day in found.days)),
        ),
        ("of all answers unknown", cell(f"{unknown / answers:.0%}")),
    ):
        listing.add_row(name, value)
    return listing


def _count(number: int) -> Text:
    return cell(number, "warn" if number else "")


def _print_strip(days: Sequence[BacktestDay]) -> None:
    most = max(day.fired for day in days)
    bars = _bars()
    listing = table("Entities it would have fired for, by day", ("from", "", "to"))
    for line in _lines(days):
        listing.add_row(
            cell(line[0].day),
            "".join(_symbol(day, most=most, bars=bars) for day in line),
            cell(line[-1].day),
        )
    console().print(listing)
    said = [f"{bars[-1]} {most:,}, the most there were"] if most else []
    seen = {_symbol(day, most=most, bars=bars) for day in days}
    words = {NOBODY: "nothing fired", UNKNOWN: "all unknown", NO_HISTORY: "no history"}
    said += [f"{symbol} {word}" for symbol, word in words.items() if symbol in seen]
    say("  ".join(said))


def _lines(days: Sequence[BacktestDay]) -> Iterator[Sequence[BacktestDay]]:
    for first in range(0, len(days), DAYS_ON_A_LINE):
        yield days[first : first + DAYS_ON_A_LINE]


def _bars() -> str:
    try:
        _BARS.encode(console().encoding)
    except UnicodeEncodeError:
        return _PLAIN_BARS
    return _BARS


def _symbol(day: BacktestDay, *, most: int, bars: str) -> str:
    if day.fired:
        return bars[-(-day.fired * len(bars) // most) - 1]
    if not day.has_history:
        return NO_HISTORY
    return UNKNOWN if day.unknown and not day.not_fired else NOBODY


def _fired_table(fired: Sequence[BacktestEntity], *, limit: int) -> Table:
    shown_of = f"{min(limit, len(fired)):,} of {len(fired):,}"
    listing = table(
        f"What it would have fired for, most days first ({shown_of})",
        ("entity", "business", "days", "times", "first", "last", "turns", "quick", "actions"),
    )
    for column in (2, 3, 6, 7, 8):
        listing.columns[column].justify = "right"
    for each in fired[:limit]:
        listing.add_row(
            cell(each.entity_name or each.entity_id),
            cell(each.business_id),
            cell(each.days_fired),
            cell(len(each.episodes)),
            cell(each.episodes[0].first_day),
            cell(each.episodes[-1].last_day),
            cell(each.changes),
            cell(each.quick_changes, "warn" if each.flaps else ""),
            cell(each.actions),
        )
    return listing


def _write_csv(found: Backtest, path: Path) -> None:
    """A row per episode: what it fired for, from when to when."""
    from clarity_pipeline.domain.errors import InputError
    from clarity_pipeline.domain.spreadsheets import csv_text

    columns = (
        *("entity_id", "entity_name", "business_id"),
        *("first_day", "last_day", "days_fired", "is_over"),
    )
    rows = [
        (
            *(each.entity_id, each.entity_name, each.business_id),
            *(episode.first_day, episode.last_day, episode.days_fired, episode.is_over),
        )
        for each in found.fired
        for episode in each.episodes
    ]
    try:
        path.write_text(csv_text(columns, rows), encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from None


def _backtest_document(found: Backtest) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "rule": found.rule_name,
        "level": found.level,
        "start": found.start,
        "end": found.end,
        "entities": found.entities,
        "days_fired": found.days_fired,
        "actions": found.actions,
        "flapping": found.flapping,
        "reasons": found.reasons,
        "history_begins": found.history_begins,
        "notes": found.notes,
        "days": [asdict(each) for each in found.days],
        "fired": [asdict(each) for each in found.fired],
    }


# A decision


def _print_stored(stored: StoredDecision) -> None:
    decision, evaluation = stored.decision, stored.evaluation
    _print_decision(decision)
    business = f" of business {decision.business_id}" if decision.business_id else ""
    say(
        f"Decided by version {evaluation.version} of the rule{business} for {evaluation.day} "
        f"({evaluation.mode}), at {evaluation.evaluated_at:%Y-%m-%d %H:%M} UTC."
    )


def _print_decision(decision: Decision) -> None:
    from clarity_pipeline.domain.rules.explain import explain as put_in_words

    told = put_in_words(decision)
    say(told.sentence)
    for number, row in enumerate(told.rows, start=1):
        say(f"  {number}. {row.condition}{' (this one decides)' if row.is_deciding else ''}")
    columns = ("condition", "", "value", "numerator", "denominator", "compared with", "threshold")
    listing = table("", (*columns, "days with data", "sessions", "why unknown"))
    for number, (row, finding) in enumerate(
        zip(told.rows, decision.findings, strict=True), start=1
    ):
        listing.add_row(
            f"{number}{' *' if row.is_deciding else ''}",
            cell(row.answer, {"yes": "good", "unknown": "warn"}.get(row.answer, "")),
            cell(_number(finding.value)),
            # Without a day, sums are 0 because nothing was added up.
            *(
                cell(_number(number) if finding.days_with_data else None)
                for number in (finding.numerator, finding.denominator)
            ),
            cell(row.compared_with),
            cell(row.threshold),
            cell(row.days_with_data),
            cell(row.sessions),
            cell(row.why),
        )
    console().print(listing)


def _number(number: float | None) -> str | None:
    return None if number is None else f"{number:,.6g}"


def _stored_document(stored: StoredDecision) -> dict[str, object]:
    evaluation = stored.evaluation
    return {
        "decision": stored.address,
        "rule_id": evaluation.rule_id,
        "version": evaluation.version,
        "mode": evaluation.mode,
        "evaluated_at": evaluation.evaluated_at,
        **_decision_document(stored.decision),
    }


def _decision_document(decision: Decision) -> dict[str, object]:
    return {
        "rule": decision.rule_name,
        "entity_id": decision.entity_id,
        "entity_name": decision.entity_name,
        "business_id": decision.business_id,
        "level": decision.level,
        "as_of": decision.as_of,
        "answer": decision.truth.name.lower(),
        "sentence": _sentence(decision),
        "decided_by": decision.decided_by,
        "findings": [_finding_document(finding) for finding in decision.findings],
    }


def _sentence(decision: Decision) -> str:
    from clarity_pipeline.domain.rules.explain import explain as put_in_words

    return put_in_words(decision).sentence


def _finding_document(finding: Finding) -> dict[str, object]:
    from dataclasses import asdict

    from clarity_pipeline.domain.rules.explain import describe

    # Not through asdict: a condition is no dataclass.
    facts: dict[str, object] = asdict(finding)
    return {
        **facts,
        "condition": describe(finding.condition),
        "truth": finding.truth.name.lower(),
    }


def _reason_words(reasons: Mapping[Reason, int]) -> str:
    return ", ".join(
        f"{reason.value.replace('_', ' ')} {count:,}" for reason, count in reasons.items()
    )
