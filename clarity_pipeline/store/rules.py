"""Rules and every version that they ever had, and the one switch that pauses all of them.

A rule is never deleted, since what it decided names it: it is archived, and its name is free again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, insert, select, text, update

from clarity_pipeline.domain.errors import BadField, InvalidRule, RuleChanged, UnknownRule
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.model import Rule, RuleStatus
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import rule_switch, rules
from clarity_pipeline.store.schema import rule_versions as versions

_log = logging.getLogger(__name__)

_LOCK_KEY: Final = int.from_bytes(b"rules")
"""Writers of rules take turns by this key; rules change rarely, so one key for all will do."""

_IN_USE: Final = rules.c.archived_at.is_(None)

_THE_SWITCH: Final = 1


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule as it stands; instants are UTC. An archived one decides nothing any more."""

    id: int
    version: int
    rule: Rule
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule in use whose document this program cannot use any more, so that it decides nothing."""

    id: int
    version: int
    name: str
    error: InvalidRule


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """What a rule said from `made_at` (UTC) until the next version, and who wanted it so."""

    rule_id: int
    version: int
    rule: Rule
    made_by: str
    made_at: datetime
    note: str | None


@dataclass(frozen=True, slots=True)
class Switch:
    """While `is_paused` no rule sends anything. Nobody has changed it while the rest is None."""

    is_paused: bool
    changed_by: str | None = None
    changed_at: datetime | None = None
    note: str | None = None


def list_rules(database: Database, *, with_archived: bool = False) -> list[StoredRule]:
    """The rules, the highest priority first and then by name.

    Broken ones are left out, and logged as errors: they must not stop the others.
    """
    found, broken = _rules(database, *(() if with_archived else (_IN_USE,)))
    for each in broken:
        _log.error("rule %s version %s is left out: %s", each.id, each.version, each.error)
    return sorted(found, key=lambda each: (-each.rule.priority, each.rule.name, each.id))


def list_broken_rules(database: Database) -> list[BrokenRule]:
    """The rules in use that `list_rules` leaves out, by name; `save_rule` replaces one by name."""
    _, broken = _rules(database, _IN_USE)
    return sorted(broken, key=lambda each: each.name)


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """The rules that decide something by themselves, by id; `broken` says by name what is wrong
    with those whose documents this program cannot use."""

    rules: tuple[StoredRule, ...]
    broken: Mapping[str, str]


def rules_in_force(database: Database) -> RulesInForce:
    """Those that are armed or shadows, whether their shadow is over or not."""
    deciding = rules.c.status.in_([RuleStatus.ARMED.value, RuleStatus.SHADOW.value])
    found, broken = _rules(database, _IN_USE, deciding)
    return RulesInForce(tuple(found), {each.name: str(each.error) for each in broken})


def get_rule(database: Database, rule_id: int) -> StoredRule:
    """The rule of that number, archived or not. Raises UnknownRule, or InvalidRule."""
    with database.reading() as connection:
        row = connection.execute(select(rules).where(rules.c.id == rule_id)).first()
    if row is None:
        raise UnknownRule(rule_id)
    return _stored(row)


def find_rule(database: Database, name: str) -> StoredRule:
    """The rule in use that has this name. Raises UnknownRule, or InvalidRule."""
    with database.reading() as connection:
        row = _row_of_name(connection, name)
    if row is None:
        raise UnknownRule(name)
    return _stored(row)


def rule_version(database: Database, *, rule_id: int, version: int) -> RuleVersion:
    """One version of a rule. Raises UnknownRule, or InvalidRule."""
    statement = select(versions).where(versions.c.rule_id == rule_id, versions.c.version == version)
    with database.reading() as connection:
        row = connection.execute(statement).first()
    if row is None:
        raise UnknownRule(rule_id, version=version)
    return _version(row)


def rule_versions(database: Database, rule_id: int) -> list[RuleVersion]:
    """Every version of a rule, the first one first. Raises UnknownRule, or InvalidRule."""
    statement = select(versions).where(versions.c.rule_id == rule_id).order_by(versions.c.version)
    with database.reading() as connection:
        rows = connection.execute(statement).all()
    if not rows:
        raise UnknownRule(rule_id)
    return [_version(row) for row in rows]


def save_rule(
    database: Database,
    rule: Rule,
    *,
    made_by: str,
    now: datetime,
    note: str | None = None,
    rule_id: int | None = None,
    expected_version: int | None = None,
) -> StoredRule:
    """Store a rule: a new one, or the next version of the one of its name or of `rule_id`.

    With `rule_id` the name may change. A rule that says what it said before gets no new version.
    `expected_version` is the version that the caller has seen, 0 for "there is none": raises
    RuleChanged when it is another one by now, or when the rule was archived. Raises UnknownRule for
    a `rule_id` that there is none of, and InvalidRule for a name that another rule has.
    """
    with database.transaction() as connection:
        _one_at_a_time(connection)
        row = _row_of_name(connection, rule.name) if rule_id is None else _row(connection, rule_id)
        if rule_id is not None and row is None:
            raise UnknownRule(rule_id)
        _check_nobody_was_faster(row, rule, expected_version=expected_version)
        if row is not None and _says(row.document, rule):
            return _stored(row)
        same_name = _row_of_name(connection, rule.name)
        if same_name is not None and (row is None or same_name.id != row.id):
            raise _name_is_taken(rule.name)
        changed_id = _insert(connection, rule, now) if row is None else row.id
        version = 1 if row is None else row.version + 1
        if row is not None:
            connection.execute(
                update(rules)
                .where(rules.c.id == changed_id)
                .values(**_columns(rule), version=version, updated_at=now)
            )
        connection.execute(
            insert(versions).values(
                rule_id=changed_id,
                version=version,
                document=_document(rule),
                made_by=made_by,
                made_at=now,
                note=note,
            )
        )
        saved = _row(connection, changed_id)
        assert saved is not None
        return _stored(saved)


def archive_rule(database: Database, rule_id: int, *, now: datetime) -> bool:
    """Put a rule away; True when it was in use. Raises UnknownRule."""
    with database.transaction() as connection:
        _one_at_a_time(connection)
        row = _row(connection, rule_id)
        if row is None:
            raise UnknownRule(rule_id)
        if row.archived_at is not None:
            return False
        connection.execute(
            update(rules).where(rules.c.id == rule_id).values(archived_at=now, updated_at=now)
        )
        return True


def get_switch(database: Database) -> Switch:
    """How the switch stands that pauses every rule."""
    with database.reading() as connection:
        row = connection.execute(select(rule_switch)).first()
    if row is None:
        return Switch(is_paused=False)
    return Switch(
        is_paused=row.is_paused,
        changed_by=row.changed_by,
        changed_at=row.changed_at,
        note=row.note,
    )


def set_switch(
    database: Database,
    *,
    is_paused: bool,
    changed_by: str,
    now: datetime,
    note: str | None = None,
) -> bool:
    """Pause every rule, or let them go on; False when it stood like that already."""
    values = {
        "is_paused": is_paused,
        "changed_by": changed_by,
        "changed_at": now,
        "note": note,
    }
    with database.transaction() as connection:
        _one_at_a_time(connection)
        row = connection.execute(select(rule_switch)).first()
        if is_paused == (row is not None and row.is_paused):
            return False
        if row is None:
            connection.execute(insert(rule_switch).values(id=_THE_SWITCH, **values))
        else:
            connection.execute(update(rule_switch).values(**values))
        return True


def _rules(
    database: Database, *which: ColumnElement[bool]
) -> tuple[list[StoredRule], list[BrokenRule]]:
    statement = select(rules).where(*which).order_by(rules.c.id)
    found: list[StoredRule] = []
    broken: list[BrokenRule] = []
    with database.reading() as connection:
        rows = connection.execute(statement).all()
    for row in rows:
        try:
            found.append(_stored(row))
        except InvalidRule as error:
            broken.append(BrokenRule(row.id, row.version, row.name, error))
    return found, broken


def _one_at_a_time(connection: Connection) -> None:
    """SQLite has a single writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})


