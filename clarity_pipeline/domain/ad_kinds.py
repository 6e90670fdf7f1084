"""What can be taken out of rows about ads; apart, so that `clarity --help` loads nothing more."""

from __future__ import annotations

from enum import StrEnum


class AdRowKind(StrEnum):
    """What is taken out of rows."""

    ENTITIES = "entities"
    METRICS = "metrics"
    BOTH = "both"
