"""What a request works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from fastapi import Request

from clarity_pipeline.export_api.client import ExportApiClient
from clarity_pipeline.operations.guarded_call import GuardedCaller
from clarity_pipeline.settings import Settings
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault, open_vault


@dataclass(frozen=True, slots=True)
class PanelServices:
    """Settings, the store and the time. The keys are read when a token has to be, not before."""

    settings: Settings
    database: Database
    clock: Callable[[], datetime]

    @property
    def vault(self) -> TokenVault:
        """Raises SecretKeyError."""
        return open_vault(self.settings)

    @property
    def is_https(self) -> bool:
        return urlsplit(self.settings.panel_url).scheme == "https"

    def caller(self) -> GuardedCaller:
        """For one call to Clarity; the client is closed by whoever makes it."""
        return GuardedCaller(
            database=self.database,
            vault=self.vault,
            client=ExportApiClient(base_url=self.settings.api_url),
            clock=self.clock,
            overview_default=self.settings.overview,
            retry_after_seconds=0,
        )


def services_of(request: Request) -> PanelServices:
    """The services that the application was made with."""
    services = request.app.state.services
    assert isinstance(services, PanelServices)
    return services
