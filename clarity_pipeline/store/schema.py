"""The tables as SQLAlchemy sees them; migrations/ makes them, and a test compares the two.

Names and columns are those of ARCHITECTURE section 4. Types are PostgreSQL's own where it has
them (`jsonb`, `date`, `timestamptz`) and ISO text on SQLite.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator, TypeEngine

from clarity_pipeline.store.storable import storable_text

SCHEMA_REVISION: Final = "0005"
"""The newest migration; Database.open compares it before it loads Alembic, which is slow."""

VERSION_TABLE: Final = "clarity_schema_version"
"""Not Alembic's default name: Dagster keeps its own `alembic_version`, maybe in this database."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: `timestamptz` on PostgreSQL, fixed-width ISO text in UTC on SQLite.

    The text sorts like time. A naive datetime is refused: nobody can say which instant it is.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(32))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("An instant needs a time zone; a naive datetime is refused.")
        instant = value.astimezone(UTC)
        return utc_text(instant) if dialect.name == "sqlite" else instant

    def process_result_value(
        self,
        value: str | datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        if value is None:
            return None
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
        # A list of a thousand businesses has four thousand instants, mostly as they should be.
        return instant if instant.tzinfo is UTC else instant.astimezone(UTC)


class PlainText(TypeDecorator[str]):
    """Text from anywhere; what PostgreSQL cannot hold is replaced on both databases."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else storable_text(value)


def utc_text(instant: datetime) -> str:
    """An aware instant as UTC ISO text of fixed width, as SQLite stores it."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


# "No value" is SQL NULL on both databases, never the JSON literal null.
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

# SQLite numbers rows by itself only for a column declared exactly INTEGER.
BigId = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _business_id(*, primary_key: bool = False) -> Column[str]:
    return Column(
        "business_id",
        String(64),
        ForeignKey("businesses.id"),
        primary_key=primary_key,
        nullable=False,
    )


businesses = Table(
    "businesses",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", PlainText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # Whether its people see the rules about it, and what they decided.
    Column("client_sees_rules", Boolean, nullable=False, server_default=text("false")),
)

business_config = Table(
    "clarity_business_config",
    metadata,
    _business_id(primary_key=True),
    Column("project_id", String(20)),
    Column("token_ciphertext", PlainText),
    Column("token_fingerprint", String(32)),
    Column("token_last4", String(4)),
    Column("token_expires_at", UtcDateTime),
    # Refusals of the token before this do not count: a person has vouched for it since.
    Column("token_trusted_since", UtcDateTime),
    Column("sync_enabled", Boolean, nullable=False),
    Column("disabled_by", String(16)),
    Column("disabled_reason", PlainText),
    Column("disabled_at", UtcDateTime),
    Column("last_tested_at", UtcDateTime),
    Column("last_test_result", PlainText),
    Column("last_synced_at", UtcDateTime),
    Column("overview", Boolean),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    CheckConstraint(
        "(project_id IS NULL) = (token_ciphertext IS NULL)", name="project_and_token_together"
    ),
    CheckConstraint("sync_enabled = (disabled_by IS NULL)", name="disabled_by_somebody"),
    Index(None, "project_id"),
)

api_calls = Table(
    "clarity_api_calls",
    metadata,
    Column("project_id", String(20), primary_key=True),
    Column("utc_day", Date, primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    _business_id(),
    Column("purpose", String(16), nullable=False),
    Column("dimension_set", String(64), nullable=False),
    Column("num_of_days", SmallInteger, nullable=False, server_default=text("1")),
    Column("token_fingerprint", String(32)),
    Column("reserved_at", UtcDateTime, nullable=False),
    Column("settled_at", UtcDateTime),
    Column("outcome", String(32)),
    CheckConstraint("slot BETWEEN 1 AND 10", name="ten_calls_a_day"),
    Index(None, "business_id", "utc_day"),
)

raw_exports = Table(
    "clarity_raw_exports",
    metadata,
    Column("id", BigId, primary_key=True),
    _business_id(),
    Column("project_id", String(20), nullable=False),
    Column("date", Date, nullable=False),
    Column("dimension_set", String(64), nullable=False),
    Column("dimensions", String(64), nullable=False),
    Column("num_of_days", SmallInteger, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("slot", SmallInteger, nullable=False),
    Column("http_status", SmallInteger, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("window_start", UtcDateTime, nullable=False),
    Column("window_end", UtcDateTime, nullable=False),
    # Empty once retention has removed the body: no frame of zstd is.
    Column("body_zstd", LargeBinary, nullable=False),
    Column("body_bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("verdict", String(32)),
    Column("verdict_detail", PlainText),
    Column("row_counts", Json),
    Column("truncated", Boolean),
    Column("unknown_blocks", Json),
    # What of a day has landed, of all businesses, without a look at the replies: each of them is
    # on a page of its own.
    Index(
        "ix_clarity_raw_exports_of_a_day",
        *("date", "business_id", "dimension_set", "num_of_days", "verdict"),
    ),
    # The days of one business: by the other index a quarter reads every reply there is of it.
    Index(None, "business_id", "date"),
    # An id must never be given out twice, or a metrics row would point at another reply.
    sqlite_autoincrement=True,
)

sync_jobs = Table(
    "clarity_sync_jobs",
    metadata,
    Column("id", BigId, primary_key=True),
    _business_id(),
    Column("date", Date, nullable=False),
    Column("trigger", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("dagster_run_id", String(64)),
    # "host:pid" of the process that works on it; says whether a job that is `running` still is.
    Column("worker", String(300)),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("calls_used", Integer, nullable=False, server_default=text("0")),
    Column("rows_written", Integer, nullable=False, server_default=text("0")),
    Column("combos", Json),
    Column("error_code", String(64)),
    Column("error_message", PlainText),
    Index(None, "business_id", "id"),
    Index(None, "business_id", "date"),
    Index(None, "date", "trigger"),
    # A step that is executed again in the same run continues its job instead of adding one.
    Index(None, "dagster_run_id", "business_id", "date", unique=True),
    Index(None, "status"),
    sqlite_autoincrement=True,
)

sync_requests = Table(
    "clarity_sync_requests",
    metadata,
    Column("id", BigId, primary_key=True),
    _business_id(),
    Column("date", Date, nullable=False),
    Column("requested_by", PlainText, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("dagster_run_id", String(64)),
    Column("picked_up_at", UtcDateTime),
    # Of a request that no run will ever work on, and why.
    Column("refused_at", UtcDateTime),
    Column("refusal", PlainText),
    Index(None, "picked_up_at"),
    Index(None, "business_id", "id"),
    sqlite_autoincrement=True,
)

daily_slices = Table(
    "clarity_daily_slices",
    metadata,
    _business_id(primary_key=True),
    Column("date", Date, primary_key=True),
    Column("dimension_set", String(64), primary_key=True),
    Column("raw_export_id", BigInteger, ForeignKey("clarity_raw_exports.id"), nullable=False),
    # Of a derived slice: the shorter reply that was taken away from that of raw_export_id.
    Column("subtracted_export_id", BigInteger),
    Column("built_from", String(96), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("raw_rows", Integer, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("window_start", UtcDateTime, nullable=False),
    Column("window_end", UtcDateTime, nullable=False),
    Column("row_counts", Json, nullable=False),
    Column("unknown_blocks", Json, nullable=False),
    Column("unknown_fields", Json, nullable=False),
    Column("missing_blocks", Json, nullable=False),
    Column("merged_tuples", Integer, nullable=False),
    Column("unreadable_values", Integer, nullable=False),
    Column("negative_differences", Integer, nullable=False, server_default=text("0")),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "date"),
)

# No foreign keys here: a trigger per row would cost a third of the load. The slice row, written
# in the same transaction, holds them for all its rows.
daily_metrics = Table(
    "clarity_daily_metrics",
    metadata,
    Column("business_id", String(64), primary_key=True),
    Column("date", Date, primary_key=True),
    Column("dimension_hash", String(32), primary_key=True),
    Column("dimension_set", String(64), nullable=False),
    Column("url", PlainText),
    Column("device", PlainText),
    Column("country", PlainText),
    Column("source", PlainText),
    Column("campaign", PlainText),
    Column("channel", PlainText),
    Column("browser", PlainText),
    Column("os", PlainText),
    Column("medium", PlainText),
    Column("sessions", BigInteger),
    Column("bot_sessions", BigInteger),
    Column("distinct_users", BigInteger),
    Column("pages_per_session", Double),
    Column("scroll_depth", Double),
    Column("engagement_time_ms", BigInteger),
    Column("dead_clicks", BigInteger),
    Column("rage_clicks", BigInteger),
    Column("excessive_scroll", BigInteger),
    Column("quick_backs", BigInteger),
    Column("script_errors", BigInteger),
    Column("error_clicks", BigInteger),
    # The raw tuples that became this row, as domain.normalise.NormalisedSlice describes them.
    Column("raw_payload", Json, nullable=False),
    Column("window_start", UtcDateTime, nullable=False),
    Column("window_end", UtcDateTime, nullable=False),
    Column("raw_export_id", BigInteger, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "business_id", "dimension_set", "date"),
    postgresql_partition_by="RANGE (date)",
)


def _daily_sums() -> list[Column[Any]]:
    """The columns of domain.aggregates.DailySums, in its order."""
    return [
        Column("sessions", BigInteger),
        Column("rage_clicks", BigInteger),
        Column("rage_click_sessions", BigInteger, nullable=False),
        Column("dead_clicks", BigInteger),
        Column("dead_click_sessions", BigInteger, nullable=False),
        Column("excessive_scroll", BigInteger),
        Column("quick_backs", BigInteger),
        Column("quick_back_sessions", BigInteger, nullable=False),
        Column("scroll_depth_sum", Double, nullable=False),
        Column("scroll_depth_page_views", Double, nullable=False),
        Column("engagement_time_ms_sum", BigInteger, nullable=False),
        Column("engagement_sessions", BigInteger, nullable=False),
    ]


business_aggregates = Table(
    "clarity_business_aggregates",
    metadata,
    _business_id(primary_key=True),
    Column("date", Date, primary_key=True),
    *_daily_sums(),
    Column("session_basis", String(16), nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("built_from", PlainText, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "date"),
    # All that a list of businesses shows and is sorted by: a month of a thousand is 30,000 days.
    Index(
        "ix_clarity_business_aggregates_of_a_business",
        *("business_id", "date", "sessions", "rage_clicks", "rage_click_sessions"),
    ),
)

dimension_aggregates = Table(
    "clarity_dimension_aggregates",
    metadata,
    _business_id(primary_key=True),
    Column("date", Date, primary_key=True),
    Column("dimension", String(16), primary_key=True),
    # A value may be longer than an index entry can be, so those of a day are numbered from 1.
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("value", PlainText),
    *_daily_sums(),
    Column("built_from", PlainText, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)

url_aggregates = Table(
    "clarity_url_aggregates",
    metadata,
    _business_id(primary_key=True),
    Column("date", Date, primary_key=True),
    # The address itself may be longer than an index entry can be.
    Column("url_hash", String(32), primary_key=True),
    Column("url", PlainText, nullable=False),
    *_daily_sums(),
    Column("truncated", Boolean, nullable=False),
    Column("built_from", PlainText, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "date"),
)

# Of weeks that are over, so that a quarter of a large site is some twenty rows a page, not ninety.
url_week_aggregates = Table(
    "clarity_url_week_aggregates",
    metadata,
    _business_id(primary_key=True),
    # The Monday with which it begins.
    Column("week", Date, primary_key=True),
    Column("url_hash", String(32), primary_key=True),
    Column("rage_clicks", BigInteger),
    Column("rage_click_sessions", BigInteger, nullable=False),
    Column("dead_clicks", BigInteger),
    Column("dead_click_sessions", BigInteger, nullable=False),
    Column("quick_backs", BigInteger),
    Column("quick_back_sessions", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

notices = Table(
    "clarity_notices",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("subject", String(200), nullable=False),
    Column("state", String(64), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("title", PlainText, nullable=False),
    Column("body", PlainText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("last_attempt_at", UtcDateTime),
    Column("last_error", PlainText),
    Index(None, "subject", "id"),
    Index(None, "sent_at"),
    sqlite_autoincrement=True,
)

panel_users = Table(
    "panel_users",
    metadata,
    Column("id", BigId, primary_key=True),
    # Lower case, so that nobody can have two accounts that look alike.
    Column("login", String(254), nullable=False, unique=True),
    Column("password_hash", PlainText, nullable=False),
    Column("role", String(16), nullable=False),
    Column("business_id", String(64), ForeignKey("businesses.id")),
    Column("created_at", UtcDateTime, nullable=False),
    Column("password_changed_at", UtcDateTime, nullable=False),
    Column("last_login_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    CheckConstraint(
        "(role = 'client') = (business_id IS NOT NULL)", name="a_client_has_one_business"
    ),
    Index(None, "business_id"),
    sqlite_autoincrement=True,
)

panel_sessions = Table(
    "panel_sessions",
    metadata,
    # SHA-256 of what the cookie holds: who reads this table cannot sign in with it.
    Column("token_hash", String(64), primary_key=True),
    Column("user_id", BigInteger, ForeignKey("panel_users.id"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("remote_address", String(64)),
    Column("user_agent", String(300)),
    Index(None, "user_id"),
    Index(None, "expires_at"),
)

panel_login_failures = Table(
    "panel_login_failures",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("login", String(254), nullable=False),
    Column("remote_address", String(64), nullable=False),
    Column("failed_at", UtcDateTime, nullable=False),
    Index(None, "login", "failed_at"),
    Index(None, "remote_address", "failed_at"),
    Index(None, "failed_at"),
    sqlite_autoincrement=True,
)

panel_setup_codes = Table(
    "panel_setup_codes",
    metadata,
    Column("code_hash", String(64), primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
)

panel_api_keys = Table(
    "panel_api_keys",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("key_last4", String(4), nullable=False),
    Column("scope", String(16), nullable=False),
    # A key without a business is the agency's.
    Column("business_id", String(64), ForeignKey("businesses.id")),
    Column("created_by", PlainText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    sqlite_autoincrement=True,
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", PlainText, nullable=False),
    Column("action", String(64), nullable=False),
    # No foreign key: what was done stays on record whatever becomes of the business.
    Column("business_id", String(64)),
    Column("detail", Json),
    Column("remote_address", String(64)),
    Index(None, "business_id", "id"),
    Index(None, "at"),
    sqlite_autoincrement=True,
)

rules = Table(
    "rules",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("name", PlainText, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("document", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    # What a rule decided stays on record, so it is put away and never deleted.
    Column("archived_at", UtcDateTime),
    Index(
        "uq_rules_name_in_use",
        "name",
        unique=True,
        sqlite_where=text("archived_at IS NULL"),
        postgresql_where=text("archived_at IS NULL"),
    ),
    sqlite_autoincrement=True,
)

rule_versions = Table(
    "rule_versions",
    metadata,
    Column("rule_id", BigInteger, ForeignKey("rules.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Json, nullable=False),
    Column("made_by", PlainText, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("note", PlainText),
)

rule_evaluations = Table(
    "rule_evaluations",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("rule_id", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    # NULL for entities that belong to nobody.
    Column("business_id", String(64), ForeignKey("businesses.id")),
    Column("date", Date, nullable=False),
    # acting, shadow, or late: of a day so long over that nothing may be done about it.
    Column("mode", String(16), nullable=False),
    Column("entities", Integer, nullable=False),
    Column("fired", Integer, nullable=False),
    Column("not_fired", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("reasons", Json, nullable=False),
    # The inputs and answers of every entity, packed (domain/rules/records.py).
    Column("evidence", LargeBinary, nullable=False),
    Column("evidence_hash", String(32), nullable=False),
    # Entities by condition that were true when last known: what a `leave` threshold goes by.
    Column("held", Json, nullable=False),
    Column("evaluated_at", UtcDateTime, nullable=False),
    Column("dagster_run_id", String(64)),
    ForeignKeyConstraint(
        ["rule_id", "version"],
        ["rule_versions.rule_id", "rule_versions.version"],
        name="fk_rule_evaluations_rule_version",
    ),
    Index(None, "rule_id", "business_id", "date", "id"),
    Index(None, "business_id", "date"),
    Index(None, "date"),
    sqlite_autoincrement=True,
)

rule_decisions = Table(
    "rule_decisions",
    metadata,
    Column("evaluation_id", BigInteger, ForeignKey("rule_evaluations.id"), primary_key=True),
    # Its place in the evidence.
    Column("position", Integer, primary_key=True),
    Column("rule_id", BigInteger, ForeignKey("rules.id"), nullable=False),
    Column("business_id", String(64), ForeignKey("businesses.id")),
    Column("date", Date, nullable=False),
    Column("entity_id", String(200), nullable=False),
    Column("entity_name", PlainText, nullable=False),
    Column("truth", SmallInteger, nullable=False),
    Column("previous_truth", SmallInteger),
    Column("decided_by", PlainText, nullable=False),
    Column("reason", String(32)),
    Index(None, "rule_id", "date"),
    Index(None, "business_id", "date"),
    Index(None, "entity_id", "date"),
    Index(None, "date"),
)

rule_actions = Table(
    "rule_actions",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("evaluation_id", BigInteger, ForeignKey("rule_evaluations.id"), nullable=False),
    Column("rule_id", BigInteger, ForeignKey("rules.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("business_id", String(64), ForeignKey("businesses.id")),
    Column("date", Date, nullable=False),
    # NULL for an alert or a webhook, which tell of all entities of an evaluation at once.
    Column("entity_id", String(200)),
    Column("account_id", String(200)),
    Column("kind", String(16), nullable=False),
    Column("action", Json, nullable=False),
    # Places in the evidence that it is about, budgets and states before and after.
    Column("detail", Json, nullable=False),
    # However often a decision is made again, its action is here once.
    Column("idempotency_key", String(200), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("reason", PlainText),
    Column("created_at", UtcDateTime, nullable=False),
    Column("judged_by", PlainText),
    Column("judged_at", UtcDateTime),
    Column("attempts", SmallInteger, nullable=False),
    Column("last_attempt_at", UtcDateTime),
    Column("next_attempt_at", UtcDateTime),
    Column("done_at", UtcDateTime),
    Column("last_error", PlainText),
    Index(None, "status", "next_attempt_at"),
    Index(None, "rule_id", "created_at"),
    Index(None, "entity_id", "id"),
    Index(None, "business_id", "date"),
    Index(None, "evaluation_id"),
    sqlite_autoincrement=True,
)

rule_switch = Table(
    "rule_switch",
    metadata,
    # One row, or none while nobody has ever touched the switch.
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("is_paused", Boolean, nullable=False),
    Column("changed_by", PlainText, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("note", PlainText),
    CheckConstraint("id = 1", name="there_is_one_switch"),
)

ad_accounts = Table(
    "ad_accounts",
    metadata,
    # platform:id on the platform, like that of an entity.
    Column("id", String(200), primary_key=True),
    Column("platform", String(20), nullable=False),
    Column("platform_id", String(150), nullable=False),
    Column("business_id", String(64), ForeignKey("businesses.id"), nullable=False, index=True),
    Column("token_ciphertext", PlainText),
    Column("token_last4", String(4)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("disabled_reason", PlainText),
)

ad_entities = Table(
    "ad_entities",
    metadata,
    # platform:id on the platform.
    Column("id", String(200), primary_key=True),
    Column("platform", String(20), nullable=False),
    Column("platform_id", String(150), nullable=False),
    Column("level", String(16), nullable=False),
    Column("parent_id", String(200), index=True),
    Column("account_id", String(200)),
    Column("business_id", String(64), ForeignKey("businesses.id"), index=True),
    Column("name", PlainText, nullable=False),
    Column("status", String(16), nullable=False),
    # As it was given, and in the spelling of clarity_url_aggregates.
    Column("landing_url", PlainText),
    Column("landing_page", PlainText),
    Column("daily_budget", Double),
    Column("currency", String(3)),
    Column("changed_on", Date),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

ad_entity_metrics = Table(
    "ad_entity_metrics",
    metadata,
    Column("entity_id", String(200), ForeignKey("ad_entities.id"), primary_key=True),
    Column("date", Date, primary_key=True),
    Column("spend", Double),
    Column("impressions", Double),
    Column("clicks", Double),
    Column("conversions", Double),
    Column("revenue", Double),
    # Any further sums by name, without the `ad.` of a rule.
    Column("further", Json),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "date"),
)
