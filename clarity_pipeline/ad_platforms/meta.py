"""Meta's ads through its Marketing API: pause, resume and daily budget.

A campaign, an ad set or an ad is a node of the Graph API: GET reads its fields, POST changes them.
`status` is what its owner set, and what is read here and set; `effective_status` also says what
stands above it. Budgets are in the smallest unit of the account's currency, which is not the ISO
one: 1 for the currencies below, 1/100 for all others. `updated_time` does not move when a budget
changes. Errors have a code in the body that says more than the HTTP status.

The token goes into the Authorization header, where no log of addresses can keep it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self, cast
from urllib.parse import urlsplit

import httpx

from clarity_pipeline.ad_platforms.interface import AdObject
from clarity_pipeline.domain.errors import (
    ConfigurationError,
    PlatformError,
    PlatformRefused,
    PlatformThrottled,
    PlatformTokenRefused,
    PlatformUnavailable,
)
from clarity_pipeline.domain.rules.delivery import PlatformState
from clarity_pipeline.domain.rules.model import EntityStatus, Level
from clarity_pipeline.settings import check_api_url, is_loopback

if TYPE_CHECKING:
    from types import TracebackType

    from pydantic import SecretStr

PLATFORM: Final = "meta"

WITHOUT_CENTS: Final = frozenset(
    {"CLP", "COP", "CRC", "HUF", "IDR", "ISK", "JPY", "KRW", "PYG", "TWD", "VND"}
)
"""Currencies in which Meta counts whole units; of every other one it counts hundredths."""

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
TOTAL_SECONDS: Final = 60.0
MOST_REPLY_BYTES: Final = 256 * 1024

_THROTTLING: Final = frozenset({4, 17, 32, 341, 613, *range(80_000, 80_015)})
"""Too many calls of the app, the user, the page, the account, or the business use case."""

_TOKEN: Final = frozenset({102, 190})
_PERMISSION: Final = frozenset({3, 10, *range(200, 300)})
_BLOCKED_FOR_NOW: Final = 368
_TRANSIENT: Final = frozenset({1, 2})

_BLOCK_LASTS: Final = timedelta(hours=1)

_STATUSES: Final = {
    "ACTIVE": EntityStatus.ACTIVE,
    "PAUSED": EntityStatus.PAUSED,
    "ARCHIVED": EntityStatus.DELETED,
    "DELETED": EntityStatus.DELETED,
}

_logger = logging.getLogger("clarity_pipeline.ad_platforms")


class MetaAds:
    """Calls the Marketing API; use it as a context manager.

    `base_url` is CLARITY_META_API_URL, with the version. Raises ConfigurationError for an address
    or an environment that cannot be used.
    """

    def __init__(
        self,
        *,
        base_url: str,
        read_seconds: float = READ_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._base_url = check_api_url(base_url, variable="CLARITY_META_API_URL").rstrip("/")
        self._total_seconds = total_seconds
        self._http = _open_http(self._base_url, read_seconds=read_seconds)
        self._units: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def read_state(self, entity: AdObject, token: SecretStr) -> PlatformState:
        """How the entity stands; `units` are those of its account's currency.

        An ad has no budget, and Meta refuses to be asked for it.
        """
        fields = ["status", "effective_status", "updated_time", "account_id"]
        if entity.level is not Level.AD:
            fields.append("daily_budget")
        found = self._call("GET", entity.platform_id, token, {"fields": ",".join(fields)})
        if found.get("account_id") != _bare(entity.account_id):
            raise PlatformRefused(
                f"{entity.platform_id} is not in the ad account {entity.account_id}; import the "
                "ads again."
            )
        # A budget that the level above has is "0" here.
        budget = int(found.get("daily_budget") or 0)
        return PlatformState(
            status=_status(found),
            daily_budget=budget or None,
            units=self._units_of(entity.account_id, token) if budget else 1,
            changed_at=_instant(found.get("updated_time")),
        )

    def pause(self, entity: AdObject, token: SecretStr) -> None:
        self._change(entity, token, {"status": "PAUSED"})

    def resume(self, entity: AdObject, token: SecretStr) -> None:
        self._change(entity, token, {"status": "ACTIVE"})

    def set_daily_budget(self, entity: AdObject, token: SecretStr, *, daily_budget: int) -> None:
        self._change(entity, token, {"daily_budget": str(daily_budget)})

    def _change(self, entity: AdObject, token: SecretStr, values: Mapping[str, str]) -> None:
        answer = self._call("POST", entity.platform_id, token, values)
        if answer.get("success") is not True:
            raise PlatformUnavailable("Meta did not say that the change was made.")

    def _units_of(self, account_id: str, token: SecretStr) -> int:
        """How many of what Meta counts budgets in are one unit of the account's currency.

        Asked of Meta and of nobody else: a budget in yen that is taken for one in cents would be a
        hundredfold.
        """
        if account_id not in self._units:
            found = self._call("GET", f"act_{_bare(account_id)}", token, {"fields": "currency"})
            currency = found.get("currency")
            if not isinstance(currency, str):
                raise PlatformRefused(f"Meta names no currency of the ad account {account_id}.")
            self._units[account_id] = 1 if currency in WITHOUT_CENTS else 100
        return self._units[account_id]

    def _call(
        self, method: str, node: str, token: SecretStr, values: Mapping[str, str]
    ) -> Mapping[str, Any]:
        outcome = self._exchange(method, node, token, values)
        if isinstance(outcome, PlatformError):
            _logger.info("%s %s: %s", method, node, outcome.code)
            raise outcome
        return outcome

    def _exchange(
        self, method: str, node: str, token: SecretStr, values: Mapping[str, str]
    ) -> Mapping[str, Any] | PlatformError:
        """Send and receive. Failures are returned: raised inside an `except` they would carry
        httpx's exception, and with it the request and its headers, as their context."""
        secret = token.get_secret_value()
        if not secret or not all("!" <= character <= "~" for character in secret):
            return PlatformTokenRefused("The stored token has characters that no token has.")
        is_read = method == "GET"
        deadline = monotonic() + self._total_seconds
        try:
            with self._http.stream(
                method,
                f"{self._base_url}/{node}",
                params=values if is_read else None,
                data=None if is_read else values,
                headers={"Authorization": f"Bearer {secret}"},
            ) as response:
                body = b"".join(_pieces(response, deadline=deadline))
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            return _no_answer(error)
        return _judged(response, body)


