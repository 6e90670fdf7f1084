"""What rules are evaluated on: entities, and the daily sums of what they are measured by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import IntFlag, StrEnum

import numpy as np
from numpy.typing import NDArray

from clarity_pipeline.domain.rules.model import EntityStatus, Level

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Bases = NDArray[np.uint8]
"""What days are counted in, a bit for each: values of Basis, or the currencies of a business."""


class Source(StrEnum):
    """Whose days a condition reads."""

    BUSINESS = "business"
    LANDING_PAGE = "landing_page"
    ADS = "ads"


class Basis(IntFlag):
    """What a day counts as a session; days of both do not add up."""

    SESSIONS = 1
    PAGE_SESSIONS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One thing that rules are evaluated for.

    `is_connected` and `is_enabled` are about its business's Clarity. `changed_on` is the UTC day
    on which it, or its landing page, was last changed.
    """

    id: str
    level: Level
    business_id: str | None
    status: EntityStatus = EntityStatus.ACTIVE
    name: str = ""
    landing_page: str | None = None
    is_connected: bool = True
    is_enabled: bool = True
    changed_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entities:
    """Many entities, a column per fact. No business is "", no landing page is "".

    `changed_on` has the ordinals of days (`date.toordinal`), 0 where nothing is known.
    """

    ids: Sequence[str]
    names: Sequence[str]
    landing_pages: Sequence[str]
    levels: NDArray[np.str_]
    statuses: NDArray[np.str_]
    business_ids: NDArray[np.str_]
    has_landing_page: Booleans
    is_connected: Booleans
    is_enabled: Booleans
    changed_on: Integers

    @classmethod
    def of(cls, entities: Sequence[Entity]) -> Entities:
        return cls(
            ids=[each.id for each in entities],
            names=[each.name for each in entities],
            landing_pages=[each.landing_page or "" for each in entities],
            levels=np.array([each.level.value for each in entities], dtype=np.str_),
            statuses=np.array([each.status.value for each in entities], dtype=np.str_),
            business_ids=np.array([each.business_id or "" for each in entities], dtype=np.str_),
            has_landing_page=np.array([bool(each.landing_page) for each in entities], np.bool_),
            is_connected=np.array([each.is_connected for each in entities], np.bool_),
            is_enabled=np.array([each.is_enabled for each in entities], np.bool_),
            changed_on=np.array(
                [each.changed_on.toordinal() if each.changed_on else 0 for each in entities],
                np.int64,
            ),
        )

    def take(self, rows: NDArray[np.intp]) -> Entities:
        """The entities at these places, in this order."""
        return Entities(
            ids=[self.ids[int(row)] for row in rows],
            names=[self.names[int(row)] for row in rows],
            landing_pages=[self.landing_pages[int(row)] for row in rows],
            levels=self.levels[rows],
            statuses=self.statuses[rows],
            business_ids=self.business_ids[rows],
            has_landing_page=self.has_landing_page[rows],
            is_connected=self.is_connected[rows],
            is_enabled=self.is_enabled[rows],
            changed_on=self.changed_on[rows],
        )

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class DailySeries:
    """Daily sums of one source, rows x days; the first column is `first_day` (UTC).

    Several entities may read one row: all ads of a business read the business's. `row_of_entity`
    has a row per entity, -1 for one that has none. A day counts only where `has_data`; a sum that
    is not known on a day with data is NaN, never 0, and an infinite one is taken for unknown. A
    series that is not in `values` is unknown on all days. `basis` says what each day is counted in,
    where days can differ in that: what it takes for a session, or whose money; 0 is not known.

    Arrays in column-major order are read fastest.
    """

    first_day: date
    has_data: Booleans
    values: Mapping[str, Floats]
    row_of_entity: Integers
    basis: Bases | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where the arrays do not fit each other."""
        arrays = [*self.values.values(), *([] if self.basis is None else [self.basis])]
        if any(array.shape != self.has_data.shape for array in arrays):
            raise ValueError("every series has the rows and days of `has_data`")
        rows = len(self.has_data)
        if len(self.row_of_entity) and not (
            self.row_of_entity.min() >= -1 and self.row_of_entity.max() < rows
        ):
            raise ValueError("an entity reads a row that is not there")

    @property
    def first_ordinal(self) -> int:
        return self.first_day.toordinal()

    @property
    def last_ordinal(self) -> int:
        return self.first_ordinal + self.has_data.shape[1] - 1
