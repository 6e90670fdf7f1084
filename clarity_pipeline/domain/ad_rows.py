"""Rows about ads, as people and programs give them: what each says, or why it cannot be used.

A row is a mapping of the names in FIELDS to text or numbers. It is about one entity, named by `id`
and `level`, or by the ids of a campaign, an ad set and an ad, of which the deepest is meant; it
says what the entity is, what it cost and brought on a day, or both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, Final, cast

from clarity_pipeline.domain.ad_kinds import AdRowKind
from clarity_pipeline.domain.ads import (
    AD_SUMS,
    AdDay,
    account_platform_id,
    entity_id,
    is_platform,
    is_platform_id,
)
from clarity_pipeline.domain.connections import parse_business_id
from clarity_pipeline.domain.errors import BadRow, InvalidBusinessId
from clarity_pipeline.domain.rules.metrics import FURTHER_SUM_PREFIX, is_further_sum
from clarity_pipeline.domain.rules.model import EntityStatus, Level

OF_AN_ENTITY: Final = (
    *("platform", "level", "id", "parent_id", "account_id", "business_id", "name", "status"),
    *("landing_url", "daily_budget", "currency", "changed_on"),
)
OF_A_PATH: Final = (
    *("campaign_id", "campaign_name", "campaign_status", "campaign_daily_budget"),
    *("ad_set_id", "ad_set_name", "ad_set_status", "ad_set_daily_budget"),
    *("ad_id", "ad_name", "ad_status"),
)
OF_A_DAY: Final = ("date", "first_day", "last_day", *AD_SUMS)
FIELDS: Final = frozenset((*OF_AN_ENTITY, *OF_A_PATH, *OF_A_DAY))
"""What a row may say, beside further sums such as `ad.leads`. Instead of `date`, reports name the
first and the last day that they are about, which then must be the same."""

LEVELS: Final = (Level.CAMPAIGN, Level.AD_SET, Level.AD)
"""From the top down."""

MAX_NAME_LENGTH: Final = 500
MAX_URL_LENGTH: Final = 4000
MAX_FURTHER_SUMS: Final = 50
LARGEST_NUMBER: Final = 1e15
FIRST_DAY: Final = date(2000, 1, 1)

STATUSES: Final[Mapping[str, EntityStatus]] = {
    **dict.fromkeys(
        (
            *("active", "enabled", "enable", "on", "running", "eligible", "scheduled"),
            # Switched on, whatever comes of it.
            *("in_process", "with_issues", "learning", "learning_limited", "not_delivering"),
            *("pending_review", "in_review", "preapproved"),
        ),
        EntityStatus.ACTIVE,
    ),
    **dict.fromkeys(
        (
            *("paused", "inactive", "off", "disabled", "disable", "completed", "not_published"),
            *("campaign_paused", "adset_paused", "ad_set_paused", "ad_group_paused"),
            *("disapproved", "rejected", "pending_billing_info"),
        ),
        EntityStatus.PAUSED,
    ),
    **dict.fromkeys(("deleted", "archived", "removed"), EntityStatus.DELETED),
}
"""The words of ad platforms, in lower case with underscores."""

_LEVEL_WORDS: Final[Mapping[str, Level]] = {
    **{level.value: level for level in LEVELS},
    **dict.fromkeys(("adset", "ad_group", "adgroup"), Level.AD_SET),
}

_DESCRIBING: Final = frozenset(
    (
        *("parent_id", "name", "status", "landing_url", "daily_budget", "changed_on"),
        *(f"{level}_{word}" for level in LEVELS for word in ("name", "status", "daily_budget")),
    )
)
"""What nobody says of an entity in a row that is about numbers alone."""

_MEASURES: Final = frozenset(OF_A_DAY)
_DEFINING: Final = FIELDS.difference(OF_A_DAY)
_PATH_IDS: Final = tuple(f"{level}_id" for level in LEVELS)
_ALONE: Final = ("level", "parent_id", "name", "status", "daily_budget")
"""What only a row with a plain `id` says; beside a path nobody knows which level is meant."""

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDefaults:
    """What holds for rows that do not say it. Without a `kind` it follows from what a row has."""

    kind: AdRowKind | None = None
    platform: str | None = None
    business_id: str | None = None
    account: str | None = None


NOTHING_SAID: Final = RowDefaults()


@dataclass(frozen=True, slots=True)
class EntityFacts:
    """What one row says about an entity: fields of AdEntity, None for what it has none of."""

    id: str
    platform: str
    platform_id: str
    said: Mapping[str, Any]


@dataclass(slots=True)
class GatheredFacts:
    """What all rows say about an entity, and on which lines."""

    id: str
    platform: str
    platform_id: str
    said: dict[str, Any] = field(default_factory=dict[str, Any])
    lines: list[int] = field(default_factory=list[int])


@dataclass(frozen=True, slots=True)
class GatheredRows:
    """All rows: entities by id, days with their lines, and the reasons of refused lines."""

    count: int
    facts: Mapping[str, GatheredFacts]
    days: list[tuple[int, AdDay]]
    refused: dict[int, str]


def bad_rows(refused: Mapping[int, str]) -> tuple[BadRow, ...]:
    """Refusals by line."""
    return tuple(BadRow(line, refused[line]) for line in sorted(refused))


class _Unusable(Exception):
    """Why a row is refused."""


def gather_rows(
    rows: Iterable[tuple[int, object]], *, defaults: RowDefaults, today: date
) -> GatheredRows:
    """Read rows, each with its line or place; `today` is the UTC day.

    The same said twice is said once. Of rows that contradict each other the first one counts.
    """
    reader = _Reader(defaults, today=today)
    for line, row in rows:
        reader.take(line, row)
    return GatheredRows(
        count=reader.count, facts=reader.facts, days=list(reader.days.values()), refused=reader.bad
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """What follows from the names in a row alone; rows of a file have few shapes."""

    defining: tuple[str, ...]
    further: tuple[str, ...]
    kind: AdRowKind

    @classmethod
    def of(cls, names: tuple[object, ...]) -> _Shape:
        """Raises _Unusable for a name that is not known."""
        known: list[str] = []
        for name in names:
            if not isinstance(name, str) or not (name in FIELDS or is_further_sum(name)):
                raise _Unusable(_unknown_field(name))
            known.append(name)
        further = tuple(filter(is_further_sum, known))
        if _MEASURES.isdisjoint(known) and not further:
            kind = AdRowKind.ENTITIES
        else:
            kind = AdRowKind.METRICS if _DESCRIBING.isdisjoint(known) else AdRowKind.BOTH
        return cls(tuple(sorted(_DEFINING.intersection(known))), further, kind)


class _Reader:
    def __init__(self, defaults: RowDefaults, *, today: date) -> None:
        self.count = 0
        self.facts: dict[str, GatheredFacts] = {}
        self.days: dict[tuple[str, date], tuple[int, AdDay]] = {}
        self.bad: dict[int, str] = {}
        self._defaults = defaults
        self._today = today
        self._shapes: dict[tuple[object, ...], _Shape] = {}
        # Rows of many days repeat what they say of an ad: it is read once, and compared once.
        self._read: dict[Hashable, tuple[EntityFacts, ...]] = {}
        self._compared: set[Hashable] = set()

    def take(self, line: int, row: object) -> None:
        self.count += 1
        try:
            self._take(line, _checked_row(row))
        except _Unusable as unusable:
            self.bad[line] = str(unusable)

    def _take(self, line: int, row: Mapping[str, object]) -> None:
        shape = self._shape_of(row)
        kind = self._defaults.kind or shape.kind
        key = _key_of(row, shape)
        facts = self._facts_of(row, key)
        day = None
        if kind is not AdRowKind.ENTITIES:
            day = read_day(row, entity=facts[-1].id, further_names=shape.further, today=self._today)
            if day is None and kind is AdRowKind.METRICS:
                raise _Unusable("It has no number.")
        if day is not None:
            self._check_repeated_day(day)
        if kind is not AdRowKind.METRICS:
            self._keep(line, facts, key)
        if day is not None:
            self.days.setdefault((day.entity_id, day.day), (line, day))

    def _shape_of(self, row: Mapping[str, object]) -> _Shape:
        names = tuple(row)
        shape = self._shapes.get(names)
        if shape is None:
            shape = self._shapes[names] = _Shape.of(names)
        return shape

    def _facts_of(self, row: Mapping[str, object], key: Hashable | None) -> tuple[EntityFacts, ...]:
        facts = None if key is None else self._read.get(key)
        if facts is None:
            facts = read_facts(row, defaults=self._defaults, today=self._today)
            if key is not None:
                self._read[key] = facts
        return facts

    def _check_repeated_day(self, day: AdDay) -> None:
        before = self.days.get((day.entity_id, day.day))
        if before is not None and before[1] != day:
            raise _Unusable(
                f"Line {before[0]} has other numbers of {day.entity_id} on {day.day}; a day of an "
                "entity is one row, so export without breakdowns."
            )

    def _keep(self, line: int, facts: Iterable[EntityFacts], key: Hashable | None) -> None:
        if key is not None and key in self._compared:
            for each in facts:
                self.facts[each.id].lines.append(line)
            return
        self._check_contradictions(facts)
        for each in facts:
            gathered = self.facts.get(each.id)
            if gathered is None:
                gathered = GatheredFacts(each.id, each.platform, each.platform_id)
                self.facts[each.id] = gathered
            gathered.said.update(each.said)
            gathered.lines.append(line)
        self._compared.add(key)

    def _check_contradictions(self, facts: Iterable[EntityFacts]) -> None:
        for each in facts:
            before = self.facts.get(each.id)
            if before is None:
                continue
            for name, value in each.said.items():
                if name in before.said and before.said[name] != value:
                    raise _Unusable(
                        f"Line {before.lines[0]} says of {each.id} another {name} than this one."
                    )


def _checked_row(row: object) -> Mapping[str, object]:
    if not isinstance(row, Mapping):
        raise _Unusable("The row is not an object with names and values.")
    return cast("Mapping[str, object]", row)


def _key_of(row: Mapping[str, object], shape: _Shape) -> Hashable | None:
    """What a row says of entities, to look up whether that was read; None where it cannot be.

    A list cannot be looked up; and 1, 1.0 and True would be one.
    """
    values = [row[name] for name in shape.defining]
    for value in values:
        if value is not None and type(value) is not str:
            return None
    return (shape.defining, *values)


def read_facts(
    row: Mapping[str, object], *, defaults: RowDefaults, today: date
) -> tuple[EntityFacts, ...]:
    """What a row says about entities, from the top down; the last is what it is about."""
    platform = _text(row, "platform") or defaults.platform
    if platform is None:
        raise _Unusable("The platform is missing: give a column platform, or say it for all rows.")
    platform = platform.lower()
    if not is_platform(platform):
        raise _Unusable(f"{platform[:40]!r} is not the name of a platform, such as meta.")
    shared = _shared_facts(row, platform=platform, defaults=defaults)
    own = _own_facts(row, today=today)
    plain_id = _id(row, "id")
    path = [(level, each) for level in LEVELS if (each := _id(row, f"{level}_id")) is not None]
    if plain_id is not None and path:
        raise _Unusable("It has both an id and the ids of a path; only one of them is meant.")
    if plain_id is not None:
        _check_unsaid(row, _OF_LEVELS, "is for rows with the ids of a path")
        alone = _facts_of_one(row, platform=platform)
        return (_facts(platform, plain_id, shared | own | alone),)
    if not path:
        raise _Unusable("The id is missing.")
    _check_unsaid(row, _ALONE, "is for rows with a plain id")
    return _facts_of_path(row, path, platform=platform, shared=shared, own=own)


_OF_LEVELS: Final = tuple(name for name in OF_A_PATH if name not in _PATH_IDS)


def _facts(platform: str, platform_id: str, said: Mapping[str, Any]) -> EntityFacts:
    identity = entity_id(platform=platform, platform_id=platform_id)
    return EntityFacts(identity, platform, platform_id, said)


def _shared_facts(
    row: Mapping[str, object], *, platform: str, defaults: RowDefaults
) -> dict[str, Any]:
    """What holds for a whole path."""
    said: dict[str, Any] = {}
    business_id = _text(row, "business_id") or defaults.business_id
    if business_id is not None:
        try:
            said["business_id"] = parse_business_id(business_id)
        except InvalidBusinessId:
            raise _Unusable(f"{business_id[:70]!r} is not the id of a business.") from None
    account = _id(row, "account_id") or defaults.account
    if account is not None:
        number = account_platform_id(account, platform=platform)
        said["account_id"] = entity_id(platform=platform, platform_id=number)
    elif _is_none(row, "account_id"):
        said["account_id"] = None
    _say(said, row, "currency", _currency)
    return said


def _own_facts(row: Mapping[str, object], *, today: date) -> dict[str, Any]:
    """What holds for the entity that a row is about, however it is named."""
    said: dict[str, Any] = {}
    _say(said, row, "landing_url", _landing_url)
    _say(said, row, "changed_on", lambda value: _day(value, "changed_on", today=today))
    return said


def _facts_of_one(row: Mapping[str, object], *, platform: str) -> dict[str, Any]:
    said: dict[str, Any] = {}
    level = _text(row, "level")
    if level is not None:
        said["level"] = _LEVEL_WORDS.get(_words(level))
        if said["level"] is None:
            raise _Unusable(f"{level[:40]!r} is no level; there are campaign, ad_set and ad.")
    parent = _id(row, "parent_id")
    if parent is not None:
        said["parent_id"] = entity_id(platform=platform, platform_id=parent)
    elif _is_none(row, "parent_id"):
        said["parent_id"] = None
    return said | _named_facts(row, prefix="")


def _facts_of_path(
    row: Mapping[str, object],
    path: list[tuple[Level, str]],
    *,
    platform: str,
    shared: Mapping[str, Any],
    own: Mapping[str, Any],
) -> tuple[EntityFacts, ...]:
    found: list[EntityFacts] = []
    named = {level for level, _ in path}
    for level in LEVELS:
        if level not in named:
            of_level = [name for name in _OF_LEVELS if name.startswith(f"{level}_")]
            # An ad set's name is no ad's.
            of_level = [name for name in of_level if not _is_of_deeper_level(name, level)]
            _check_unsaid(row, of_level, f"is given without {level}_id")
    for level, platform_id in path:
        said: dict[str, Any] = {"level": level, **shared}
        if found:
            said["parent_id"] = found[-1].id
        said |= _named_facts(row, prefix=f"{level}_")
        if (level, platform_id) == path[-1]:
            said |= own
        found.append(_facts(platform, platform_id, said))
    if len({each.id for each in found}) < len(found):
        raise _Unusable("Two of the ids in its path are the same.")
    return tuple(found)


def _is_of_deeper_level(name: str, level: Level) -> bool:
    return level is Level.AD and name.startswith(f"{Level.AD_SET}_")


def _named_facts(row: Mapping[str, object], *, prefix: str) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if (name := _text(row, f"{prefix}name", most=MAX_NAME_LENGTH)) is not None:
        said["name"] = name
    if (status := _text(row, f"{prefix}status")) is not None:
        said["status"] = STATUSES.get(_words(status))
        if said["status"] is None:
            raise _Unusable(f"{status[:40]!r} is no status that is known here.")
    budget = f"{prefix}daily_budget"
    if (amount := _number(row.get(budget), budget)) is not None:
        said["daily_budget"] = amount
    elif _is_none(row, budget):
        said["daily_budget"] = None
    return said


def read_day(
    row: Mapping[str, object], *, entity: str, further_names: Iterable[str], today: date
) -> AdDay | None:
    """What a row says of a day of the entity that it is about; None where it has no number."""
    day = _day_of(row, today=today)
    sums = {
        name: _number(row.get(name), name, can_be_negative=name == "revenue") for name in AD_SUMS
    }
    further: dict[str, float] = {}
    for name in further_names:
        number = _number(row[name], name, can_be_negative=True)
        if number is not None:
            further[name.removeprefix(FURTHER_SUM_PREFIX)] = number
    if len(further) > MAX_FURTHER_SUMS:
        raise _Unusable(f"It has more than {MAX_FURTHER_SUMS} further sums.")
    if not further and all(number is None for number in sums.values()):
        return None
    return AdDay(entity_id=entity, day=day, **sums, further=further)


def _day_of(row: Mapping[str, object], *, today: date) -> date:
    given = _date_or_none(row, "date", today=today)
    if given is not None:
        return given
    first = _date_or_none(row, "first_day", today=today)
    last = _date_or_none(row, "last_day", today=today)
    if first is None or last is None:
        raise _Unusable("The date is missing.")
    if first != last:
        raise _Unusable(
            f"It is about the days from {first} to {last} together; break the report down by day."
        )
    return first


def _date_or_none(row: Mapping[str, object], name: str, *, today: date) -> date | None:
    value = row.get(name)
    return None if _is_blank(value) else _day(value, name, today=today)


def _day(value: object, name: str, *, today: date) -> date:
    if isinstance(value, date):
        found = value
    else:
        try:
            found = _read_day(value.strip()) if isinstance(value, str) else None
        except ValueError:
            found = None
    if found is None or type(found) is not date or found < FIRST_DAY:
        raise _Unusable(f"The {name} is not a day written as YYYY-MM-DD.")
    if found > today:
        raise _Unusable(f"The {name} {found} is in the future: today is {today} in UTC.")
    return found


@lru_cache(maxsize=4096)
def _read_day(text: str) -> date | None:
    return date.fromisoformat(text) if _DAY.fullmatch(text) else None


def _number(value: object, name: str, *, can_be_negative: bool = False) -> float | None:
    """A number, None for a blank; never a guess at what a comma means."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        if not _NUMBER.fullmatch(text):
            raise _Unusable(_no_number(text, name))
        number = float(text)
    elif isinstance(value, bool) or not isinstance(value, Real):
        raise _Unusable(f"The {name} is not a number.")
    else:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    if not abs(number) <= LARGEST_NUMBER:
        raise _Unusable(f"The {name} is not a finite number of a possible size.")
    if number < 0 and not can_be_negative:
        raise _Unusable(f"The {name} is negative.")
    # -0.0 is 0.0, and must not make another row of the same numbers.
    return number + 0.0