def _open_http(base_url: str, *, read_seconds: float) -> httpx.Client:
    host = urlsplit(base_url).hostname or ""
    pattern_host = f"[{host}]" if ":" in host else host
    try:
        return httpx.Client(
            timeout=httpx.Timeout(
                connect=CONNECT_SECONDS, read=read_seconds, write=READ_SECONDS, pool=CONNECT_SECONDS
            ),
            follow_redirects=False,
            mounts={f"all://{pattern_host}": None} if is_loopback(host) else None,
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            headers={"Accept": "application/json", "User-Agent": "clarity-pipeline"},
        )
    except (ValueError, ImportError, OSError, httpx.InvalidURL):
        pass
    # What httpx raises for a bad proxy address quotes it, password included.
    raise ConfigurationError(
        "The proxy or certificate settings of the environment (HTTPS_PROXY, ALL_PROXY, NO_PROXY, "
        "SSL_CERT_FILE, SSL_CERT_DIR) cannot be used; correct or unset them."
    )


def _pieces(response: httpx.Response, *, deadline: float) -> Iterator[bytes]:
    size = 0
    for piece in response.iter_bytes():
        yield piece
        size += len(piece)
        if size > MOST_REPLY_BYTES or monotonic() > deadline:
            raise httpx.ReadTimeout("the reply has no end")


def _no_answer(error: Exception) -> PlatformUnavailable:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return PlatformUnavailable(
            "Meta could not be reached; check the network and CLARITY_META_API_URL."
        )
    return PlatformUnavailable("Meta's answer did not come; the change may have been made.")


