"""Telling a network that is gone for everybody from a business that is hard to reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from clarity_pipeline.domain.errors import ExportError
from clarity_pipeline.domain.failures import consequence_of

DOWN_AFTER_BUSINESSES: Final = 3
"""So many businesses without a connection, and nobody with one, are our own fault."""


@dataclass(slots=True)
class NetworkWatch:
    """What the calls of one run say about the network.

    A single business that cannot be reached is its own trouble, however often. Once Clarity has
    answered anybody, with whatever status, the network is there: a blip later in the run must
    not cost two hundred businesses their day.
    """

    _unreached: set[str] = field(default_factory=lambda: set[str](), init=False)
    _answered: bool = field(default=False, init=False)

    def note(self, business_id: str, failure: ExportError | None) -> None:
        """Take in how a call of a business ended; None is a reply that was accepted."""
        if failure is None or failure.http_status is not None:
            self._answered = True
        elif consequence_of(failure).may_be_our_network:
            self._unreached.add(business_id)

    @property
    def is_down(self) -> bool:
        return not self._answered and len(self._unreached) >= DOWN_AFTER_BUSINESSES
