"""The addresses that notices go to: Apprise URLs, which hold passwords and are secrets."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.domain.notices import Severity

with warnings.catch_warnings():
    # Its mail plugin looks for a module that Python deprecates; nothing we can change.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    import apprise

    apprise.Apprise.instantiate("json://localhost")  # pyright: ignore[reportUnknownMemberType]

_QUIET: Final = ("apprise", "urllib3", "requests", "requests_oauthlib")
"""What logs the addresses that are sent to: urllib3 their paths, in which chats keep tokens."""

for _name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _QUIET]:
    # A filter, because levels, handlers and `disabled` are changed by whoever configures logging.
    logging.getLogger(_name).addFilter(lambda _record: False)

_TYPES: Final = {
    Severity.ERROR: apprise.NotifyType.FAILURE,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.RECOVERY: apprise.NotifyType.SUCCESS,
    Severity.SILENT: apprise.NotifyType.INFO,
}


@dataclass(frozen=True, slots=True, repr=False)
class Addresses:
    """Where notices go; counted from 1, never named. Make them with `parse_addresses`."""

    _targets: Sequence[apprise.Apprise]

    def __len__(self) -> int:
        return len(self._targets)

    def __repr__(self) -> str:
        return f"Addresses({len(self)})"

    def send(self, *, title: str, body: str, severity: Severity) -> frozenset[int]:
        """Send to every address, one after the other; returns the positions that refused it."""
        return frozenset(
            position
            for position, target in enumerate(self._targets, start=1)
            if not _accepts(target, title=title, body=body, severity=severity)
        )


def parse_addresses(urls: SecretStr | None) -> Addresses:
    """Read CLARITY_NOTICE_URLS, blanks or line breaks between addresses; unset means none.

    Raises ConfigurationError naming the position, never the text, of one that Apprise does not
    understand.
    """
    asset = apprise.AppriseAsset(
        app_id="clarity_pipeline",
        app_desc="clarity_pipeline",
        app_url="",
        # Otherwise plugins leave what they got for a password in files under the home directory.
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        async_mode=False,
    )
    targets: list[apprise.Apprise] = []
    for position, url in enumerate(urls.get_secret_value().split() if urls else (), start=1):
        target = apprise.Apprise(asset=asset)
        if not target.add(url):  # pyright: ignore[reportUnknownMemberType]
            raise ConfigurationError(
                f"Address {position} of CLARITY_NOTICE_URLS is none that Apprise understands; "
                "write it as its documentation shows, with blanks between addresses."
            )
        targets.append(target)
    return Addresses(targets)


def _accepts(target: apprise.Apprise, *, title: str, body: str, severity: Severity) -> bool:
    try:
        return bool(
            target.notify(  # pyright: ignore[reportUnknownMemberType]
                title=title,
                body=body,
                notify_type=_TYPES[severity],
                body_format=apprise.NotifyFormat.TEXT,
            )
        )
    except Exception:  # noqa: BLE001 - a plugin's exception can quote the address; it goes no further
        return False
