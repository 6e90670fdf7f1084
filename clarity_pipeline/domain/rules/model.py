"""What a rule can say.

A rule is a frozen value that has been checked as a whole: whatever holds one need not ask again
whether its thresholds can be reached, its windows have days, or its actions fit its level.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from enum import StrEnum
from functools import cached_property
from operator import eq, ge, gt, le, lt, ne
from typing import Annotated, Any, Final, Literal, Protocol, Self, cast
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import ComputedFieldInfo, FieldInfo
from pydantic_core import PydanticCustomError

from clarity_pipeline.domain.connections import BUSINESS_ID_PATTERN, parse_business_id
from clarity_pipeline.domain.errors import InvalidBusinessId
from clarity_pipeline.domain.rules.metrics import (
    FURTHER_SUM_PATTERN,
    METRICS,
    Metric,
    MetricKind,
    Origin,
    find_metric,
)

MAX_WINDOW_DAYS: Final = 400
"""A year and its month of comparison; no longer window is read."""

MAX_DEPTH: Final = 8
"""How deep conditions can be nested; a condition that stands alone is one deep."""

MAX_CONDITIONS: Final = 50

MAX_CONSECUTIVE_DAYS: Final = 31

DEFAULT_MAX_AGE_DAYS: Final = 2
"""Numbers that are older than this at the end of a window decide nothing, unless the rule says so:
a connection that broke last week is no reason to pause an ad today."""

MIN_BASELINE_VALUES: Final = 3
"""Days with a value that a z-score needs: the spread of two is no spread."""

CONFIDENCE_Z: Final[Mapping[float, float]] = {
    0.8: 1.2815515655446004,
    0.9: 1.6448536269514722,
    0.95: 1.959963984540054,
    0.98: 2.3263478740408408,
    0.99: 2.5758293035489004,
}
"""Two-sided confidence -> standard normal quantile. A table, so that no machine's library decides
about the last bit."""


IMPOSSIBLE: Final = "impossible"
"""The type of pydantic's errors whose message is a sentence of ours."""


class Comparator(Protocol):
    """`is_met(measured, value, to)` for numbers and for arrays of them."""

    def __call__(self, measured: Any, value: Any, to: Any, /) -> Any: ...


COMPARATORS: Final[Mapping[str, Comparator]] = {
    ">": lambda measured, value, _to: gt(measured, value),
    ">=": lambda measured, value, _to: ge(measured, value),
    "<": lambda measured, value, _to: lt(measured, value),
    "<=": lambda measured, value, _to: le(measured, value),
    "=": lambda measured, value, _to: eq(measured, value),
    "!=": lambda measured, value, _to: ne(measured, value),
    "between": lambda measured, value, to: ge(measured, value) & le(measured, to),
    "not_between": lambda measured, value, to: lt(measured, value) | gt(measured, to),
}
"""Both ends belong to `between`, and neither to `not_between`."""

Operator = Literal[">", ">=", "<", "<=", "=", "!=", "between", "not_between"]

RISING: Final = frozenset({">", ">="})
FALLING: Final = frozenset({"<", "<="})
_RANGES: Final = frozenset({"between", "not_between"})


class Level(StrEnum):
    """What a rule is evaluated for, one by one."""

    CAMPAIGN = "campaign"
    AD_SET = "ad_set"
    AD = "ad"
    BUSINESS = "business"
    LANDING_PAGE = "landing_page"


AD_LEVELS: Final = frozenset({Level.CAMPAIGN, Level.AD_SET, Level.AD})
"""What an ad platform can pause."""


class EntityStatus(StrEnum):
    """How an entity stands. A deleted one is never evaluated."""

    ACTIVE = "active"
    PAUSED = "paused"
    DELETED = "deleted"


class MeasuredOn(StrEnum):
    """Whose visitors a Clarity metric is about."""

    BUSINESS = "business"
    LANDING_PAGE = "landing_page"


def _refusal(reason: str, *, at: str = "") -> PydanticCustomError:
    """`at` is the path of what is wrong, from the part that is being checked."""
    return PydanticCustomError(IMPOSSIBLE, "{reason}", {"reason": reason, "at": at})


def _positive_zero(number: float) -> float:
    """-0.0 equals 0.0, and must not make another document of the same rule."""
    return number + 0.0


