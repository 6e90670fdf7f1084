"""What the API takes and gives about ads and ad accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import Field, SecretStr

from clarity_pipeline.domain.ads import MAX_PLATFORM_ID_LENGTH, MAX_TOKEN_LENGTH
from clarity_pipeline.domain.rules.model import EntityStatus, Level
from clarity_pipeline.panel.api_models import BusinessIdText, Day, Sent, Told

MAX_ROWS: Final = 5000
"""Rows of one request; with a dozen names in each they stay below the size of a body."""

ENTITY_ROWS: Final = f"""\
Up to {MAX_ROWS:,} objects, each about one campaign, ad set or ad. With `level` and `id`: also
`parent_id`, `name`, `status`, `daily_budget`. Or with the ids of a path, `campaign_id`, `ad_set_id`
and `ad_id`, of which the deepest is meant: also `campaign_name`, `campaign_status`,
`campaign_daily_budget`, and so on. Both: `platform`, `account_id`, `business_id`, `landing_url`,
`currency`, `changed_on`. What is left out stays as it is; null says that there is none."""

METRIC_ROWS: Final = f"""\
Up to {MAX_ROWS:,} objects, each about one day of one entity that there is: `platform`, `id` (or the
ids of a path), `date`, and any of `spend`, `impressions`, `clicks`, `conversions`, `revenue` and
further sums such as `ad.leads`. What is left out, or null, stays as it is."""


class RefusedRowTold(Told):
    """A row that was not stored, and why."""

    row: int = Field(ge=1, description="Its place in the array, from 1.", examples=[3])
    reason: str = Field(examples=["The spend is negative."])


class WrittenTold(Told):
    """What was done to rows of the store."""

    inserted: int = Field(ge=0)
    updated: int = Field(ge=0)
    unchanged: int = Field(ge=0, description="Stood there as they were sent.")


class AdsImportedTold(Told):
    """What became of rows: the good ones are stored, whatever the others are."""

    rows: int = Field(ge=0, description="Rows that were sent.")
    entities: WrittenTold
    days: WrittenTold
    refused: list[RefusedRowTold]


class AdEntityTold(Told):
    """A campaign, an ad set or an ad."""

    id: str = Field(examples=["meta:120208000000000003"])
    platform: str = Field(examples=["meta"])
    platform_id: str = Field(examples=["120208000000000003"])
    level: Level
    parent_id: str | None = Field(examples=["meta:120208000000000002"])
    account_id: str | None = Field(examples=["meta:act_123456"])
    business_id: str | None = Field(examples=["acme"])
    name: str
    status: EntityStatus
    landing_url: str | None
    landing_page: str | None = Field(
        description="The landing URL in the spelling that pages have here."
    )
    daily_budget: float | None = Field(description="In the currency beside it.")
    currency: str | None = Field(examples=["EUR"])
    changed_on: Day | None = Field(
        description="UTC day on which it, or its landing page, was last changed, where known."
    )


class AdEntitiesTold(Told):
    """Entities by id, deleted ones among them."""

    entities: list[AdEntityTold]
    next_after: str | None = Field(
        description="Send it as `after` for the next page; null on the last."
    )


class AdAccountChange(Sent):
    """An ad account and its token, which is never shown again."""

    platform: str = Field(max_length=60, examples=["meta"])
    account: str = Field(
        max_length=2 * MAX_PLATFORM_ID_LENGTH,
        description="Its id on the platform.",
        examples=["act_123456"],
    )
    business_id: BusinessIdText = Field(max_length=64)
    token: SecretStr = Field(
        min_length=1,
        max_length=MAX_TOKEN_LENGTH,
        description="Access token of the platform.",
        examples=["EAABsbCS1iHgBA"],
    )


class AdAccountTold(Told):
    """A connected ad account; every instant is UTC."""

    id: str = Field(examples=["meta:act_123456"])
    platform: str = Field(examples=["meta"])
    platform_id: str = Field(examples=["act_123456"])
    business_id: BusinessIdText
    token_last4: str = Field(description="The last four characters of its token.")
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None = Field(
        description="Since when rules leave it alone, until it is connected again."
    )
    disabled_reason: str | None


class AdAccountsTold(Told):
    """All connected ad accounts, by id."""

    accounts: list[AdAccountTold]


class AdAccountGoneTold(Told):
    """An account that was disconnected; its ads and their numbers are retained."""

    id: str
    business_id: BusinessIdText
