"""What the data page shows, worked out of what is stored: tiles, the chart, bars. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from clarity_pipeline.domain.aggregates import BehavioralAggregates, BehavioralValues
from clarity_pipeline.domain.day_history import DayWord
from clarity_pipeline.domain.insight import (
    Breakdown,
    BreakdownBy,
    BusinessSeries,
    PageEvent,
    PageRanking,
    PageValues,
    SeriesDay,
    Window,
    WorstPages,
)
from clarity_pipeline.domain.metrics import AGGREGATE_METRICS
from clarity_pipeline.domain.rules.metrics import CLARITY_METRICS, Display, Metric
from clarity_pipeline.panel.sparklines import Sparkline, sparkline
from clarity_pipeline.panel.templating import day_words, shown, shown_with_unit
from clarity_pipeline.panel.wording import DAYS

USUAL_LENGTH: Final = 30
USUAL_METRIC: Final = "clarity_rage_click_rate"
SESSIONS_FOR_A_RATE: Final = 10
"""A page counts from here on when pages are ranked by rate, unless somebody says otherwise."""

EVENT_METRICS: Final[Mapping[PageEvent, tuple[str, str]]] = {
    PageEvent.RAGE: ("clarity_rage_clicks", "clarity_rage_click_rate"),
    PageEvent.DEAD: ("clarity_dead_clicks", "clarity_dead_click_rate"),
    PageEvent.QUICK_BACKS: ("clarity_quick_backs", "clarity_quick_back_rate"),
}
"""The value that counts the events, and their rate."""

BREAKDOWN_METRICS: Final = (
    "clarity_sessions",
    "clarity_rage_click_rate",
    "clarity_dead_click_rate",
    "clarity_quick_back_rate",
    "clarity_scroll_depth",
    "clarity_engagement_time_ms",
)
"""What tells visitors of one kind from those of another."""

_LITTLE: Final = 0.5
"""A change of fewer percent is none that anybody needs to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataView:
    """What somebody chose to look at; it lives in the address of the page.

    `until` is the last day of the window, None for the latest that is over.
    """

    days: int = USUAL_LENGTH
    until: date | None = None
    metric: str = USUAL_METRIC
    by: PageEvent = PageEvent.RAGE
    ranking: PageRanking = PageRanking.EVENTS
    min_sessions: int | None = None
    split: BreakdownBy = BreakdownBy.DEVICE

    @property
    def sessions_needed(self) -> int:
        """From how many sessions on a page counts."""
        if self.min_sessions is not None:
            return self.min_sessions
        return SESSIONS_FOR_A_RATE if self.ranking is PageRanking.RATE else 0

    def window(self, *, latest: date) -> Window:
        """The chosen days."""
        end = self.until or latest
        return Window(end - timedelta(days=self.days - 1), end)

    def query(self, **changes: Any) -> str:
        """The address of this view with some of it changed, from the "?" on."""
        chosen = self._unusual(changes)
        return f"?{urlencode(chosen)}" if chosen else "?"

    def chosen(self, *, without: str) -> dict[str, str]:
        """What a form that chooses one thing has to carry of the others."""
        return self._unusual({without: getattr(_USUAL_VIEW, without)})

    def _unusual(self, changes: Mapping[str, Any]) -> dict[str, str]:
        """What of this view with some of it changed is not as in the usual one."""
        values = {name: changes.get(name, getattr(self, name)) for name in self.__slots__}
        return {
            name: str(value)
            for name, value in values.items()
            if value != getattr(_USUAL_VIEW, name)
        }


_USUAL_VIEW: Final = DataView()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change against the window before: an arrow, the words, and whether that is good.

    `tone` only colours what `verdict` says.
    """

    arrow: str
    words: str
    verdict: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One of the ten values of a window. `days_known` is None where it is known as the rest is."""

    metric: Metric
    label: str
    value: str
    unit: str
    change: Change
    spark: Sparkline | None
    days_known: int | None


def tiles(series: BusinessSeries) -> list[Tile]:
    """The ten values, in the order in which they are shown."""
    return [_tile(metric, series) for metric in CLARITY_METRICS.values()]


def label_of(metric: Metric, values: BehavioralAggregates) -> str:
    """Its name; sessions are called what they are counted as."""
    if metric.name == "clarity_sessions" and values.session_basis == "page_sessions":
        return "Page sessions"
    return metric.title


def _tile(metric: Metric, series: BusinessSeries) -> Tile:
    name = metric.name
    values = [getattr(day, name) for day in series.days]
    known = sum(value is not None for value in values)
    value = getattr(series.values, name)
    return Tile(
        metric=metric,
        label=label_of(metric, series.values),
        value=shown(name, value),
        unit=metric.display.words if value is not None else "",
        change=change_of(metric, series),
        spark=sparkline(values, width=180, height=40),
        days_known=None if known == series.values.days_with_data else known,
    )


