"""What a call can be split by: the API's dimensions, our combos, and the identity of a row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from clarity_pipeline.domain.errors import InvalidRequest

MAX_DIMENSIONS: Final = 3


class Dimension(StrEnum):
    """A dimension by the name that is sent; names are case-sensitive (FACTS section 1).

    The documented `Country/Region` is dropped silently by the live API, `Country` works
    (FACTS sections 1 and 12).
    """

    URL = "URL"
    DEVICE = "Device"
    COUNTRY = "Country"
    SOURCE = "Source"
    CAMPAIGN = "Campaign"
    CHANNEL = "Channel"
    BROWSER = "Browser"
    OS = "OS"
    MEDIUM = "Medium"

    @property
    def row_key(self) -> str:
        """The key of this dimension's value in a reply's rows: `URL` comes back as `Url`."""
        return "Url" if self is Dimension.URL else self.value

    @property
    def column(self) -> str:
        """The column of `clarity_daily_metrics` that holds this dimension's value."""
        return self.value.lower()

    @classmethod
    def parse(cls, name: str) -> Dimension:
        """Accept any spelling that people use; raises InvalidRequest for an unknown dimension."""
        folded = name.strip().lower()
        if folded in {"country/region", "country_region", "region"}:
            return cls.COUNTRY
        for dimension in cls:
            if dimension.value.lower() == folded:
                return dimension
        known = ", ".join(dimension.value for dimension in cls)
        raise InvalidRequest(f"{name!r} is not a dimension of the Export API; use one of {known}.")


DIMENSION_COLUMNS: Final[tuple[str, ...]] = tuple(dimension.column for dimension in Dimension)


@dataclass(frozen=True, slots=True)
class DimensionCombo:
    """Up to three distinct dimensions of one call, in order of sending; none: the overview."""

    dimensions: tuple[Dimension, ...] = ()

    def __post_init__(self) -> None:
        if len(self.dimensions) > MAX_DIMENSIONS:
            raise InvalidRequest(
                f"A call takes at most {MAX_DIMENSIONS} dimensions, not {len(self.dimensions)}."
            )
        if len(set(self.dimensions)) != len(self.dimensions):
            raise InvalidRequest("A call takes each dimension once.")

    @property
    def dimension_set(self) -> str:
        """The names sorted and joined by a comma: `Device,URL`; empty for the overview."""
        return ",".join(sorted(dimension.value for dimension in self.dimensions))

    @property
    def slug(self) -> str:
        """A name for ops, log lines and metadata: `url_device`, `overview`."""
        return "_".join(dimension.column for dimension in self.dimensions) or "overview"

    @property
    def label(self) -> str:
        """A name for people: `URL + Device`, `Overview`."""
        return " + ".join(dimension.value for dimension in self.dimensions) or "Overview"


URL_DEVICE: Final = DimensionCombo((Dimension.URL, Dimension.DEVICE))
URL_SOURCE: Final = DimensionCombo((Dimension.URL, Dimension.SOURCE))
URL_COUNTRY: Final = DimensionCombo((Dimension.URL, Dimension.COUNTRY))
URL_CAMPAIGN_CHANNEL: Final = DimensionCombo((Dimension.URL, Dimension.CAMPAIGN, Dimension.CHANNEL))
OVERVIEW: Final = DimensionCombo()

DEFAULT_COMBOS: Final[tuple[DimensionCombo, ...]] = (
    URL_DEVICE,
    URL_SOURCE,
    URL_COUNTRY,
    URL_CAMPAIGN_CHANNEL,
)
"""What a day consists of, most valuable first: the aggregates are built on URL + Device alone."""

COMBO_BY_DIMENSION_SET: Final[Mapping[str, DimensionCombo]] = {
    combo.dimension_set: combo for combo in (*DEFAULT_COMBOS, OVERVIEW)
}


def combos_of_a_day(*, overview: bool) -> tuple[DimensionCombo, ...]:
    """The combos that make one business-day complete, most valuable first."""
    return (*DEFAULT_COMBOS, OVERVIEW) if overview else DEFAULT_COMBOS


def dimension_hash(dimension_set: str, values: Mapping[Dimension, str | None]) -> str:
    """Identity of a row within its business and day: 32 hex digits.

    Length-prefixed, so that no choice of values can imitate another row; NULL, the empty
    string and an absent dimension are three different things. Stable for ever: it is part
    of a primary key.
    """
    return dimension_hashes(dimension_set, list(values), [tuple(values.values())])[0]


def dimension_hashes(
    dimension_set: str, dimensions: Sequence[Dimension], rows: Iterable[Sequence[str | None]]
) -> list[str]:
    """`dimension_hash` of many rows, each the values of `dimensions` in that order."""
    prefix = _length_prefixed(dimension_set)
    if not dimensions:
        return [_digest(prefix) for _ in rows]
    columns = list(zip(*rows, strict=True)) or [()] * len(dimensions)
    by_name = sorted(zip(dimensions, columns, strict=True), key=lambda column: column[0].value)
    # A page is in many rows: each distinct value is put into bytes once.
    in_bytes = [
        map(_named_values(dimension, values).__getitem__, values) for dimension, values in by_name
    ]
    return [_digest(prefix + b"".join(parts)) for parts in zip(*in_bytes, strict=True)]


def _digest(identity: bytes) -> str:
    return hashlib.blake2b(identity, digest_size=16).hexdigest()


def _named_values(dimension: Dimension, values: Sequence[str | None]) -> dict[str | None, bytes]:
    name = _length_prefixed(dimension.value)
    return {value: name + _length_prefixed(value) for value in set(values)}


def _length_prefixed(text: str | None) -> bytes:
    if text is None:
        return b"n;"
    raw = text.encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(raw), raw)
