"""Thin shells: each makes plain objects of `store`, `export_api` and `operations` for one run.

Nothing here holds a secret in its fields: Dagster shows resource fields to everybody. The
database URL, the keys and the API's address come from the settings when a run starts.
"""

from datetime import UTC, datetime

import dagster as dg
from pydantic import Field, PrivateAttr

from clarity_pipeline.domain.quota import CALL_TIMEOUT_SECONDS
from clarity_pipeline.export_api.client import ExportApiClient, Timeouts
from clarity_pipeline.operations.call_runner import CallRunner
from clarity_pipeline.operations.guarded_call import GuardedCaller
from clarity_pipeline.settings import Settings, load_settings
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault, open_vault


class ClockResource(dg.ConfigurableResource[None]):
    """What time it is; tests and the demo stand still."""

    fixed_at: str | None = Field(
        default=None, description="An ISO instant with offset to stand still at; now when unset."
    )

    def now(self) -> datetime:
        """The current instant, UTC."""
        if self.fixed_at is None:
            return datetime.now(UTC)
        return datetime.fromisoformat(self.fixed_at).astimezone(UTC)


class StoreResource(dg.ConfigurableResource[None]):
    """The database and the vault of the settings, opened when a run first needs them."""

    _settings: Settings | None = PrivateAttr(default=None)
    _database: Database | None = PrivateAttr(default=None)
    _vault: TokenVault | None = PrivateAttr(default=None)

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            self._settings = load_settings()
        return self._settings

    @property
    def database(self) -> Database:
        if self._database is None:
            self._database = Database.open(self.settings.database_url_or_default)
        return self._database

    @property
    def vault(self) -> TokenVault:
        if self._vault is None:
            self._vault = open_vault(self.settings)
        return self._vault

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        if self._database is not None:
            self._database.close()
            self._database = None


class ExportApiResource(dg.ConfigurableResource[None]):
    """The Export API behind the quota ledger: one call runner per process and run."""

    most_calls_at_once: int = Field(
        default=32,
        ge=1,
        le=100,
        description="Over all projects; of one project it is never more than its combos.",
    )
    retry_after_seconds: float = Field(
        default=15.0, ge=0, description="Pause before the one more try of a transient failure."
    )
    silence_timeout_seconds: float = Field(
        default=Timeouts().read_seconds,
        gt=0,
        description="A call that brings nothing for so long is given up.",
    )
    call_timeout_seconds: float = Field(
        default=CALL_TIMEOUT_SECONDS,
        gt=0,
        # After this time and a margin others take the slot of a call for that of a dead process.
        le=CALL_TIMEOUT_SECONDS,
        description="A call whose reply is not complete by then is given up.",
    )

    _runner: CallRunner | None = PrivateAttr(default=None)

    def call_runner(self, store: StoreResource, clock: ClockResource) -> CallRunner:
        """The run's call runner; every op of this process gets the same one."""
        if self._runner is None:
            settings = store.settings
            self._runner = CallRunner(
                GuardedCaller(
                    database=store.database,
                    vault=store.vault,
                    client=ExportApiClient(
                        base_url=settings.api_url,
                        max_connections=self.most_calls_at_once,
                        timeouts=Timeouts(
                            read_seconds=self.silence_timeout_seconds,
                            total_seconds=self.call_timeout_seconds,
                        ),
                    ),
                    clock=clock.now,
                    overview_default=settings.overview,
                    retry_after_seconds=self.retry_after_seconds,
                    most_at_once=self.most_calls_at_once,
                )
            )
        return self._runner

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        if self._runner is not None:
            self._runner.close()
            self._runner = None