def change_of(metric: Metric, series: BusinessSeries) -> Change:
    """How a value stands against the window before, or why that cannot be said."""
    percent = series.changes[metric.name]
    if percent is None:
        return Change(arrow="", words=_why_unknown(metric, series), verdict="", tone="quiet")
    if abs(percent) < _LITTLE:
        return Change(arrow="\N{RIGHTWARDS ARROW}", words="as before", verdict="", tone="quiet")
    rises = percent > 0
    better = {"worse": not rises, "better": rises}.get(metric.more_is)
    size = f"{abs(percent):,.0f}" if abs(percent) >= 10 else f"{abs(percent):.1f}"
    return Change(
        arrow="\N{UPWARDS ARROW}" if rises else "\N{DOWNWARDS ARROW}",
        words=f"{size} % {metric.display.more if rises else metric.display.less}",
        verdict="" if better is None else "better" if better else "worse",
        tone="quiet" if better is None else "good" if better else "bad",
    )


def _why_unknown(metric: Metric, series: BusinessSeries) -> str:
    now, then = getattr(series.values, metric.name), getattr(series.before, metric.name)
    if now is None:
        return "not known"
    if then is None:
        return "nothing before to compare"
    if then == 0:
        return "0 before" if now else "as before"
    return "counted differently before"


def notes(values: BehavioralAggregates) -> list[str]:
    """What somebody must know to read the numbers of a window right."""
    said: list[str] = []
    match values.session_basis:
        case "page_sessions":
            said.append(
                "Sessions are counted per page: a visit to three pages counts three times. Rates "
                "and engagement are per such page session."
            )
        case "mixed":
            said.append(
                "Some of these days count visits, the others count every page of a visit, so "
                "sessions, rates and engagement are not comparable with those of other windows."
            )
        case "sessions":
            said.append("Sessions are whole visits, however many pages they saw.")
        case None:
            pass
    if values.truncated:
        said.append(
            "On at least one of these days Clarity cut its answer at 1,000 rows: pages with few "
            "visitors are missing, and the true counts are higher."
        )
    if values.days_with_data < values.days_in_window:
        said.append(
            "Days without data are left out, not counted as zero; changes of counts are per day "
            "that has data."
        )
    return said


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRow:
    """A day in the table below the chart. `note` says what is missing or doubtful about it."""

    day: date
    value: str
    word: DayWord
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One value day by day: a summary for those who cannot see it, and what to draw for others.

    `drawing` is what charts.js reads, its numbers in the unit; `plain` is for browsers without
    JavaScript.
    """

    metric: Metric
    label: str
    summary: str
    rows: tuple[DayRow, ...]
    missing: int
    doubtful: int
    plain: Sparkline | None
    drawing: Mapping[str, Any]


def chart_of(name: str, series: BusinessSeries) -> Chart:
    """The chart of a value over the window."""
    metric = CLARITY_METRICS[name]
    label = label_of(metric, series.values)
    values = [getattr(day, name) for day in series.days]
    factor = metric.display.factor
    doubtful = [day.has_data and day.word is not DayWord.COMPLETE for day in series.days]
    return Chart(
        metric=metric,
        label=label,
        summary=_summary(label, name, series),
        rows=tuple(
            DayRow(
                day=day.day,
                value=shown(name, getattr(day, name)),
                word=day.word,
                note=_note(day, name),
            )
            for day in reversed(series.days)
        ),
        missing=sum(value is None for value in values),
        doubtful=sum(doubtful),
        plain=sparkline(values, width=640, height=200),
        drawing={
            "label": label,
            "unit": metric.display.name.lower(),
            "unitWords": metric.display.words,
            "days": [f"{day.day.day} {day.day:%b}" for day in series.days],
            "titles": [day_words(day.day) for day in series.days],
            "values": [None if value is None else round(value * factor, 4) for value in values],
            "texts": [shown_with_unit(name, value) for value in values],
            "notes": [_note(day, name) or "" for day in series.days],
            "doubtful": doubtful,
        },
    )


def _note(day: SeriesDay, metric: str) -> str | None:
    """What is wrong with a day, for this value; None where nothing is."""
    label = DAYS[day.word].label
    if day.has_data and getattr(day, metric) is None:
        return "Not known: Clarity sent nothing to work it out from."
    if day.word is DayWord.COMPLETE:
        return None
    return f"{label}. {day.reason}" if day.reason else label


def _summary(label: str, metric: str, series: BusinessSeries) -> str:
    known = [(day.day, value) for day in series.days if (value := getattr(day, metric)) is not None]
    period = f"{label} by day, {day_words(series.window.start)} to {day_words(series.window.end)}"
    if not known:
        return f"{period}: no data."
    low = min(known, key=lambda item: item[1])
    high = max(known, key=lambda item: item[1])
    last = known[-1]
    missing = [day.day for day in series.days if getattr(day, metric) is None]
    gaps = f" No data on {len(missing)} of {len(series.days)} days." if missing else ""
    return (
        f"{period}. Lowest {shown_with_unit(metric, low[1])} on {day_words(low[0])}, highest "
        f"{shown_with_unit(metric, high[1])} on {day_words(high[0])}, latest "
        f"{shown_with_unit(metric, last[1])} on {day_words(last[0])}.{gaps}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A value in a table, and how long its bar is, in percent of the longest of its column.

    `width` is None where there is to be no bar. Means have none: people of all kinds scroll about
    as far, and bars that are all alike tell nothing.
    """

    metric: str
    value: str
    width: float | None