def _no_number(text: str, name: str) -> str:
    if re.fullmatch(r"[+-]?\d[\d.,'\u2019 \u00a0\u202f]*", text, re.ASCII):
        return (
            f"The {name} {text[:40]!r} can be read in two ways; write it without thousands "
            "separators and with a decimal point."
        )
    return f"The {name} {text[:40]!r} is not a number."


def _landing_url(value: object) -> str:
    text = _as_text(value, "landing_url", most=MAX_URL_LENGTH)
    if not _ADDRESS.fullmatch(text):
        raise _Unusable("The landing_url is no address that begins with https:// or the like.")
    return text


def _currency(value: object) -> str:
    code = _as_text(value, "currency", most=40).upper()
    if not _CURRENCY.fullmatch(code):
        raise _Unusable(f"{code[:40]!r} is not a currency of three letters, such as EUR.")
    return code


def _say(
    said: dict[str, Any],
    row: Mapping[str, object],
    name: str,
    read: Callable[[object], object],
) -> None:
    """Add what the row says: an empty cell says nothing, and null that there is none."""
    if _is_none(row, name):
        said[name] = None
    elif not _is_blank(row.get(name)):
        said[name] = read(row[name])


def _is_none(row: Mapping[str, object], name: str) -> bool:
    return name in row and row[name] is None


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(row: Mapping[str, object], name: str, *, most: int = 200) -> str | None:
    value = row.get(name)
    return None if _is_blank(value) else _as_text(value, name, most=most)


