"""What failures and history need: vouched tokens, workers of jobs, derived slices, notices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Spelled out rather than imported from schema.py: a migration must not change when that does.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("clarity_business_config", sa.Column("token_trusted_since", INSTANT))
    op.add_column(
        "clarity_api_calls",
        sa.Column("num_of_days", sa.SmallInteger(), nullable=False, server_default=sa.text("1")),
    )
    op.add_column("clarity_api_calls", sa.Column("token_fingerprint", sa.String(length=32)))
    op.create_index(
        "ix_clarity_api_calls_business_id_utc_day", "clarity_api_calls", ["business_id", "utc_day"]
    )
    op.add_column("clarity_sync_jobs", sa.Column("worker", sa.String(length=300)))
    op.create_index("ix_clarity_sync_jobs_status", "clarity_sync_jobs", ["status"])
    op.add_column("clarity_daily_slices", sa.Column("subtracted_export_id", sa.BigInteger()))
    op.add_column(
        "clarity_daily_slices",
        sa.Column(
            "negative_differences", sa.Integer(), nullable=False, server_default=sa.text("0")
        ),
    )
    op.create_table(
        "clarity_notices",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("sent_at", INSTANT),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("last_attempt_at", INSTANT),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_clarity_notices"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_clarity_notices_subject_id", "clarity_notices", ["subject", "id"])
    op.create_index("ix_clarity_notices_sent_at", "clarity_notices", ["sent_at"])