def _checked_metric(name: str) -> str:
    if find_metric(name) is None:
        raise _refusal(
            f"there is no metric {name[:60]!r}; a sum of ads that is not in the catalogue is "
            "written ad.name"
        )
    return name


def _checked_confidence(confidence: float) -> float:
    if confidence not in CONFIDENCE_Z:
        raise _refusal(f"the confidence is one of {', '.join(map(str, CONFIDENCE_Z))}")
    return confidence


def _checked_business(business_id: str) -> str:
    try:
        parse_business_id(business_id)
    except InvalidBusinessId as error:
        raise _refusal(str(error).rstrip(".")) from None
    return business_id


def _checked_text(text: str) -> str:
    if text != text.strip() or not text.isprintable():
        raise _refusal("it begins or ends with a space, or has characters that cannot be printed")
    return text


def _without_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise _refusal("it names something twice")
    return values


_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

_CRON_FIELDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_PART: Final = re.compile(r"(\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?", re.ASCII)


def _checked_cron(text: str) -> str:
    fields = text.split(" ")
    if len(fields) != len(_CRON_FIELDS) or not all(
        _is_cron_part(part, lowest=lowest, highest=highest)
        for field, (lowest, highest) in zip(fields, _CRON_FIELDS, strict=True)
        for part in field.split(",")
    ):
        raise _refusal(
            "a cron text has five fields of numbers, ranges and steps with one space between them, "
            "such as '30 6 * * 1-5', all in UTC"
        )
    return text


def _is_cron_part(part: str, *, lowest: int, highest: int) -> bool:
    found = _CRON_PART.fullmatch(part)
    if found is None:
        return False
    _, first, last, step = found.groups()
    if step is not None and not 1 <= int(step) <= highest:
        return False
    if first is None:
        return True
    if step is not None and last is None:
        return False
    return lowest <= int(first) <= int(last or first) <= highest


def _checked_webhook(url: str) -> str:
    # The address itself is not repeated: its path is often the secret.
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    else:
        is_usable = is_usable and parts.username is None and not parts.fragment
    if not is_usable or not url.isascii() or not url.isprintable() or " " in url:
        raise _refusal("a webhook has an https address without a login and without a fragment")
    return url


def _title_of_field(name: str, _: FieldInfo | ComputedFieldInfo) -> str:
    return name.replace("_", " ").capitalize()