def _judged(response: httpx.Response, body: bytes) -> Mapping[str, Any] | PlatformError:
    """What Meta answered, or what its error means for the caller."""
    status = response.status_code
    document = _document(body)
    error = document.get("error") if document is not None else None
    if isinstance(error, dict):
        return _refusal(cast("dict[str, Any]", error), response)
    if status == HTTPStatus.OK and document is not None:
        return document
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return PlatformThrottled("Meta says: too many calls.", retry_after=_patience(response))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.OK:
        return PlatformUnavailable(f"Meta answered something else than JSON (HTTP {status}).")
    return PlatformRefused(
        f"Something that is not Meta's API answered (HTTP {status}); check CLARITY_META_API_URL."
    )


def _document(body: bytes) -> Mapping[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", document) if isinstance(document, dict) else None


def _refusal(error: Mapping[str, Any], response: httpx.Response) -> PlatformError:
    """Meta's own message is not quoted: it can repeat what it was sent."""
    code = error.get("code")
    shown = f"code {code}" if isinstance(code, int) else "without a code"
    subcode = error.get("error_subcode")
    if isinstance(subcode, int):
        shown += f", subcode {subcode}"
    if code in _TOKEN:
        return PlatformTokenRefused(
            f"Meta refused the token ({shown}): it is wrong, has expired or was revoked; connect "
            "the ad account again."
        )
    if code in _THROTTLING:
        return PlatformThrottled(
            f"Meta has had too many calls ({shown}).", retry_after=_patience(response)
        )
    if code == _BLOCKED_FOR_NOW:
        return PlatformThrottled(
            f"Meta has blocked this kind of change for a while ({shown}).",
            retry_after=_patience(response) or _BLOCK_LASTS,
        )
    if code in _TRANSIENT or error.get("is_transient") is True:
        return PlatformUnavailable(f"Meta has trouble of its own ({shown}).")
    if code in _PERMISSION:
        return PlatformRefused(
            f"The token may not do this ({shown}); it needs ads_management and a role in the ad "
            "account."
        )
    return PlatformRefused(f"Meta refused the change ({shown}).")


def _patience(response: httpx.Response) -> timedelta | None:
    """How long Meta asks to be left alone, by whichever header says the most."""
    found: list[timedelta] = []
    retry_after = response.headers.get("retry-after", "")
    if retry_after.isdecimal():
        found.append(timedelta(seconds=min(int(retry_after), 86_400)))
    for usage in _numbers(response, "x-business-use-case-usage", "estimated_time_to_regain_access"):
        found.append(timedelta(minutes=usage))
    for usage in _numbers(response, "x-ad-account-usage", "reset_time_duration"):
        found.append(timedelta(seconds=usage))
    if not any(found) and any(
        used >= 100
        for share in ("call_count", "total_cputime", "total_time")
        for used in _numbers(response, "x-app-usage", share)
    ):
        # The app's window is an hour that rolls, and the header does not say how far it has.
        found.append(timedelta(minutes=10))
    return max(filter(None, found), default=None)


def _numbers(response: httpx.Response, header: str, name: str) -> Iterator[float]:
    """Every number of that name in a header of JSON, however deep; at most a day of minutes."""
    waiting: list[Any] = [_document(response.headers.get(header, "").encode())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            mapping = cast("dict[str, Any]", node)
            value = mapping.get(name)
            if isinstance(value, int | float) and 0 < value <= 86_400:
                yield float(value)
            waiting.extend(mapping.values())
        elif isinstance(node, list):
            waiting.extend(cast("list[Any]", node))


def _status(found: Mapping[str, Any]) -> EntityStatus:
    # What is deleted is so by the effective status first.
    if found.get("effective_status") in {"ARCHIVED", "DELETED"}:
        return EntityStatus.DELETED
    status = _STATUSES.get(str(found.get("status")))
    if status is None:
        raise PlatformRefused("Meta says neither that it runs nor that it is paused.")
    return status


def _instant(text: object) -> datetime | None:
    """`2026-11-01T09:30:00+0000`."""
    try:
        instant = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return instant.astimezone(UTC) if instant.tzinfo is not None else None


def _bare(account_id: str) -> str:
    return account_id.removeprefix("act_")
