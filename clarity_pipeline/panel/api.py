"""The API for programs: one router per subject, included for the agency and for clients."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from clarity_pipeline.panel import api_agency, api_connection, api_document, api_figures

of_business: Final = APIRouter()
"""What there is of one business; included below its id for the agency, without one for clients."""

for _subject in (api_connection.router, api_connection.syncs, api_figures.router):
    of_business.include_router(_subject)

of_agency: Final = api_agency.router
public: Final = api_document.router