def _check_nobody_was_faster(
    row: Row[Any] | None, rule: Rule, *, expected_version: int | None
) -> None:
    if row is not None and row.archived_at is not None:
        raise RuleChanged(f"Rule {row.name!r} has been archived meanwhile; nothing was stored.")
    if expected_version is None:
        return
    version = 0 if row is None else row.version
    if version == expected_version:
        return
    if expected_version == 0:
        raise RuleChanged(
            f"There is a rule {rule.name!r} already; choose another name, or change that one."
        )
    raise RuleChanged(
        f"Somebody else has changed rule {rule.name!r} meanwhile (it was version "
        f"{expected_version} and is {version or 'gone'}); look at theirs, and change it again."
    )


def _name_is_taken(name: str) -> InvalidRule:
    return InvalidRule(
        f"There is a rule {name!r} already; choose another name.",
        bad_fields=[BadField("name", "another rule has that name")],
    )


def _says(document: Any, rule: Rule) -> bool:
    """Whether a stored document is this rule, also where it was stored before a field was added."""
    try:
        return parse_rule(document) == rule
    except InvalidRule:
        return False


def _insert(connection: Connection, rule: Rule, now: datetime) -> int:
    result = connection.execute(
        insert(rules).values(**_columns(rule), version=1, created_at=now, updated_at=now)
    )
    assert result.inserted_primary_key is not None
    return result.inserted_primary_key[0]


def _columns(rule: Rule) -> dict[str, Any]:
    return {"name": rule.name, "status": rule.status.value, "document": _document(rule)}


def _document(rule: Rule) -> dict[str, Any]:
    return rule.model_dump(mode="json", by_alias=True)


def _row(connection: Connection, rule_id: int) -> Row[Any] | None:
    return connection.execute(select(rules).where(rules.c.id == rule_id)).first()


def _row_of_name(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(rules).where(rules.c.name == name, _IN_USE)).first()


def _stored(row: Row[Any]) -> StoredRule:
    return StoredRule(
        id=row.id,
        version=row.version,
        rule=parse_rule(row.document),
        created_at=row.created_at,
        updated_at=row.updated_at,
        archived_at=row.archived_at,
    )


def _version(row: Row[Any]) -> RuleVersion:
    return RuleVersion(
        rule_id=row.rule_id,
        version=row.version,
        rule=parse_rule(row.document),
        made_by=row.made_by,
        made_at=row.made_at,
        note=row.note,
    )
