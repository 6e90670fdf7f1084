"""`clarity rules`: rules out of files and into files, and what they do with what they decide."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clarity_pipeline.cli.options import AsJson, BusinessId
from clarity_pipeline.cli.output import cell, console, print_json, remark, say, shown, table
from clarity_pipeline.cli.session import Session, command_line_actor, open_session, utc_now

if TYPE_CHECKING:
    from clarity_pipeline.domain.errors import ClarityError
    from clarity_pipeline.domain.rules.differences import Difference
    from clarity_pipeline.domain.rules.model import RuleStatus
    from clarity_pipeline.domain.rules.yaml_documents import RuleDocument
    from clarity_pipeline.operations.rules import AppliedDocument, Editor, RuleChange
    from clarity_pipeline.store.rules import StoredRule

rules_app = typer.Typer(name="rules", help="Rules on what visitors and ads did.")

RuleName = Annotated[str, typer.Argument(metavar="NAME", help="The rule, as `list` shows it.")]
Note = Annotated[
    str | None, typer.Option("--note", metavar="TEXT", help="Why; kept with the version.")
]
Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="YAML files, or directories of them (*.yaml, *.yml); - is standard input.",
    ),
]

_SUFFIXES: Final = frozenset({".yaml", ".yml"})


def register(app: typer.Typer) -> None:
    app.add_typer(rules_app, no_args_is_help=True)


def editor_of(session: Session) -> Editor:
    """Whoever runs the command."""
    from clarity_pipeline.operations.rules import Editor

    return Editor(name=command_line_actor(), can_sign_webhooks=session.settings.can_sign_webhooks)


@rules_app.command()
def apply(
    files: Files,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be stored, and store nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Store the rules of these files, each by its name. One that is refused stops no other.

    A rule whose document says no status keeps the one that it has; a new one is a draft.
    """
    applied = _apply(files, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "rules": [_applied_document(each) for each in applied]})
    else:
        _print_applied(applied, dry_run=dry_run)
    _exit_if_refused(applied)


@rules_app.command()
def diff(files: Files, *, as_json: AsJson = False) -> None:
    """Show what the rules of these files say differently from those that are stored."""
    applied = _apply(files, dry_run=True)
    if as_json:
        print_json({"rules": [_applied_document(each) for each in applied]})
    else:
        for each in applied:
            _print_differences(each)
    _exit_if_refused(applied)