def _title_of_model(model: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", model.__name__).capitalize()


def _written_day(day: Any) -> Any:
    """pydantic would also take a number of seconds for a day."""
    if isinstance(day, str):
        if not _DAY.fullmatch(day):
            raise _refusal("a day is written as YYYY-MM-DD")
    elif type(day) is not date:
        raise _refusal("a day is text, written as YYYY-MM-DD")
    return day


class _Strict(BaseModel):
    """Titles and docstrings of fields go into the JSON Schema, and from there into the form in
    which people build a rule. `x-when` says of which other values of its fellows a field makes
    sense: an object there is about the annotations of the value that was chosen.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        field_title_generator=_title_of_field,
        model_title_generator=_title_of_model,
    )


def _when(**fellows: Any) -> Any:
    return Field(json_schema_extra={"x-when": fellows})


# Numbers are strict: text and booleans would be taken for numbers otherwise.
Number = Annotated[float, Field(strict=True), AfterValidator(_positive_zero)]
Day = Annotated[date, BeforeValidator(_written_day)]
DayCount = Annotated[int, Field(strict=True, ge=1, le=MAX_WINDOW_DAYS)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]
Money = Annotated[float, Field(strict=True, gt=0, le=1e12)]
BusinessId = Annotated[
    str,
    AfterValidator(_checked_business),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{BUSINESS_ID_PATTERN}$", "x-names": "business"}
    ),
]
ShortText = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_checked_text)]
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


def _metric_schema() -> dict[str, Any]:
    return {
        "title": "Metric",
        "anyOf": [
            *(
                {
                    "const": metric.name,
                    "title": metric.title,
                    "description": metric.description,
                    "x-unit": metric.unit,
                    "x-display": {
                        "factor": metric.display.factor,
                        "digits": metric.display.digits,
                        "unit": metric.display.words,
                    },
                    "x-more-is": metric.more_is,
                    "x-kind": metric.kind.value,
                    "x-origin": metric.origin.value,
                }
                for metric in METRICS.values()
            ),
            {
                "type": "string",
                "pattern": FURTHER_SUM_PATTERN,
                "title": "Further sum",
                "description": "Any other daily sum that the ads report.",
            },
        ],
    }


MetricName = Annotated[str, AfterValidator(_checked_metric), WithJsonSchema(_metric_schema())]
Confidence = Annotated[
    float,
    Field(strict=True),
    AfterValidator(_checked_confidence),
    WithJsonSchema({"type": "number", "enum": list(CONFIDENCE_Z)}),
]


class Yesterday(_Strict):
    """The latest day that is over, in UTC."""

    kind: Literal["yesterday"]


class LastDays(_Strict):
    """So many days, of which the last is yesterday."""

    kind: Literal["last_days"]
    days: DayCount


class FixedRange(_Strict):
    """From one day to another, both included. Unknown until the last of them is over."""

    kind: Literal["fixed"]
    start: Day
    end: Day

    @property
    def days(self) -> int:
        return (self.end - self.start).days + 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.end < self.start:
            raise _refusal(f"it ends on {self.end}, before it starts on {self.start}; swap the two")
        if self.days > MAX_WINDOW_DAYS:
            raise _refusal(f"it has {self.days} days and a window has at most {MAX_WINDOW_DAYS}")
        return self


class SinceChange(_Strict):
    """The days after the one on which the entity, or its landing page, was changed.

    The day of the change is in no window: part of it is about what was there before. Unknown
    again once the change is more than `within_days` ago.
    """

    kind: Literal["since_change"]
    within_days: DayCount = 14
    """How long ago the change may be."""


Window = Annotated[
    Yesterday | LastDays | FixedRange | SinceChange,
    Field(discriminator="kind"),
]


class Measure(StrEnum):
    """How a value is held against an earlier one."""

    ABSOLUTE = "absolute"
    PERCENT = "percent"
    Z_SCORE = "z_score"


class Comparison(_Strict):
    """Hold the window's value against the days before the window.

    Counts of an unlike number of days with data are brought to that of the window first.
    """

    against: Literal["previous_window", "baseline"]
    """The window of the same length just before, or a baseline of so many days before."""
    days: Annotated[DayCount | None, _when(against=["baseline"])] = None
    """How many days the baseline has."""
    measure: Measure
    """A z-score is by how many standard deviations of the days before the value of a day is off; of
    a count that is the window's daily average."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.days is None) == (self.against == "baseline"):
            raise _refusal(
                "`days` says how long a baseline is, and belongs to a baseline only", at="days"
            )
        if self.measure is Measure.Z_SCORE and self.days is not None:
            _check_baseline_length(self.days)
        return self


def _check_baseline_length(days: int) -> None:
    if days < MIN_BASELINE_VALUES:
        raise _refusal(f"a z-score needs at least {MIN_BASELINE_VALUES} days to compare with")


class Condition(_Strict):
    """One comparison of one metric over one window."""

    key: Key | None = None
    """A name for overrides to call it by."""
    metric: MetricName
    measured_on: Annotated[MeasuredOn | None, _when(metric={"x-origin": Origin.CLARITY.value})] = (
        None
    )
    """Whose visitors count: all of the business, or those of the landing page. Left open, it is the
    landing page for rules on landing pages and the business for all others."""
    operator: Operator
    value: Number
    to: Annotated[Number | None, _when(operator=sorted(_RANGES))] = None
    """The upper end of the range."""
    window: Window
    comparison: Comparison | None = None
    """Hold the value against the days before: a rise, a drop, a spike."""
    consecutive_days: Annotated[int, Field(strict=True, ge=1, le=MAX_CONSECUTIVE_DAYS)] = 1
    """It must hold for the windows that end on each of so many days in a row."""
    leave: Annotated[Number | None, _when(operator=sorted(RISING | FALLING))] = None
    """Where a condition that has been true ends; on the near side of the value, so that a number
    that trembles around it does not switch an ad on and off."""
    min_sessions: Annotated[
        Annotated[int, Field(strict=True, ge=1, le=10**9)] | None,
        _when(metric={"x-origin": Origin.CLARITY.value}),
    ] = None
    """With fewer sessions in the window nothing is decided."""
    min_coverage: Share | None = None
    """The share of the window's days that must have data, such as 0.8."""
    max_age_days: Annotated[int, Field(strict=True, ge=0, le=MAX_WINDOW_DAYS)] | None = (
        DEFAULT_MAX_AGE_DAYS
    )
    """How many days before the end of the window the latest data may be."""
    confidence: Annotated[
        Confidence | None,
        _when(
            metric={"x-kind": MetricKind.RATE.value},
            operator=sorted(RISING | FALLING),
            comparison=[None],
        ),
    ] = None
    """Not the rate itself must be beyond the value but, with so much confidence, the true one (its
    Wilson bound): a few sessions prove little."""

    @property
    def of(self) -> Metric:
        """The metric out of the catalogue."""
        metric = find_metric(self.metric)
        assert metric is not None, "checked when the condition was made"
        return metric

    @model_validator(mode="after")
    def _check(self) -> Self:
        for check in (
            self._check_metric,
            self._check_range,
            self._check_confidence,
            self._check_leave,
            self._check_window,
            self._check_can_decide,
        ):
            check()
        return self

    def _check_metric(self) -> None:
        if self.of.origin is Origin.CLARITY:
            return
        if self.min_sessions is not None:
            raise _refusal(
                f"`min_sessions` counts sessions of Clarity and {self.metric} has none; add a "
                "condition on impressions or clicks",
                at="min_sessions",
            )
        if self.measured_on is not None:
            raise _refusal(
                f"`measured_on` is for metrics of Clarity and {self.metric} is of ads",
                at="measured_on",
            )

    def _check_range(self) -> None:
        if (self.operator in _RANGES) != (self.to is not None):
            raise _refusal(
                "`to` is the upper end of between and not_between, and only of those", at="to"
            )
        if self.to is not None and self.value > self.to:
            raise _refusal(
                f"the range is from {self.value:g} to {self.to:g}; swap the two", at="to"
            )

    def _check_confidence(self) -> None:
        if self.confidence is None:
            return
        if self.of.kind is not MetricKind.RATE:
            raise _refusal(
                f"`confidence` is for rates and {self.metric} is a {self.of.kind}", at="confidence"
            )
        if self.comparison is not None:
            raise _refusal(
                "`confidence` bounds a rate, not its difference from another one", at="confidence"
            )
        if self.operator not in RISING | FALLING:
            raise _refusal(
                "`confidence` bounds one side, so the operator is > >= < or <=", at="confidence"
            )

    def _check_leave(self) -> None:
        if self.leave is None:
            return
        if self.operator not in RISING | FALLING:
            raise _refusal("`leave` needs an operator with one side: > >= < or <=", at="leave")
        if self.operator in RISING and self.leave >= self.value:
            raise _refusal(
                f"`leave` is {self.leave:g} and must be below `value`, {self.value:g}: the "
                "condition ends there",
                at="leave",
            )
        if self.operator in FALLING and self.leave <= self.value:
            raise _refusal(
                f"`leave` is {self.leave:g} and must be above `value`, {self.value:g}: the "
                "condition ends there",
                at="leave",
            )

    def _check_window(self) -> None:
        window = self.window
        if isinstance(window, FixedRange) and self.consecutive_days > 1:
            raise _refusal(
                "`consecutive_days` needs a window that moves with the days", at="consecutive_days"
            )
        if (
            self.comparison is not None
            and self.comparison.measure is Measure.Z_SCORE
            and self.comparison.against == "previous_window"
        ):
            if isinstance(window, Yesterday):
                _check_baseline_length(1)
            elif not isinstance(window, SinceChange):
                _check_baseline_length(window.days)

    def _check_can_decide(self) -> None:
        """Refuse a threshold that no value can be beyond, or that every value is."""
        lowest, highest = self._bounds()
        for at, threshold in (("value", self.value), ("leave", self.leave)):
            if threshold is None:
                continue
            edges = [edge for edge in (lowest, highest, threshold, self.to) if edge is not None]
            near = [
                min(max(math.nextafter(edge, away), lowest), highest)
                for edge in edges
                for away in (-math.inf, edge, math.inf)
            ]
            answers = {bool(COMPARATORS[self.operator](x, threshold, self.to)) for x in near}
            if len(answers) == 1:
                known = "always" if answers == {True} else "never"
                raise _refusal(
                    f"{self.metric} {self.operator} {threshold:g} is {known} true, so it decides "
                    "nothing",
                    at=at,
                )

    def _bounds(self) -> tuple[float, float]:
        """The lowest and highest number that can be held against `value`."""
        lowest, highest = self.of.lowest, self.of.highest
        if self.confidence is not None:
            highest = 1.0
        if self.comparison is not None:
            is_percent = self.comparison.measure is Measure.PERCENT
            lowest = -100.0 if is_percent and lowest == 0 else None
            highest = None
        return (
            -sys.float_info.max if lowest is None else lowest,
            sys.float_info.max if highest is None else highest,
        )

    def with_values(self, override: Override) -> Condition:
        """The condition as it is for one business. Raises ValidationError if it is impossible."""
        given = override.model_dump(include={"value", "to", "leave"}, exclude_none=True)
        return Condition.model_validate(self.model_dump() | given)


class AllOf(_Strict):
    """True if every one is true, false if any is false."""

    nodes: Annotated[tuple[Node, ...], Field(alias="all", min_length=1, max_length=MAX_CONDITIONS)]


class AnyOf(_Strict):
    """True if any is true, false if every one is false."""

    nodes: Annotated[tuple[Node, ...], Field(alias="any", min_length=1, max_length=MAX_CONDITIONS)]


class NotOf(_Strict):
    """The opposite; of what is unknown, unknown."""

    node: Annotated[Node, Field(alias="not")]


def _kind_of_node(node: Any) -> str:
    for kind, model in (("all", AllOf), ("any", AnyOf), ("not", NotOf)):
        if isinstance(node, model) or (isinstance(node, Mapping) and kind in node):
            return f"#{kind}"
    return "#condition"


Node = Annotated[
    Annotated[AllOf, Tag("#all")]
    | Annotated[AnyOf, Tag("#any")]
    | Annotated[NotOf, Tag("#not")]
    | Annotated[Condition, Tag("#condition")],
    Discriminator(_kind_of_node),
]

for _group in (AllOf, AnyOf, NotOf):
    # Until then their fields do not know by what name they are written.
    _group.model_rebuild()


class AllBusinesses(_Strict):
    """Every business of the agency, those of tomorrow among them."""

    kind: Literal["all"]


class SomeBusinesses(_Strict):
    kind: Literal["some"]
    businesses: Annotated[
        tuple[BusinessId, ...],
        Field(min_length=1, max_length=10_000),
        AfterValidator(_without_repeats),
    ]


class OneBusiness(_Strict):
    kind: Literal["one"]
    business: BusinessId


Scope = Annotated[AllBusinesses | SomeBusinesses | OneBusiness, Field(discriminator="kind")]


class Override(_Strict):
    """Other thresholds of one condition, for one business."""

    business: BusinessId
    condition: Key
    """The key of the condition."""
    value: Number | None = None
    to: Number | None = None
    leave: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.value is None and self.to is None and self.leave is None:
            raise _refusal("it changes nothing; give it a `value`, a `to` or a `leave`")
        return self


class Filters(_Strict):
    """Which entities of the level a rule is about; texts are compared without case."""

    statuses: Annotated[
        tuple[Literal["active", "paused"], ...],
        Field(min_length=1),
        AfterValidator(_without_repeats),
    ] = ("active", "paused")
    """Entities in these states."""
    ids: (
        Annotated[
            tuple[ShortText, ...],
            Field(min_length=1, max_length=10_000),
            AfterValidator(_without_repeats),
        ]
        | None
    ) = None
    """Only these, by the id on the ad platform or of the business."""
    name_contains: ShortText | None = None
    name_lacks: ShortText | None = None
    landing_page_contains: ShortText | None = None


class Pause(_Strict):
    """Pause it on the ad platform."""

    kind: Literal["pause"]


class Resume(_Strict):
    """Once the rule is known not to hold any more, and not before.

    Only of what this rule paused itself, while nobody else touched it; so it stands beside `pause`.
    """

    kind: Literal["resume"]


class AdjustBudget(_Strict):
    """Change the daily budget by so many percent, never below or above the two bounds."""

    kind: Literal["adjust_budget"]
    percent: Annotated[float, Field(strict=True, ge=-90, le=100)]
    """Of the daily budget as it is; negative to lower it."""
    at_least: Money
    """In the account's currency."""
    at_most: Money
    """In the account's currency."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.percent == 0:
            raise _refusal("a change by 0 percent is none", at="percent")
        if self.at_least > self.at_most:
            raise _refusal(
                f"the budget is to be at least {self.at_least:g} and at most {self.at_most:g}; "
                "swap the two",
                at="at_least",
            )
        return self


class Alert(_Strict):
    """Tell people, in the channels that the agency has set up."""

    kind: Literal["alert"]
    message: Annotated[str, Field(max_length=500), AfterValidator(_checked_text)] = ""
    """Said beside what was found."""


class Webhook(_Strict):
    """Send what was found to a program, signed."""

    kind: Literal["webhook"]
    url: Annotated[str, Field(max_length=2000), AfterValidator(_checked_webhook)]
    """An https address."""


Action = Annotated[
    Pause | Resume | AdjustBudget | Alert | Webhook,
    Field(discriminator="kind"),
]

_OF_ADS: Final = (Pause, Resume, AdjustBudget)


class Limits(_Strict):
    """How far a rule may go by itself before it has to stop. Days are UTC."""

    cool_down_hours: Annotated[int, Field(strict=True, ge=0, le=8760)] = 24
    """An entity is left alone for so long after an action on it."""
    actions_per_day: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 50
    """Of one kind of action, at most."""
    actions_per_account_per_day: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 20
    """Of one kind of action in one ad account, at most."""
    breaker_share: Share = 0.5
    """The rule is switched off when it would act on more than this share of the entities that it
    looked at."""
    breaker_min_entities: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 5
    """The share is not asked about when it would act on fewer than these."""
    breaker_errors: Annotated[int, Field(strict=True, ge=1, le=1000)] = 5
    """The rule is switched off when so many of its actions on ads failed in a day."""


class OnData(_Strict):
    """As soon as a business's day is there."""

    kind: Literal["on_data"]


class Cron(_Strict):
    """At these times, in UTC."""

    kind: Literal["cron"]
    cron: Annotated[str, Field(max_length=100), AfterValidator(_checked_cron)]
    """Minute, hour, day of the month, month and day of the week, such as 30 6 * * 1-5."""


Schedule = Annotated[OnData | Cron, Field(discriminator="kind")]


class RuleStatus(StrEnum):
    """What a rule does with its decisions."""

    DRAFT = "draft"
    """Nothing: it is only evaluated for a preview."""
    SHADOW = "shadow"
    """They are stored and not acted upon, until `shadow_until`."""
    ARMED = "armed"
    OFF = "off"


class Rule(_Strict):
    """When to do what, to which entities, of which businesses."""

    name: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_checked_text)]
    scope: Scope
    """The businesses that it is about."""
    overrides: Annotated[tuple[Override, ...], Field(max_length=10_000)] = ()
    """Other thresholds for single businesses, by the key of a condition."""
    level: Level
    """What it looks at, one by one."""
    filters: Filters = Filters()
    conditions: Node
    actions: Annotated[tuple[Action, ...], Field(min_length=1, max_length=10)]
    needs_approval: Annotated[bool, Field(strict=True)] = False
    """What it does to ads waits until a person has agreed."""
    limits: Limits = Limits()
    schedule: Schedule = OnData(kind="on_data")
    status: RuleStatus = RuleStatus.DRAFT
    shadow_until: Annotated[Day | None, _when(status=[RuleStatus.SHADOW.value])] = None
    """The last day that a shadow decides about."""
    priority: Annotated[int, Field(strict=True, ge=0, le=1000)] = 100
    """Of two rules that want to act on one entity, that of the higher priority does."""

    @model_validator(mode="before")
    @classmethod
    def _check_tree(cls, document: Any) -> object:
        # Before anything follows the tree down: it may have no end.
        if isinstance(document, Mapping):
            _check_size(cast("Mapping[str, Any]", document).get("conditions"))
        return cast("object", document)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.status is RuleStatus.SHADOW) != (self.shadow_until is not None):
            raise _refusal(
                "`shadow_until` is the day on which a shadow ends, and only of a shadow",
                at="shadow_until",
            )
        self._check_actions()
        self._check_conditions()
        self._check_overrides()
        return self

    def _check_actions(self) -> None:
        kinds = [action.kind for action in self.actions if action.kind != "webhook"]
        if len(set(kinds)) < len(kinds) or len(set(self.actions)) < len(self.actions):
            raise _refusal("it has the same action twice", at="actions")
        if "resume" in kinds and "pause" not in kinds:
            raise _refusal("it has resume without the pause that it would take back", at="actions")
        for index, action in enumerate(self.actions):
            at = f"actions[{index}]"
            if isinstance(action, _OF_ADS) and self.level not in AD_LEVELS:
                raise _refusal(f"it is {action.kind}, which a {self.level} does not know", at=at)
            if isinstance(action, AdjustBudget) and self.level is Level.AD:
                raise _refusal("it is adjust_budget, and an ad has no budget of its own", at=at)

    def _check_conditions(self) -> None:
        keys: set[str] = set()
        for path, condition in conditions_of(self.conditions):
            if condition.key in keys:
                raise _refusal(
                    f"{condition.key!r} names another condition already", at=f"{path}.key"
                )
            if condition.key is not None:
                keys.add(condition.key)
            if self.level is Level.BUSINESS and condition.measured_on is MeasuredOn.LANDING_PAGE:
                raise _refusal(
                    "a business has more than one landing page", at=f"{path}.measured_on"
                )

    def _check_overrides(self) -> None:
        by_key = {condition.key: condition for _, condition in conditions_of(self.conditions)}
        seen: set[tuple[str, str]] = set()
        for index, override in enumerate(self.overrides):
            path = f"overrides[{index}]"
            if (override.business, override.condition) in seen:
                raise _refusal("the same condition of the same business comes twice", at=path)
            seen.add((override.business, override.condition))
            if self.businesses is not None and override.business not in self.businesses:
                raise _refusal(f"the rule is not about business {override.business!r}", at=path)
            condition = by_key.get(override.condition)
            if condition is None:
                raise _refusal(f"no condition has the key {override.condition!r}", at=path)
            try:
                condition.with_values(override)
            except ValidationError as error:
                wrong = error.errors()[0]
                at = ".".join(filter(None, (path, wrong.get("ctx", {}).get("at"))))
                raise _refusal(wrong["msg"], at=at) from None

    @property
    def businesses(self) -> tuple[str, ...] | None:
        """The businesses in the scope; None for all."""
        if isinstance(self.scope, AllBusinesses):
            return None
        if isinstance(self.scope, OneBusiness):
            return (self.scope.business,)
        return self.scope.businesses

    def override_of(self, condition: Condition, *, business_id: str) -> Override | None:
        """The other thresholds that this business has for the condition; None for the usual."""
        return self._overrides.get((business_id, condition.key or ""))

    def has_leave(self, condition: Condition) -> bool:
        """Whether a condition of this rule has a `leave`, were it for one business alone."""
        return condition.leave is not None or any(
            each.condition == condition.key and each.leave is not None for each in self.overrides
        )

    @cached_property
    def _overrides(self) -> Mapping[tuple[str, str], Override]:
        return {(each.business, each.condition): each for each in self.overrides}

    def measured_on(self, condition: Condition) -> MeasuredOn | None:
        """Whose visitors a condition of this rule is about; None for a metric of ads."""
        if condition.of.origin is Origin.ADS:
            return None
        if condition.measured_on is not None:
            return condition.measured_on
        is_page = self.level is Level.LANDING_PAGE
        return MeasuredOn.LANDING_PAGE if is_page else MeasuredOn.BUSINESS


