"""Rules, what they decided and what was done about it, and the ads that they are about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Spelled out rather than imported from schema.py: a migration must not change when that does.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")
DOUBLE: sa.Double[float] = sa.Double()
BUSINESS_ID = sa.String(length=64)
ENTITY_ID = sa.String(length=200)


def upgrade() -> None:
    op.add_column(
        "businesses",
        sa.Column(
            "client_sees_rules", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
    )
    _create_rules()
    _create_evaluations_and_decisions()
    _create_actions_and_switch()
    _create_ads()


def _create_rules() -> None:
    op.create_table(
        "rules",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("document", JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("archived_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_rules"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_rules_name_in_use",
        "rules",
        ["name"],
        unique=True,
        sqlite_where=sa.text("archived_at IS NULL"),
        postgresql_where=sa.text("archived_at IS NULL"),
    )
    op.create_table(
        "rule_versions",
        sa.Column("rule_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", JSON, nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", INSTANT, nullable=False),
        sa.Column("note", sa.Text()),
        sa.PrimaryKeyConstraint("rule_id", "version", name="pk_rule_versions"),
        sa.ForeignKeyConstraint(["rule_id"], ["rules.id"], name="fk_rule_versions_rule_id"),
    )


def _create_evaluations_and_decisions() -> None:
    op.create_table(
        "rule_evaluations",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("rule_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("business_id", BUSINESS_ID),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("entities", sa.Integer(), nullable=False),
        sa.Column("fired", sa.Integer(), nullable=False),
        sa.Column("not_fired", sa.Integer(), nullable=False),
        sa.Column("unknown", sa.Integer(), nullable=False),
        sa.Column("reasons", JSON, nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("evidence_hash", sa.String(length=32), nullable=False),
        sa.Column("held", JSON, nullable=False),
        sa.Column("evaluated_at", INSTANT, nullable=False),
        sa.Column("dagster_run_id", sa.String(length=64)),
        sa.PrimaryKeyConstraint("id", name="pk_rule_evaluations"),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_rule_evaluations_business_id"
        ),
        sa.ForeignKeyConstraint(
            ["rule_id", "version"],
            ["rule_versions.rule_id", "rule_versions.version"],
            name="fk_rule_evaluations_rule_version",
        ),
        sqlite_autoincrement=True,
    )
    for columns in (["rule_id", "business_id", "date", "id"], ["business_id", "date"], ["date"]):
        op.create_index(f"ix_rule_evaluations_{'_'.join(columns)}", "rule_evaluations", columns)
    op.create_table(
        "rule_decisions",
        sa.Column("evaluation_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("rule_id", sa.BigInteger(), nullable=False),
        sa.Column("business_id", BUSINESS_ID),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("entity_id", ENTITY_ID, nullable=False),
        sa.Column("entity_name", sa.Text(), nullable=False),
        sa.Column("truth", sa.SmallInteger(), nullable=False),
        sa.Column("previous_truth", sa.SmallInteger()),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=32)),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name="pk_rule_decisions"),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["rule_evaluations.id"], name="fk_rule_decisions_evaluation_id"
        ),
        sa.ForeignKeyConstraint(["rule_id"], ["rules.id"], name="fk_rule_decisions_rule_id"),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_rule_decisions_business_id"
        ),
    )
    for columns in (
        ["rule_id", "date"],
        ["business_id", "date"],
        ["entity_id", "date"],
        ["date"],
    ):
        op.create_index(f"ix_rule_decisions_{'_'.join(columns)}", "rule_decisions", columns)


def _create_actions_and_switch() -> None:
    op.create_table(
        "rule_actions",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("evaluation_id", sa.BigInteger(), nullable=False),
        sa.Column("rule_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("business_id", BUSINESS_ID),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("entity_id", ENTITY_ID),
        sa.Column("account_id", sa.String(length=200)),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("action", JSON, nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("idempotency_key", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("judged_by", sa.Text()),
        sa.Column("judged_at", INSTANT),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("last_attempt_at", INSTANT),
        sa.Column("next_attempt_at", INSTANT),
        sa.Column("done_at", INSTANT),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_rule_actions"),
        sa.UniqueConstraint("idempotency_key", name="uq_rule_actions_idempotency_key"),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["rule_evaluations.id"], name="fk_rule_actions_evaluation_id"
        ),
        sa.ForeignKeyConstraint(["rule_id"], ["rules.id"], name="fk_rule_actions_rule_id"),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_rule_actions_business_id"
        ),
        sqlite_autoincrement=True,
    )
    for columns in (
        ["status", "next_attempt_at"],
        ["rule_id", "created_at"],
        ["entity_id", "id"],
        ["business_id", "date"],
        ["evaluation_id"],
    ):
        op.create_index(f"ix_rule_actions_{'_'.join(columns)}", "rule_actions", columns)
    op.create_table(
        "rule_switch",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.Column("note", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_rule_switch"),
        sa.CheckConstraint("id = 1", name="there_is_one_switch"),
    )


def _create_ads() -> None:
    op.create_table(
        "ad_accounts",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("platform", sa.String(length=20), nullable=False),
        sa.Column("platform_id", sa.String(length=150), nullable=False),
        sa.Column("business_id", BUSINESS_ID, nullable=False),
        sa.Column("token_ciphertext", sa.Text()),
        sa.Column("token_last4", sa.String(length=4)),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("disabled_at", INSTANT),
        sa.Column("disabled_reason", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_ad_accounts"),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_ad_accounts_business_id"
        ),
    )
    op.create_index("ix_ad_accounts_business_id", "ad_accounts", ["business_id"])
    op.create_table(
        "ad_entities",
        sa.Column("id", ENTITY_ID, nullable=False),
        sa.Column("platform", sa.String(length=20), nullable=False),
        sa.Column("platform_id", sa.String(length=150), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("parent_id", ENTITY_ID),
        sa.Column("account_id", sa.String(length=200)),
        sa.Column("business_id", BUSINESS_ID),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("landing_url", sa.Text()),
        sa.Column("landing_page", sa.Text()),
        sa.Column("daily_budget", DOUBLE),
        sa.Column("currency", sa.String(length=3)),
        sa.Column("changed_on", sa.Date()),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ad_entities"),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name="fk_ad_entities_business_id"
        ),
    )
    for column in ("parent_id", "business_id"):
        op.create_index(f"ix_ad_entities_{column}", "ad_entities", [column])
    op.create_table(
        "ad_entity_metrics",
        sa.Column("entity_id", ENTITY_ID, nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("spend", DOUBLE),
        sa.Column("impressions", DOUBLE),
        sa.Column("clicks", DOUBLE),
        sa.Column("conversions", DOUBLE),
        sa.Column("revenue", DOUBLE),
        sa.Column("further", JSON),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("entity_id", "date", name="pk_ad_entity_metrics"),
        sa.ForeignKeyConstraint(
            ["entity_id"], ["ad_entities.id"], name="fk_ad_entity_metrics_entity_id"
        ),
    )
    op.create_index("ix_ad_entity_metrics_date", "ad_entity_metrics", ["date"])
