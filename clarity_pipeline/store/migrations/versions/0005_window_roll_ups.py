"""What windows are added up from: days by dimension value, weeks of pages, and wider indexes.

The new tables are filled from what is stored, in SQL: a year of a thousand businesses is minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Spelled out rather than imported from schema.py: a migration must not change when that does.
DOUBLE: sa.Double[float] = sa.Double()
INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")

DIMENSION_SETS: Mapping[str, str] = {
    "device": "Device,URL",
    "source": "Source,URL",
    "country": "Country,URL",
    "campaign": "Campaign,Channel,URL",
    "channel": "Campaign,Channel,URL",
}

PAGE_SUMS: Sequence[str] = (
    *("rage_clicks", "rage_click_sessions", "dead_clicks", "dead_click_sessions"),
    *("quick_backs", "quick_back_sessions"),
)


def upgrade() -> None:
    op.create_index(
        "ix_clarity_business_aggregates_of_a_business",
        "clarity_business_aggregates",
        ["business_id", "date", "sessions", "rage_clicks", "rage_click_sessions"],
    )
    op.create_index(
        "ix_clarity_raw_exports_of_a_day",
        "clarity_raw_exports",
        ["date", "business_id", "dimension_set", "num_of_days", "verdict"],
    )
    op.drop_index("ix_clarity_raw_exports_date_business_id", "clarity_raw_exports")
    op.create_index(
        "ix_clarity_sync_jobs_business_id_id", "clarity_sync_jobs", ["business_id", "id"]
    )
    for event in ("rage_clicks", "dead_clicks", "quick_backs"):
        op.drop_index(f"ix_clarity_url_aggregates_with_{event}", "clarity_url_aggregates")
    _create_dimension_aggregates()
    _create_url_week_aggregates()
    for dimension, dimension_set in DIMENSION_SETS.items():
        _fill_dimension(dimension, dimension_set)
    _fill_weeks()


def _create_dimension_aggregates() -> None:
    op.create_table(
        "clarity_dimension_aggregates",
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("dimension", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Text()),
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
        sa.Column("built_from", sa.Text(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint(
            *("business_id", "date", "dimension", "number"), name="pk_clarity_dimension_aggregates"
        ),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["businesses.id"],
            name="fk_clarity_dimension_aggregates_business_id",
        ),
        sqlite_with_rowid=False,
    )


def _create_url_week_aggregates() -> None:
    op.create_table(
        "clarity_url_week_aggregates",
        sa.Column("business_id", sa.String(length=64), nullable=False),
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("url_hash", sa.String(length=32), nullable=False),
        sa.Column("rage_clicks", sa.BigInteger()),
        sa.Column("rage_click_sessions", sa.BigInteger(), nullable=False),
        sa.Column("dead_clicks", sa.BigInteger()),
        sa.Column("dead_click_sessions", sa.BigInteger(), nullable=False),
        sa.Column("quick_backs", sa.BigInteger()),
        sa.Column("quick_back_sessions", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            *("business_id", "week", "url_hash"), name="pk_clarity_url_week_aggregates"
        ),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["businesses.id"],
            name="fk_clarity_url_week_aggregates_business_id",
        ),
        sqlite_with_rowid=False,
    )


def _fill_dimension(dimension: str, dimension_set: str) -> None:
    """As store.dimension_aggregates rolls a slice up, but of all days at once."""

    def sessions_knowing(name: str) -> str:
        return f"SUM(CASE WHEN m.{name} IS NOT NULL THEN COALESCE(m.sessions, 0) ELSE 0 END)"

    page_views = (
        "(COALESCE(m.sessions, 0) * "
        "CASE WHEN m.pages_per_session > 0 THEN m.pages_per_session ELSE 1.0 END)"
    )
    milliseconds = (
        "SUM(COALESCE(m.engagement_time_ms * CAST(COALESCE(m.sessions, 0) AS DOUBLE PRECISION), 0))"
    )
    op.execute(
        f"""
        INSERT INTO clarity_dimension_aggregates
        SELECT
            m.business_id, m.date, '{dimension}',
            ROW_NUMBER() OVER (PARTITION BY m.business_id, m.date ORDER BY m.{dimension}),
            m.{dimension},
            SUM(m.sessions),
            SUM(m.rage_clicks), {sessions_knowing("rage_clicks")},
            SUM(m.dead_clicks), {sessions_knowing("dead_clicks")},
            SUM(m.excessive_scroll),
            SUM(m.quick_backs), {sessions_knowing("quick_backs")},
            SUM(COALESCE(m.scroll_depth * {page_views}, 0.0)),
            SUM(CASE WHEN m.scroll_depth IS NOT NULL THEN {page_views} ELSE 0.0 END),
            CASE WHEN {milliseconds} < 9.2e18 THEN CAST({milliseconds} AS BIGINT)
                ELSE 9223372036854775807 END,
            {sessions_knowing("engagement_time_ms")},
            MIN(s.built_from) || '\\:1',
            MIN(s.updated_at)
        FROM clarity_daily_slices s
        JOIN clarity_daily_metrics m ON m.business_id = s.business_id
            AND m.dimension_set = s.dimension_set AND m.date = s.date
        WHERE s.dimension_set = '{dimension_set}'
        GROUP BY m.business_id, m.date, m.{dimension}
        ORDER BY 1, 2, 4
        """  # noqa: S608 - names of ours
    )


def _fill_weeks() -> None:
    """Sums of the weeks that are over, as far as the stored days tell.

    In the order of the key, so that what is read together lies together.
    """
    if op.get_bind().dialect.name == "sqlite":
        sunday = "date(date, 'weekday 0')"
        monday = "date(date, 'weekday 0', '-6 days')"
    else:
        monday = "CAST(date_trunc('week', date) AS date)"
        sunday = f"{monday} + 6"
    op.execute(
        f"""
        INSERT INTO clarity_url_week_aggregates
        SELECT business_id, {monday}, url_hash, {", ".join(f"SUM({name})" for name in PAGE_SUMS)}
        FROM clarity_url_aggregates
        WHERE {sunday} <= (SELECT MAX(date) FROM clarity_url_aggregates)
        GROUP BY business_id, {monday}, url_hash
        ORDER BY 1, 2, 3
        """  # noqa: S608 - names of ours
    )
