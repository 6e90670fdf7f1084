"""One spelling per page: what makes two addresses of Clarity's replies the same page.

Only what cannot change the page is normalised. Everything that is not a web address (app names,
`about:blank`, junk) stays exactly as it came.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

import idna

TRACKING_PREFIXES: Final[tuple[str, ...]] = (
    "utm_",  # campaign tags of Google Analytics and nearly everybody else
    "gad_",  # Google Ads: gad_source, gad_campaignid
    "hsa_",  # HubSpot ads: hsa_acc, hsa_cam, hsa_grp, ...
    "_hs",  # HubSpot mail: _hsenc, _hsmi
    "__hs",  # HubSpot visitor: __hstc, __hssc, __hsfp
    "mtm_",  # Matomo campaign tags
    "pk_",  # the same under Matomo's former name
    "piwik_",
    "fb_action_",  # Facebook: fb_action_ids, fb_action_types
    "oly_",  # Omeda: oly_anon_id, oly_enc_id
    "vero_",  # Vero: vero_id, vero_conv
    "trk_",  # Listrak: trk_contact, trk_msg, trk_module, trk_sid
)
"""Query parameters dropped by the beginning of their name, compared without case."""

TRACKING_PARAMETERS: Final[frozenset[str]] = frozenset(
    {
        # Google: ads, display, app-to-web, analytics linker, merchant listings
        *("gclid", "gclsrc", "dclid", "gbraid", "wbraid", "_ga", "_gl", "_gac", "srsltid"),
        # Meta
        *("fbclid", "fb_source", "fb_ref", "igshid", "igsh"),
        # Microsoft, TikTok, X, LinkedIn, Snapchat, Pinterest, Reddit, Quora, Nextdoor
        *("msclkid", "ttclid", "twclid", "li_fat_id", "sccid", "epik", "rdt_cid", "qclid"),
        "ndclid",
        # Yandex
        *("yclid", "ysclid", "_openstat"),
        # native advertising: Taboola, Outbrain, Yahoo
        *("tblci", "obclid", "dicbo", "vmcid"),
        # mail: Mailchimp, Marketo, Klaviyo, Dotdigital, HubSpot
        *("mc_cid", "mc_eid", "mkt_tok", "_kx", "dm_i", "hsctatracking"),
        # affiliate and attribution: Impact, CJ, Branch, Adobe, Wicked Reports
        *("irclickid", "irgwc", "cjevent", "_branch_match_id", "_branch_referrer"),
        *("s_kwcid", "ef_id", "wickedid"),
    }
)
"""Query parameters dropped by name, compared without case: they say which click brought the
visitor, never which page was shown, and make one URL per visit (FACTS section 9)."""

MAX_HOST_LENGTH: Final = 253
_MAX_CACHED_LENGTH: Final = 2048

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MAX_PORT: Final = 65535

# A URL of this form is its own canonical form; most of a reply's are.
_PLAIN = re.compile(r"https?://(?:[a-z0-9-]+\.)+[a-z0-9-]+(?:/|(?:/[A-Za-z0-9._~-]+)+)", re.ASCII)
# Not urlsplit: that one deletes tabs and line ends and raises on brackets.
_WEB_ADDRESS = re.compile(
    r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE | re.DOTALL | re.ASCII
)
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?", re.ASCII)
_HOST_NAME = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z0-9_-]+\.?|localhost", re.ASCII)
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_NEEDS_NO_CHANGE = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?]*", re.ASCII)
_TO_NORMALISE = re.compile(
    r"%([0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]+?", re.ASCII | re.DOTALL
)


def canonical_url(url: str) -> str:
    """The one spelling of a web address; anything else is returned as it came. Never raises.

    Scheme and host lower-cased, international host names in ASCII (UTS 46), default port, user
    name and password, fragment and tracking parameters dropped, percent-encoding in one style
    (upper-case hex, unreserved characters plain, everything outside ASCII as UTF-8, encoded
    reserved characters left encoded), an empty path is `/` and no other path ends in a slash,
    query pairs sorted with doubles kept. `?a` and `?a=` stay two different pages.

    User name and password are dropped because they never choose the page and must not end up in
    a report. A host of one label other than `localhost` is an app's name (`https://Electron`,
    FACTS section 7), not an address. Idempotent.
    """
    return _canonical(url) if len(url) > _MAX_CACHED_LENGTH else _canonical_cached(url)


def _canonical(url: str) -> str:
    if _PLAIN.fullmatch(url):
        return url
    match = _WEB_ADDRESS.fullmatch(url)
    if match is None:
        return url
    scheme, authority, path, query = match.groups()
    scheme = scheme.lower()
    try:
        host = _canonical_authority(authority, default_port=_DEFAULT_PORTS[scheme])
        path = _normalise_encoding(path).rstrip("/") or "/"
        query = _canonical_query(query or "")
    except ValueError:  # no such host or port, or a lone surrogate, which has no UTF-8
        return url
    return f"{scheme}://{host}{path}?{query}" if query else f"{scheme}://{host}{path}"


# The combos of a business-day share their URLs.
_canonical_cached = lru_cache(maxsize=4096)(_canonical)


def _canonical_authority(authority: str, *, default_port: int) -> str:
    match = _HOST_AND_PORT.fullmatch(authority.rpartition("@")[2])
    if match is None:
        raise ValueError(authority)
    host, digits = _canonical_host(match[1]), match[2]
    if not digits:
        return host
    significant = digits.lstrip("0")[:6]
    port = int(significant or "0")
    if port > _MAX_PORT:
        raise ValueError(port)
    return host if port == default_port else f"{host}:{port}"


def _canonical_host(host: str) -> str:
    if host.startswith("["):
        if "%" in host:  # a zone says which network card, not which site
            raise ValueError(host)
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    if "%" in host:
        host = _decoded(host)
    if len(host) > MAX_HOST_LENGTH:
        raise ValueError(len(host))
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode("ascii")
    host = host.lower()
    if not _HOST_NAME.fullmatch(host) or len(host) > MAX_HOST_LENGTH:
        raise ValueError(host)
    return host


def _decoded(text: str) -> str:
    return re.sub(
        rb"%([0-9A-Fa-f]{2})", lambda match: bytes.fromhex(match[1].decode()), text.encode()
    ).decode()


def _canonical_query(query: str) -> str:
    pairs = _normalise_encoding(query).split("&")
    return "&".join(sorted(pair for pair in pairs if pair and not _is_tracking(pair)))


def _is_tracking(pair: str) -> bool:
    name = pair.partition("=")[0].lower()
    return name in TRACKING_PARAMETERS or name.startswith(TRACKING_PREFIXES)


def _normalise_encoding(text: str) -> str:
    if _NEEDS_NO_CHANGE.fullmatch(text):
        return text
    return _TO_NORMALISE.sub(_normalise_character, text)


def _normalise_character(match: re.Match[str]) -> str:
    digits = match[1]
    if digits is None:
        return "".join(f"%{byte:02X}" for byte in match[0].encode())
    character = chr(int(digits, 16))
    return character if character in _UNRESERVED else f"%{digits.upper()}"
