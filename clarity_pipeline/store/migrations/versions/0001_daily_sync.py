"""The tables of the daily sync: businesses, quota ledger, landing, metrics, aggregates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Spelled out rather than imported from schema.py: a migration must not change when that does.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")
DOUBLE: sa.Double[float] = sa.Double()
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:

    op.create_table(
        "businesses",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_businesses"),
    )
    op.create_table(
        "clarity_daily_metrics",
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("dimension_hash", sa.String(length=32), nullable=False),
        sa.Column("dimension_set", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text()),
        sa.Column("device", sa.Text()),
        sa.Column("country", sa.Text()),
        sa.Column("source", sa.Text()),
        sa.Column("campaign", sa.Text()),
        sa.Column("channel", sa.Text()),
        sa.Column("browser", sa.Text()),
        sa.Column("os", sa.Text()),
        sa.Column("medium", sa.Text()),
        sa.Column("sessions", sa.BigInteger()),
        sa.Column("bot_sessions", sa.BigInteger()),
        sa.Column("distinct_users", sa.BigInteger()),
        sa.Column("pages_per_session", DOUBLE),
        sa.Column("scroll_depth", DOUBLE),
        sa.Column("engagement_time_ms", sa.BigInteger()),
        sa.Column("dead_clicks", sa.BigInteger()),
        sa.Column("rage_clicks", sa.BigInteger()),
        sa.Column("excessive_scroll", sa.BigInteger()),
        sa.Column("quick_backs", sa.BigInteger()),
        sa.Column("script_errors", sa.BigInteger()),
        sa.Column("error_clicks", sa.BigInteger()),
        sa.Column("raw_payload", JSON, nullable=False),
        sa.Column("window_start", INSTANT, nullable=False),
        sa.Column("window_end", INSTANT, nullable=False),
        sa.Column("raw_export_id", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint(
            "business_id", "date", "dimension_hash", name="pk_clarity_daily_metrics"
        ),
        postgresql_partition_by="RANGE (date)",
    )
    op.create_index(
        "ix_clarity_daily_metrics_business_id_dimension_set_date",
        "clarity_daily_metrics",
        ["business_id", "dimension_set", "date"],
    )
    op.create_table(
        "clarity_api_calls",
        sa.Column("project_id", sa.String(length=20), nullable=False),
        sa.Column("utc_day", sa.Date(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("dimension_set", sa.String(length=64), nullable=False),
        sa.Column("reserved_at", INSTANT, nullable=False),
        sa.Column("settled_at", INSTANT),
        sa.Column("outcome", sa.String(length=32)),
        sa.CheckConstraint(
            "slot BETWEEN 1 AND 10", name=op.f("ck_clarity_api_calls_ten_calls_a_day")
        ),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_clarity_api_calls_business_id"
        ),
        sa.PrimaryKeyConstraint("project_id", "utc_day", "slot", name="pk_clarity_api_calls"),
    )
    op.create_table(
        "clarity_business_aggregates",
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("sessions", sa.BigInteger()),
        sa.Column("rage_clicks", sa.BigInteger()),
        sa.Column("rage_click_sessions", sa.BigInteger(), nullable=False),
        sa.Column("dead_clicks", sa.BigInteger()),
        sa.Column("dead_click_sessions", sa.BigInteger(), nullable=False),
        sa.Column("excessive_scroll", sa.BigInteger()),
        sa.Column("quick_backs", sa.BigInteger()),
        sa.Column("quick_back_sessions", sa.BigInteger(), nullable=False),
        sa.Column("scroll_depth_sum", DOUBLE, nullable=False),
        sa.Column("scroll_depth_page_views", DOUBLE, nullable=False),
        sa.Column("engagement_time_ms_sum", sa.BigInteger(), nullable=False),
        sa.Column("engagement_sessions", sa.BigInteger(), nullable=False),
        sa.Column("session_basis", sa.String(length=16), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("built_from", sa.Text(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_clarity_business_aggregates_business_id"
        ),
        sa.PrimaryKeyConstraint("business_id", "date", name="pk_clarity_business_aggregates"),
    )
    op.create_index("ix_clarity_business_aggregates_date", "clarity_business_aggregates", ["date"])
    op.create_table(
        "clarity_business_config",
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=20)),
        sa.Column("token_ciphertext", sa.Text()),
        sa.Column("token_fingerprint", sa.String(length=32)),
        sa.Column("token_last4", sa.String(length=4)),
        sa.Column("token_expires_at", INSTANT),
        sa.Column("sync_enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_by", sa.String(length=16)),
        sa.Column("disabled_reason", sa.Text()),
        sa.Column("disabled_at", INSTANT),
        sa.Column("last_tested_at", INSTANT),
        sa.Column("last_test_result", sa.Text()),
        sa.Column("last_synced_at", INSTANT),
        sa.Column("overview", sa.Boolean()),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "(project_id IS NULL) = (token_ciphertext IS NULL)",
            name=op.f("ck_clarity_business_config_project_and_token_together"),
        ),
        sa.CheckConstraint(
            "sync_enabled = (disabled_by IS NULL)",
            name=op.f("ck_clarity_business_config_disabled_by_somebody"),
        ),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_clarity_business_config_business_id"
        ),
        sa.PrimaryKeyConstraint("business_id", name="pk_clarity_business_config"),
    )
    op.create_index(
        "ix_clarity_business_config_project_id", "clarity_business_config", ["project_id"]
    )
    op.create_table(
        "clarity_raw_exports",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=20), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("dimension_set", sa.String(length=64), nullable=False),
        sa.Column("dimensions", sa.String(length=64), nullable=False),
        sa.Column("num_of_days", sa.SmallInteger(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("http_status", sa.SmallInteger(), nullable=False),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("window_start", INSTANT, nullable=False),
        sa.Column("window_end", INSTANT, nullable=False),
        sa.Column("body_zstd", sa.LargeBinary(), nullable=False),
        sa.Column("body_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=32)),
        sa.Column("verdict_detail", sa.Text()),
        sa.Column("row_counts", JSON),
        sa.Column("truncated", sa.Boolean()),
        sa.Column("unknown_blocks", JSON),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_clarity_raw_exports_business_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_clarity_raw_exports"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_clarity_raw_exports_date_business_id", "clarity_raw_exports", ["date", "business_id"]
    )
    op.create_table(
        "clarity_sync_jobs",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("trigger", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("dagster_run_id", sa.String(length=64)),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.Column("calls_used", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("rows_written", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("combos", JSON),
        sa.Column("error_code", sa.String(length=64)),
        sa.Column("error_message", sa.Text()),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_clarity_sync_jobs_business_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_clarity_sync_jobs"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_clarity_sync_jobs_business_id_date", "clarity_sync_jobs", ["business_id", "date"]
    )
    op.create_index(
        "ix_clarity_sync_jobs_dagster_run_id_business_id_date",
        "clarity_sync_jobs",
        ["dagster_run_id", "business_id", "date"],
        unique=True,
    )
    op.create_table(
        "clarity_sync_requests",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", INSTANT, nullable=False),
        sa.Column("dagster_run_id", sa.String(length=64)),
        sa.Column("picked_up_at", INSTANT),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_clarity_sync_requests_business_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_clarity_sync_requests"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_clarity_sync_requests_picked_up_at", "clarity_sync_requests", ["picked_up_at"]
    )
    op.create_table(
        "clarity_url_aggregates",
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("url_hash", sa.String(length=32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("sessions", sa.BigInteger()),
        sa.Column("rage_clicks", sa.BigInteger()),
        sa.Column("rage_click_sessions", sa.BigInteger(), nullable=False),
        sa.Column("dead_clicks", sa.BigInteger()),
        sa.Column("dead_click_sessions", sa.BigInteger(), nullable=False),
        sa.Column("excessive_scroll", sa.BigInteger()),
        sa.Column("quick_backs", sa.BigInteger()),
        sa.Column("quick_back_sessions", sa.BigInteger(), nullable=False),
        sa.Column("scroll_depth_sum", DOUBLE, nullable=False),
        sa.Column("scroll_depth_page_views", DOUBLE, nullable=False),
        sa.Column("engagement_time_ms_sum", sa.BigInteger(), nullable=False),
        sa.Column("engagement_sessions", sa.BigInteger(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("built_from", sa.Text(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_clarity_url_aggregates_business_id"
        ),
        sa.PrimaryKeyConstraint(
            "business_id", "date", "url_hash", name="pk_clarity_url_aggregates"
        ),
    )
    op.create_index("ix_clarity_url_aggregates_date", "clarity_url_aggregates", ["date"])
    op.create_table(
        "clarity_daily_slices",
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("dimension_set", sa.String(length=64), nullable=False),
        sa.Column("raw_export_id", sa.BigInteger(), nullable=False),
        sa.Column("built_from", sa.String(length=96), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("raw_rows", sa.Integer(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("window_start", INSTANT, nullable=False),
        sa.Column("window_end", INSTANT, nullable=False),
        sa.Column("row_counts", JSON, nullable=False),
        sa.Column("unknown_blocks", JSON, nullable=False),
        sa.Column("unknown_fields", JSON, nullable=False),
        sa.Column("missing_blocks", JSON, nullable=False),
        sa.Column("merged_tuples", sa.Integer(), nullable=False),
        sa.Column("unreadable_values", sa.Integer(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_clarity_daily_slices_business_id"
        ),
        sa.ForeignKeyConstraint(
            ["raw_export_id"],
            ["clarity_raw_exports.id"],
            name="fk_clarity_daily_slices_raw_export_id",
        ),
        sa.PrimaryKeyConstraint(
            "business_id", "date", "dimension_set", name="pk_clarity_daily_slices"
        ),
    )
    op.create_index("ix_clarity_daily_slices_date", "clarity_daily_slices", ["date"])
    if op.get_bind().dialect.name == "postgresql":
        _compress_payloads_with_lz4()


def _compress_payloads_with_lz4() -> None:
    """Rows of long addresses outgrow a page slot; lz4 packs them several times faster than pglz."""
    known = sa.text("SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
    if "lz4" in (op.get_bind().execute(known).scalar() or ()):
        op.execute("ALTER TABLE clarity_daily_metrics ALTER COLUMN raw_payload SET COMPRESSION lz4")
