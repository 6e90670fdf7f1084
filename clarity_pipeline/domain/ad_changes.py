"""What rows about ads make of the entities that there are: each is taken whole, or refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from clarity_pipeline.domain.ad_rows import LEVELS, GatheredFacts, GatheredRows
from clarity_pipeline.domain.ads import AdEntity
from clarity_pipeline.domain.rules.model import Level
from clarity_pipeline.domain.urls import canonical_url

_RANK: Final = {level: rank for rank, level in enumerate(LEVELS)}


@dataclass(frozen=True, slots=True)
class EntityChanges:
    """The entities as they are to stand, and the reasons of the lines that are refused."""

    entities: tuple[AdEntity, ...]
    refused: Mapping[int, str]


class _Impossible(Exception):
    """Why what is said of an entity cannot be."""


def change_entities(
    gathered: GatheredRows,
    *,
    standing: Mapping[str, AdEntity],
    businesses: Collection[str],
    today: date,
) -> EntityChanges:
    """Lay what rows say over what stands.

    `standing` has the entities that are named, and what those hang from. What a row does not say
    stays. A row is refused as a whole, so that an ad never stands there without the campaign that
    its row could not bring; others that need what it would have brought are refused with it.
    """
    refused = dict(gathered.refused)
    while True:
        accepted: dict[str, AdEntity] = {}
        newly_refused: dict[int, str] = {}
        for facts in _from_the_top(gathered, standing):
            lines = [line for line in facts.lines if line not in refused]
            if not lines:
                continue
            try:
                accepted[facts.id] = _entity(
                    facts, accepted, standing, businesses=businesses, today=today
                )
            except _Impossible as impossible:
                for line in lines:
                    newly_refused.setdefault(line, str(impossible))
        if not newly_refused:
            return EntityChanges(tuple(accepted.values()), refused)
        refused |= newly_refused


def _from_the_top(gathered: GatheredRows, standing: Mapping[str, AdEntity]) -> list[GatheredFacts]:
    """What is above another comes before it."""
    return sorted(
        gathered.facts.values(), key=lambda facts: _RANK[_level(facts, standing) or Level.AD]
    )


def _level(facts: GatheredFacts, standing: Mapping[str, AdEntity]) -> Level | None:
    said = facts.said.get("level")
    if said is None and facts.id in standing:
        return standing[facts.id].level
    return said


def _entity(
    facts: GatheredFacts,
    accepted: Mapping[str, AdEntity],
    standing: Mapping[str, AdEntity],
    *,
    businesses: Collection[str],
    today: date,
) -> AdEntity:
    before = standing.get(facts.id)
    level = _level(facts, standing)
    if level is None:
        raise _Impossible(f"There is no {facts.id} yet, and its level is not said.")
    if before is not None and before.level is not level:
        raise _Impossible(f"{facts.id} is known as {_a(before.level)}, and not as {_a(level)}.")
    if before is None:
        before = AdEntity(
            id=facts.id,
            platform=facts.platform,
            platform_id=facts.platform_id,
            level=level,
            name=facts.platform_id,
        )
    entity = replace(before, **facts.said)
    parent = _parent(entity, accepted, standing)
    entity = replace(
        entity, business_id=_business_id(entity, facts.said, parent, businesses=businesses)
    )
    return _with_landing_page(entity, facts.said, before=before, today=today)


def _parent(
    entity: AdEntity, accepted: Mapping[str, AdEntity], standing: Mapping[str, AdEntity]
) -> AdEntity | None:
    if entity.parent_id is None:
        return None
    if entity.parent_id == entity.id:
        raise _Impossible(f"{entity.id} cannot be its own parent.")
    parent = accepted.get(entity.parent_id) or standing.get(entity.parent_id)
    if parent is None:
        raise _Impossible(f"Its parent {entity.parent_id} is not there, or was refused.")
    if _RANK[parent.level] >= _RANK[entity.level]:
        raise _Impossible(
            f"Its parent {parent.id} is {_a(parent.level)}, which {_a(entity.level)} cannot be "
            "below."
        )
    return parent


def _business_id(
    entity: AdEntity,
    said: Mapping[str, Any],
    parent: AdEntity | None,
    *,
    businesses: Collection[str],
) -> str | None:
    """The business that an entity belongs to: what hangs below another belongs to the same."""
    named = said.get("business_id")
    if named is not None and named not in businesses:
        raise _Impossible(f"There is no business {named!r}.")
    above = parent.business_id if parent is not None else None
    if above is None:
        return entity.business_id
    if named is not None and named != above:
        raise _Impossible(
            f"It is to belong to business {named!r}, and its parent belongs to {above!r}."
        )
    return above


def _with_landing_page(
    entity: AdEntity, said: Mapping[str, Any], *, before: AdEntity, today: date
) -> AdEntity:
    url = entity.landing_url
    page = None if url is None else canonical_url(url)
    changed_on = entity.changed_on
    # One that was not known before has not changed, as far as anybody can tell.
    has_changed = None not in {before.landing_page, page} and before.landing_page != page
    if has_changed and said.get("changed_on") is None:
        changed_on = today
    return replace(entity, landing_page=page, changed_on=changed_on)


def _a(level: Level) -> str:
    word = level.value.replace("_", " ")
    return f"an {word}" if word.startswith("a") else f"a {word}"