def conditions_of(node: Node, path: str = "conditions") -> Iterator[tuple[str, Condition]]:
    """Every condition of a tree and its path, such as `conditions.all[1].not`, in order."""
    if isinstance(node, Condition):
        yield path, node
    elif isinstance(node, NotOf):
        yield from conditions_of(node.node, f"{path}.not")
    else:
        word = "all" if isinstance(node, AllOf) else "any"
        for index, child in enumerate(node.nodes):
            yield from conditions_of(child, f"{path}.{word}[{index}]")


def _check_size(conditions: Any) -> None:
    waiting, count = [(conditions, 1)], 0
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _refusal(f"it is nested more than {MAX_DEPTH} deep", at="conditions")
        children = _children(node)
        count += not children
        if count > MAX_CONDITIONS:
            raise _refusal(f"it has more than {MAX_CONDITIONS} of them", at="conditions")
        waiting.extend((child, depth + 1) for child in children)


def _children(node: Any) -> Sequence[Any]:
    if not isinstance(node, Mapping):
        return ()
    group = cast("Mapping[str, Any]", node)
    found: list[Any] = []
    for word in ("all", "any"):
        nodes = group.get(word)
        if isinstance(nodes, list | tuple):
            found.extend(cast("Sequence[Any]", nodes))
    if "not" in group:
        found.append(group["not"])
    return found