def _bars(rows: Sequence[BehavioralValues], metrics: Sequence[str]) -> list[tuple[Bar, ...]]:
    """The values of each row, measured by column."""
    longest = {
        name: max((getattr(row, name) or 0 for row in rows), default=0) or 1 for name in metrics
    }
    return [
        tuple(
            Bar(
                metric=name,
                value=shown(name, getattr(row, name)),
                width=round(100 * (getattr(row, name) or 0) / longest[name], 1)
                if CLARITY_METRICS[name].display in {Display.COUNT, Display.RATE}
                else None,
            )
            for name in metrics
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRow:
    """A landing page. `link` is None for an address that is no web page's."""

    host: str
    path: str
    url: str
    link: str | None
    events: Mapping[PageEvent, tuple[Bar, Bar]]
    sessions: str
    days: int
    truncated: bool


def page_rows(worst: WorstPages) -> list[PageRow]:
    """The pages with a bar for each number of events and each rate."""
    names = [name for pair in EVENT_METRICS.values() for name in pair]
    return [
        _page_row(page, {bar.metric: bar for bar in bars})
        for page, bars in zip(worst.pages, _bars(worst.pages, names), strict=True)
    ]


def _page_row(page: PageValues, bars: Mapping[str, Bar]) -> PageRow:
    host, path = _parts_of(page.url)
    is_web = page.url.startswith(("https://", "http://"))
    return PageRow(
        host=host,
        path=path,
        url=page.url,
        link=page.url if is_web else None,
        events={event: (bars[count], bars[rate]) for event, (count, rate) in EVENT_METRICS.items()},
        sessions=shown("clarity_sessions", page.clarity_sessions),
        days=page.days_with_data,
        truncated=page.truncated,
    )


def _parts_of(url: str) -> tuple[str, str]:
    """Host and the rest, which is what people know a page by; nothing and all where it is odd."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", url
    if not parts.netloc:
        return "", url
    return parts.netloc, url.partition(parts.netloc)[2] or "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """A kind of visitor; `is_word_of_ours` where the name is not one that Clarity sent."""

    name: str
    is_word_of_ours: bool
    bars: tuple[Bar, ...]


def group_rows(found: Breakdown) -> list[GroupRow]:
    """The groups, then the others together, without bars: they are no group to compare with."""
    rows = [
        GroupRow(name=name, is_word_of_ours=ours, bars=bars)
        for (name, ours), bars in zip(
            (name_of_group(group.group) for group in found.groups),
            _bars(found.groups, BREAKDOWN_METRICS),
            strict=True,
        )
    ]
    if found.others is not None:
        (bars,) = _bars([found.others], BREAKDOWN_METRICS)
        rows.append(
            GroupRow(
                name=f"{found.others_count:,} others",
                is_word_of_ours=True,
                bars=tuple(replace(bar, width=None) for bar in bars),
            )
        )
    return rows


def name_of_group(group: str | None) -> tuple[str, bool]:
    """What to call a group, and whether that is a word of ours. FACTS section 7."""
    if group is None:
        return "(none)", True
    return (group, False) if group.strip() else ("(unknown)", True)


def series_table(series: BusinessSeries) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of the file: a day each, with how it stands."""
    columns = [
        "day",
        *AGGREGATE_METRICS,
        *("has_data", "word", "reason", "is_truncated", "is_derived", "is_shifted", "is_partial"),
        "session_basis",
    ]
    return columns, [[getattr(day, name) for name in columns] for day in series.days]


def pages_table(worst: WorstPages) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of the file: a page each, worst first."""
    columns = ["url", *AGGREGATE_METRICS, "days_with_data", "truncated"]
    return columns, [[getattr(page, name) for name in columns] for page in worst.pages]


def breakdown_table(found: Breakdown) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of the file: a group each, most sessions first."""
    groups = [(name_of_group(group.group)[0], group) for group in found.groups]
    if found.others is not None:
        groups.append((f"({found.others_count} others)", found.others))
    return [found.by.value, *AGGREGATE_METRICS], [
        [name, *group.metrics().values()] for name, group in groups
    ]