@rules_app.command()
def export(
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="Only this rule; may be repeated."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="A file per rule, instead of standard output."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write rules as YAML; `apply` makes the same rules of it. Webhook addresses are in it.

    No file is deleted: those in DIR that are of no rule in use, such as an archived one, are named.
    """
    from clarity_pipeline.domain.rules.yaml_documents import write_rules
    from clarity_pipeline.operations.rules import rules_to_export

    with open_session() as session:
        stored = rules_to_export(session.database, names or [])
    if directory is None:
        if as_json:
            print_json({"rules": [_rule_document(each) for each in stored]})
        else:
            _write(write_rules(each.rule for each in stored))
        return
    written = _write_files(stored, directory)
    others = [] if names else _files_of_no_rule(stored, directory, apart_from=written)
    if as_json:
        print_json(
            {"files": [str(path) for path in written], "others": [str(path) for path in others]}
        )
        return
    say(f"Wrote {len(written)} rules to {directory}.")
    if others:
        listed = ", ".join(str(path.relative_to(directory)) for path in others)
        remark(
            f"Delete what is not wanted, or apply brings it back: {len(others)} other files there "
            f"are of no rule in use: {listed}."
        )


@rules_app.command("list")
def list_all(
    *,
    archived: Annotated[
        bool, typer.Option("--archived", help="Those that were put away, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the rules, the highest priority first."""
    from clarity_pipeline.store.rules import list_broken_rules, list_rules

    with open_session() as session:
        stored = list_rules(session.database, with_archived=archived)
        broken = list_broken_rules(session.database)
    if as_json:
        told = [{"id": each.id, "name": each.name, "error": str(each.error)} for each in broken]
        print_json({"rules": [_facts(each) for each in stored], "broken": told})
        return
    for each in broken:
        remark(f"{each.name} decides nothing; apply it again in a form that is right. {each.error}")
    if not stored and not broken:
        say("There is no rule yet; make one with: clarity rules apply FILE")
        return
    columns = ("rule", "status", "about", "of", "priority", "version", "changed")
    listing = table(f"{len(stored)} rules", columns)
    for each in stored:
        word, tone = _status(each)
        listing.add_row(
            cell(each.rule.name),
            cell(word, tone),
            cell(each.rule.level.value.replace("_", " ")),
            cell(_scope_words(each)),
            cell(each.rule.priority),
            cell(each.version),
            cell(each.updated_at),
        )
    console().print(listing)


@rules_app.command()
def show(name: RuleName, *, as_json: AsJson = False) -> None:
    """Show a rule as YAML."""
    from clarity_pipeline.domain.rules.yaml_documents import write_rules
    from clarity_pipeline.store.rules import find_rule

    with open_session() as session:
        stored = find_rule(session.database, name)
    if as_json:
        print_json(_rule_document(stored))
    else:
        _write(write_rules([stored.rule]))


@rules_app.command()
def versions(name: RuleName, *, as_json: AsJson = False) -> None:
    """List the versions of a rule: who made them, and what each says differently."""
    from clarity_pipeline.domain.rules.differences import differences
    from clarity_pipeline.store.rules import find_rule, rule_versions

    with open_session() as session:
        stored = find_rule(session.database, name)
        found = rule_versions(session.database, stored.id)
    earlier = [None, *(each.rule for each in found)]
    changes = [
        () if before is None else differences(before, each.rule)
        for before, each in zip(earlier, found, strict=False)
    ]
    if as_json:
        print_json(
            {
                "rule": stored.rule.name,
                "versions": [
                    {
                        "version": each.version,
                        "made_at": each.made_at,
                        "made_by": each.made_by,
                        "note": each.note,
                        "status": each.rule.status.value,
                        "differences": _told(changed),
                    }
                    for each, changed in zip(found, changes, strict=True)
                ],
            }
        )
        return
    listing = table(
        f"Versions of {stored.rule.name}", ("version", "made", "by", "says differently", "note")
    )
    for each, changed in zip(found, changes, strict=True):
        listing.add_row(
            cell(each.version),
            cell(each.made_at),
            cell(each.made_by),
            cell("\n".join(map(str, changed))),
            cell(each.note),
        )
    console().print(listing)


@rules_app.command()
def arm(name: RuleName, note: Note = None, *, as_json: AsJson = False) -> None:
    """From now on a rule does what it decides."""
    from clarity_pipeline.domain.rules.model import RuleStatus

    _set_status(name, RuleStatus.ARMED, note=note, as_json=as_json)


@rules_app.command()
def shadow(
    name: RuleName,
    until: Annotated[str, typer.Option("--until", metavar="YYYY-MM-DD", help="The last UTC day.")],
    note: Note = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Let a rule decide and do nothing, up to a day."""
    from clarity_pipeline.domain.rules.model import RuleStatus

    _set_status(name, RuleStatus.SHADOW, until=until, note=note, as_json=as_json)


@rules_app.command()
def off(name: RuleName, note: Note = None, *, as_json: AsJson = False) -> None:
    """Switch a rule off: it decides nothing any more."""
    from clarity_pipeline.domain.rules.model import RuleStatus

    _set_status(name, RuleStatus.OFF, note=note, as_json=as_json)


@rules_app.command()
def draft(name: RuleName, note: Note = None, *, as_json: AsJson = False) -> None:
    """Make a draft of a rule: it decides only in a preview."""
    from clarity_pipeline.domain.rules.model import RuleStatus

    _set_status(name, RuleStatus.DRAFT, note=note, as_json=as_json)


@rules_app.command()
def archive(name: RuleName, *, as_json: AsJson = False) -> None:
    """Put a rule away. What it decided stays on record, and its name is free again."""
    from clarity_pipeline.operations.rules import archive as put_away
    from clarity_pipeline.store.rules import find_rule

    with open_session() as session:
        stored = find_rule(session.database, name)
        changed = put_away(session.database, stored.id, by=editor_of(session), now=utc_now())
    if as_json:
        print_json({"id": stored.id, "name": stored.rule.name, "changed": changed})
    else:
        say(f"Archived {stored.rule.name}.")


@rules_app.command()
def schema() -> None:
    """Print the JSON Schema of a rule, with every metric and its unit."""
    from clarity_pipeline.domain.rules.documents import rule_json_schema

    print_json(rule_json_schema())


@rules_app.command()
def visible(
    business_id: BusinessId,
    *,
    to_client: Annotated[
        bool,
        typer.Option(
            "--to-client/--not-to-client",
            help="Whether the client's people see the rules about them, and what those decided.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Let a client's people see the rules about their business, or no longer."""
    from clarity_pipeline.operations.rules import show_rules_to_client

    with open_session() as session:
        changed = show_rules_to_client(
            session.database,
            business_id=business_id,
            sees=to_client,
            by=editor_of(session),
            now=utc_now(),
        )
    if as_json:
        print_json({"business_id": business_id, "client_sees_rules": to_client, "changed": changed})
        return
    sees = "sees" if to_client else "does not see"
    say(f"The client {sees} the rules about {business_id}{'' if changed else ', as before'}.")


def _apply(files: Sequence[Path], *, dry_run: bool) -> list[AppliedDocument]:
    from clarity_pipeline.operations.rules import apply_documents

    documents = [document for path in files for document in _documents(path)]
    with open_session() as session:
        return apply_documents(
            session.database, documents, by=editor_of(session), now=utc_now(), dry_run=dry_run
        )


def _documents(path: Path) -> Iterator[RuleDocument]:
    """The documents of a file, of a directory, or of standard input."""
    from clarity_pipeline.domain.rules.yaml_documents import (
        MAX_FILE_BYTES,
        read_rules,
        unreadable,
    )

    if str(path) == "-":
        yield from read_rules(sys.stdin.read(MAX_FILE_BYTES + 1), source="-")
        return
    is_directory = path.is_dir()
    found = _files_below(path)
    if is_directory and not found:
        yield unreadable(str(path), "has no file that ends in .yaml or .yml")
    for file in found if is_directory else [path]:
        try:
            with file.open("rb") as opened:
                yield from read_rules(opened.read(MAX_FILE_BYTES + 1), source=str(file))
        except OSError as error:
            yield unreadable(str(file), f"cannot be read ({error.strerror})")


def _files_below(directory: Path) -> list[Path]:
    return sorted(
        each for each in directory.rglob("*") if each.suffix in _SUFFIXES and each.is_file()
    )


def _set_status(
    name: str, status: RuleStatus, *, note: str | None, as_json: bool, until: str | None = None
) -> None:
    from clarity_pipeline.domain.days import parse_day
    from clarity_pipeline.operations.rules import Outcome, set_status
    from clarity_pipeline.store.rules import find_rule

    last_day = None if until is None else parse_day(until)
    with open_session() as session:
        change = set_status(
            session.database,
            find_rule(session.database, name).id,
            status,
            shadow_until=last_day,
            by=editor_of(session),
            now=utc_now(),
            note=note,
        )
    stored = change.stored
    assert stored is not None, "a rule that was looked up"
    if as_json:
        print_json(_facts(stored) | {"changed": change.outcome is Outcome.CHANGED})
        return
    word, _ = _status(stored)
    was = "" if change.outcome is Outcome.CHANGED else " already"
    say(f"{stored.rule.name} is {word}{was} (version {stored.version}).")


def _status(stored: StoredRule) -> tuple[str, str]:
    """The status in words, and the tone in which to say it."""
    if stored.archived_at is not None:
        return "archived", "quiet"
    rule = stored.rule
    match rule.status.value:
        case "armed":
            return "armed", "good"
        case "shadow":
            return f"in shadow until {rule.shadow_until}", "warn"
        case "off":
            return "off", "quiet"
        case _:
            return "a draft", ""


def _scope_words(stored: StoredRule) -> str:
    businesses = stored.rule.businesses
    if businesses is None:
        return "every business"
    return businesses[0] if len(businesses) == 1 else f"{len(businesses)} businesses"


def _facts(stored: StoredRule) -> dict[str, object]:
    return {
        "id": stored.id,
        "name": stored.rule.name,
        "version": stored.version,
        "status": stored.rule.status.value,
        "shadow_until": stored.rule.shadow_until,
        "level": stored.rule.level.value,
        "businesses": stored.rule.businesses,
        "priority": stored.rule.priority,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
        "archived_at": stored.archived_at,
    }


def _rule_document(stored: StoredRule) -> dict[str, object]:
    return _facts(stored) | {"document": stored.rule.model_dump(mode="json", by_alias=True)}


def _told(differences: Sequence[Difference]) -> list[dict[str, object]]:
    return [{"path": each.path, "before": each.before, "after": each.after} for each in differences]


def _applied_document(applied: AppliedDocument) -> dict[str, object]:
    change = applied.change
    told: dict[str, Any] = {
        "source": applied.source,
        "name": applied.name,
        "outcome": applied.outcome.value,
        "version": None if change is None or change.stored is None else change.stored.version,
        "differences": [] if change is None else _told(change.differences),
        "error": None,
    }
    if applied.error is not None:
        told["error"] = {
            "code": applied.error.code,
            "message": str(applied.error),
            "fields": [
                {"path": path, "reason": reason} for path, reason in _bad_fields(applied.error)
            ],
        }
    return told


def _bad_fields(error: ClarityError) -> list[tuple[str, str]]:
    from clarity_pipeline.domain.errors import InvalidRule

    if not isinstance(error, InvalidRule):
        return []
    return [(each.path, each.reason) for each in error.bad_fields]


def _print_applied(applied: Sequence[AppliedDocument], *, dry_run: bool) -> None:
    from clarity_pipeline.operations.rules import Outcome

    for each in applied:
        if each.outcome is not Outcome.UNCHANGED:
            _print_differences(each)
    counts = {
        word: sum(each.outcome is outcome for each in applied)
        for outcome in Outcome
        for word in [outcome.value]
    }
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    say(f"{told}{'; nothing was stored' if dry_run else ''}.")


def _print_differences(applied: AppliedDocument) -> None:
    if applied.error is not None:
        _print_refusal(applied, applied.error)
        return
    assert applied.change is not None, "what is not refused is a change"
    say(f"{applied.name}: {_change_words(applied.change)} ({applied.source})")
    for each in applied.change.differences:
        say(f"  {each}")


def _print_refusal(applied: AppliedDocument, error: ClarityError) -> None:
    about = f" {applied.name!r}" if applied.name else ""
    remark(f"Refused{about} ({applied.source}): {error}")
    bad_fields = _bad_fields(error)
    if len(bad_fields) > 1:
        for path, reason in bad_fields:
            remark(f"  {path}: {reason}")


def _change_words(change: RuleChange) -> str:
    version = "" if change.stored is None else f", version {change.stored.version}"
    return f"{change.outcome.value}{version}"


def _exit_if_refused(applied: Sequence[AppliedDocument]) -> None:
    codes = [each.error.exit_code for each in applied if each.error is not None]
    if codes:
        raise typer.Exit(max(codes))


def _write(text: str) -> None:
    """A document as the result; control characters cannot be in it."""
    sys.stdout.write(shown(text))
    sys.stdout.flush()


def _write_files(stored: Sequence[StoredRule], directory: Path) -> list[Path]:
    from clarity_pipeline.domain.errors import InputError
    from clarity_pipeline.domain.rules.yaml_documents import file_names, write_rules

    names = file_names([each.rule.name for each in stored])
    written = [directory / name for name in names]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, each in zip(written, stored, strict=True):
            path.write_text(write_rules([each.rule]), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{directory} cannot be written ({error.strerror}).") from None
    return written


def _files_of_no_rule(
    in_use: Sequence[StoredRule], directory: Path, *, apart_from: Sequence[Path]
) -> list[Path]:
    """The files that are of another rule than these, or that no rule can be read from."""
    names = {each.rule.name for each in in_use}
    return [
        file
        for file in _files_below(directory)
        if file not in apart_from
        and any(document.name not in names for document in _documents(file))
    ]
