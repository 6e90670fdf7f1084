"""Jinja templates and what they all know: who looks, form tokens, words for times and numbers."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from clarity_pipeline.domain.access import Principal, Role, form_token
from clarity_pipeline.domain.rules.metrics import CLARITY_METRICS
from clarity_pipeline.panel.guard import FORM_TOKEN_FIELD, cookie_name, current_principal
from clarity_pipeline.panel.services import services_of
from clarity_pipeline.store.businesses import Business

UNKNOWN: Final = "\N{EN DASH}"
HERE: Final = Path(__file__).parent
STATIC_DIRECTORY: Final = HERE / "static"

_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates = Jinja2Templates(env=_environment)


def page(request: Request, template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
    """Render a template with these values and those that all pages share."""
    principal = getattr(request.state, "principal", None)
    secret = request.cookies.get(cookie_name(services_of(request)))
    shared = {
        "principal": principal,
        "is_agency": isinstance(principal, Principal) and principal.role is Role.AGENCY,
        "form_token": form_token(secret) if secret and principal else "",
        "now": services_of(request).clock(),
        "business": getattr(request.state, "business", None),
        "base": base_of(request),
    }
    return _templates.TemplateResponse(request, template, shared | values, status_code=status_code)


def base_of(request: Request) -> str:
    """Where the pages of the business that a request is about begin; empty for other pages."""
    business = getattr(request.state, "business", None)
    if not isinstance(business, Business):
        return ""
    if current_principal(request).role is Role.AGENCY:
        return f"/agency/businesses/{business.id}/clarity"
    return "/client/clarity"


def static_url(path: str) -> str:
    """The address of one of our files; it changes with the content, so that it can be cached."""
    return f"/static/{path}?v={_version(path)}"


@cache
def _version(path: str) -> str:
    return hashlib.sha256((STATIC_DIRECTORY / path).read_bytes()).hexdigest()[:12]


def form_token_field(token: str) -> Markup:
    """The hidden field that every form carries."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(FORM_TOKEN_FIELD, token)


def instant(value: datetime | None) -> Markup:
    """A moment: UTC in the page, which the browser turns into the viewer's time zone beside it."""
    if value is None:
        return Markup('<span class="quiet">never</span>')
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}" data-instant>{}</time>').format(
        utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M} UTC"
    )


def number(value: float | None, *, digits: int = 0) -> str:
    """With thousands separated; a dash for what is not known."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def shown(metric: str, value: float | None) -> str:
    """A value of one of the ten without the words of its unit; a dash for what is not known."""
    return UNKNOWN if value is None else CLARITY_METRICS[metric].shown(value)


def shown_with_unit(metric: str, value: float | None) -> str:
    """As `shown`, with the words of the unit behind it."""
    return UNKNOWN if value is None else CLARITY_METRICS[metric].shown_with_unit(value)


def duration(seconds: float | None) -> str:
    """As "4.2 s" or "3 min 5 s"; a dash for what is not known."""
    if seconds is None:
        return UNKNOWN
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def short_day(value: date | None) -> str:
    """As "2 Nov 2026", where there is little room."""
    return UNKNOWN if value is None else f"{value.day} {value:%b %Y}"


@lru_cache(maxsize=4096)
def day_words(value: date) -> str:
    """As "Mon 2 Nov 2026". Two years of them are on one page."""
    return f"{value:%a} {value.day} {value:%b %Y}"


_globals: dict[str, Any] = _environment.globals
_globals.update(static_url=static_url, form_token_field=form_token_field)
_environment.filters.update(
    instant=instant,
    number=number,
    day=day_words,
    short_day=short_day,
    duration=duration,
)
