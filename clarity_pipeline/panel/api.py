"""The API for programs: one router per subject, included for the agency and for clients."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from clarity_pipeline.panel import (
    api_ads,
    api_agency,
    api_connection,
    api_document,
    api_figures,
    api_rules,
)

of_business: Final = APIRouter()
"""What there is of one business; included below its id for the agency, without one for clients."""

for _subject in (api_connection.router, api_connection.syncs, api_figures.router):
    of_business.include_router(_subject)

purging: Final = api_connection.purging
"""What the agency alone may do to a business: a client does not delete what the agency collected.
"""

of_agency: Final = APIRouter()
"""What is about the agency as a whole."""

for _subject in (api_agency.router, api_ads.router, api_rules.router):
    of_agency.include_router(_subject)

rule_visibility: Final = api_rules.visibility
"""Whether a client sees the rules about its business, which the agency alone decides."""

rules_of_client: Final = api_rules.of_client
"""What a client reads of rules, where it is shown them."""

public: Final = api_document.router