def _as_text(value: object, name: str, *, most: int) -> str:
    if not isinstance(value, str):
        raise _Unusable(f"The {name} is not text.")
    text = value.strip()
    if len(text) > most:
        raise _Unusable(f"The {name} is longer than {most} characters.")
    return text


def _id(row: Mapping[str, object], name: str) -> str | None:
    value = row.get(name)
    if _is_blank(value):
        return None
    if isinstance(value, Integral) and value is not True:
        # A number of unbounded length, of which an id is never made.
        value = str(value) if 0 < int(value) < 10**40 else "too long"
    text = value.strip() if isinstance(value, str) else ""
    if not is_platform_id(text):
        raise _Unusable(
            f"The {name} {text[:40]!r} is not what a platform calls anything; a spreadsheet rounds "
            "long numbers unless their column is text."
        )
    return text


def _check_unsaid(row: Mapping[str, object], names: Iterable[str], why: str) -> None:
    for name in names:
        if not _is_blank(row.get(name)):
            raise _Unusable(f"The {name} {why}.")


def _words(text: str) -> str:
    return re.sub(r"[\s-]+", "_", text.strip().lower())


def _unknown_field(name: object) -> str:
    text = str(name)[:60]
    if text.startswith(FURTHER_SUM_PREFIX):
        return (
            f"{text!r} is not the name of a further sum: ad. and then up to 40 of the characters "
            "a-z, 0-9 and _, beginning with a letter."
        )
    return f"{text!r} is not a name that is known here."
