"""What the panel needs: users and their sessions, keys, the audit log, and indexes to read by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Spelled out rather than imported from schema.py: a migration must not change when that does.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("clarity_sync_requests", sa.Column("refused_at", INSTANT))
    op.add_column("clarity_sync_requests", sa.Column("refusal", sa.Text()))
    op.create_index(
        "ix_clarity_sync_requests_business_id_id", "clarity_sync_requests", ["business_id", "id"]
    )
    _create_users_and_sessions()
    _create_login_failures_and_setup_codes()
    _create_keys_and_audit_log()
    _create_indexes_to_read_by()


def _create_users_and_sessions() -> None:
    op.create_table(
        "panel_users",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("login", sa.String(length=254), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("business_id", sa.String(length=64)),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("password_changed_at", INSTANT, nullable=False),
        sa.Column("last_login_at", INSTANT),
        sa.Column("revoked_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_panel_users"),
        sa.UniqueConstraint("login", name="uq_panel_users_login"),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_panel_users_business_id"
        ),
        sa.CheckConstraint(
            "(role = 'client') = (business_id IS NOT NULL)",
            name="a_client_has_one_business",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_panel_users_business_id", "panel_users", ["business_id"])
    op.create_table(
        "panel_sessions",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("last_seen_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("remote_address", sa.String(length=64)),
        sa.Column("user_agent", sa.String(length=300)),
        sa.PrimaryKeyConstraint("token_hash", name="pk_panel_sessions"),
        sa.ForeignKeyConstraint(["user_id"], ["panel_users.id"], name="fk_panel_sessions_user_id"),
    )
    op.create_index("ix_panel_sessions_user_id", "panel_sessions", ["user_id"])
    op.create_index("ix_panel_sessions_expires_at", "panel_sessions", ["expires_at"])


def _create_login_failures_and_setup_codes() -> None:
    op.create_table(
        "panel_login_failures",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("login", sa.String(length=254), nullable=False),
        sa.Column("remote_address", sa.String(length=64), nullable=False),
        sa.Column("failed_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_panel_login_failures"),
        sqlite_autoincrement=True,
    )
    for columns in (["login", "failed_at"], ["remote_address", "failed_at"], ["failed_at"]):
        op.create_index(
            f"ix_panel_login_failures_{'_'.join(columns)}", "panel_login_failures", columns
        )
    op.create_table(
        "panel_setup_codes",
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("used_at", INSTANT),
        sa.PrimaryKeyConstraint("code_hash", name="pk_panel_setup_codes"),
    )


def _create_keys_and_audit_log() -> None:
    op.create_table(
        "panel_api_keys",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("key_last4", sa.String(length=4), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("business_id", sa.String(length=64)),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("last_used_at", INSTANT),
        sa.Column("revoked_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_panel_api_keys"),
        sa.UniqueConstraint("key_hash", name="uq_panel_api_keys_key_hash"),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_panel_api_keys_business_id"
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit_log",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("business_id", sa.String(length=64)),
        sa.Column("detail", JSON),
        sa.Column("remote_address", sa.String(length=64)),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_business_id_id", "audit_log", ["business_id", "id"])
    op.create_index("ix_audit_log_at", "audit_log", ["at"])


def _create_indexes_to_read_by() -> None:
    op.create_index(
        "ix_clarity_raw_exports_business_id_date", "clarity_raw_exports", ["business_id", "date"]
    )
    op.create_index("ix_clarity_sync_jobs_date_trigger", "clarity_sync_jobs", ["date", "trigger"])
    for event in ("rage_clicks", "dead_clicks", "quick_backs"):
        op.create_index(
            f"ix_clarity_url_aggregates_with_{event}",
            "clarity_url_aggregates",
            ["business_id", "date", "url_hash", event],
            sqlite_where=sa.text(f"{event} > 0"),
            postgresql_where=sa.text(f"{event} > 0"),
        )
