"""What counts as the same page."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.urls import (
    TRACKING_PARAMETERS,
    TRACKING_PREFIXES,
    canonical_url,
)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        # scheme, host, port
        ("HTTPS://WWW.Example.COM/Path", "https://www.example.com/Path"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("http://example.com:0080/a", "http://example.com/a"),
        ("http://example.com:443/a", "http://example.com:443/a"),
        ("https://example.com:/a", "https://example.com/a"),
        ("https://example.com:08443/a", "https://example.com:8443/a"),
        ("http://localhost:3000/", "http://localhost:3000/"),
        ("http://127.0.0.1:8000/x/", "http://127.0.0.1:8000/x"),
        ("http://[0:0::1]:8080/x/", "http://[::1]:8080/x"),
        ("https://user:secret@example.com/a", "https://example.com/a"),
        ("https://a@b:c@example.com/a", "https://example.com/a"),
        ("https://under_score.example.com/a/", "https://under_score.example.com/a"),
        # international host names
        ("https://Bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://b%C3%BCcher.example/", "https://xn--bcher-kva.example/"),
        ("https://XN--BCHER-KVA.example/", "https://xn--bcher-kva.example/"),
        ("https://例え。テスト/", "https://xn--r8jz45g.xn--zckzah/"),
        ("https://faß.example/", "https://xn--fa-hia.example/"),
        # path
        ("https://example.com", "https://example.com/"),
        ("https://example.com/", "https://example.com/"),
        ("https://example.com/a/", "https://example.com/a"),
        ("https://example.com/a//", "https://example.com/a"),
        ("https://example.com//", "https://example.com/"),
        ("https://example.com/a//b/", "https://example.com/a//b"),
        # percent-encoding
        ("https://example.com/%7euser/%2d", "https://example.com/~user/-"),
        ("https://example.com/%c3%a9", "https://example.com/%C3%A9"),
        ("https://example.com/é", "https://example.com/%C3%A9"),
        ("https://example.com/%e9", "https://example.com/%E9"),
        ("https://example.com/a%2fb", "https://example.com/a%2Fb"),
        ("https://example.com/a b", "https://example.com/a%20b"),
        ("https://example.com/100%", "https://example.com/100%25"),
        ("https://example.com/%%34", "https://example.com/%254"),
        ("https://example.com/\x00\t\n", "https://example.com/%00%09%0A"),
        ("https://example.com/(a)!$&'*+,;=:@", "https://example.com/(a)!$&'*+,;=:@"),
        # query and fragment
        ("https://example.com/?b=2&a=1", "https://example.com/?a=1&b=2"),
        ("https://example.com/?a=2&a=1&a=2", "https://example.com/?a=1&a=2&a=2"),
        ("https://example.com/a?", "https://example.com/a"),
        ("https://example.com/a?&&", "https://example.com/a"),
        ("https://example.com/a/?x=/y/", "https://example.com/a?x=/y/"),
        ("https://example.com/a?x=%26&y=%3d", "https://example.com/a?x=%26&y=%3D"),
        ("https://example.com/a?x=1#top", "https://example.com/a?x=1"),
        ("https://example.com/#/route?x=1", "https://example.com/"),
        # tracking parameters
        ("https://example.com/a?utm_source=x&UTM_Medium=y&id=3", "https://example.com/a?id=3"),
        ("https://example.com/a?utm%5Fsource=x", "https://example.com/a"),
        ("https://example.com/a?gclid", "https://example.com/a"),
        ("https://example.com?fbclid=1&msclkid=2&ttclid=3", "https://example.com/"),
        ("https://example.com/a?gclid_help=1", "https://example.com/a?gclid_help=1"),
        ("https://example.com/a?redirect=utm_source", "https://example.com/a?redirect=utm_source"),
    ],
)
def test_a_web_address_has_one_spelling(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical


def test_a_parameter_without_value_is_not_the_same_as_one_with_an_empty_value() -> None:
    assert canonical_url("https://example.com/?a") == "https://example.com/?a"
    assert canonical_url("https://example.com/?a=") == "https://example.com/?a="


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "about:blank",
        "https://Electron",
        "https://Electron/?utm_source=x",
        "android-app://",
        "android-app://com.Example.App/?utm_source=x",
        "file:///C:/Page.html",
        "javascript:void(0)",
        "Example.com/Path/",
        "//Example.com/Path/",
        "https:/Example.com/",
        "https://",
        "https://?a=1",
        "https://.Example.com/",
        "https://Example..com/",
        "https://Exam ple.com/",
        "https://Example.com:port/",
        "https://Example.com:65536/",
        "https://Example.com:" + "9" * 5000 + "/",
        "https://Example.com:\N{FULLWIDTH DIGIT ONE}/",
        "https://[::1/",
        "https://[Zz]/",
        "https://[FE80::1%25eth0]/",
        "https://[::1]x/",
        "https://Exa%GGmple.com/",
        "https://Exa%FFmple.com/",
        "https://Exa%2Fmple.com/",
        "https://Example.com/\ud800",
        "https://Example.com/?x=\udfff",
        "https://\ud800.Example.com/",
        "https://Ex\x00ample.com/",
        "https://‮.Example/",
        "https://" + "A" * 64 + "é.example/",
        "https://" + "A." * 200 + "example/",
        " https://Example.com/",
        "https://Example.com\\path",
    ],
)
def test_what_is_no_web_address_is_kept_as_it_came(url: str) -> None:
    assert canonical_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/" + "a%" * 500_000,
        "https://example.com/?" + "&" * 1_000_000,
        "https://example.com/?" + "b=1&a=é&" * 100_000,
        "https://" + "a." * 500_000,
        "https://" + "é" * 500_000 + ".example",
        "https://" + "@" * 1_000_000,
        "https://" + ":" * 1_000_000,
        "https://example.com/" + "/" * 1_000_000,
        "https://example.com" + "/a" * 500_000 + "!",
        "https://" + "a%41." * 200_000,
    ],
)
def test_a_megabyte_of_junk_is_read_in_linear_time(url: str) -> None:
    started = time.process_time()
    assert canonical_url(canonical_url(url)) == canonical_url(url)
    assert time.process_time() - started < 10


_TRACKING_NAMES = st.one_of(
    st.sampled_from(sorted(TRACKING_PARAMETERS)),
    st.tuples(st.sampled_from(TRACKING_PREFIXES), st.text("abcdefghij_0123456789", max_size=8)).map(
        "".join
    ),
)
_ENCODED = st.text(
    st.one_of(st.sampled_from("%/?&=+#;:@[]().~-_ "), st.characters(exclude_categories=["Cs"])),
    max_size=12,
)
_QUERY_PIECE = _ENCODED.map(lambda text: text.replace("&", "").replace("#", ""))
_HOSTS = st.sampled_from(
    ["example.com", "WWW.Example.com:443", "bücher.example", "localhost:3000", "[::1]", "1.2.3.4"]
)
_PATHS = _ENCODED.map(lambda text: "/" + text.replace("?", "").replace("#", ""))
_PREFIXES = st.tuples(st.sampled_from(["https://", "http://", "HTTP://"]), _HOSTS, _PATHS).map(
    "".join
)
_ADDRESS_LIKE = st.tuples(_PREFIXES, st.just("?"), _ENCODED, _ENCODED).map("".join)


@given(st.one_of(_ADDRESS_LIKE, st.text(st.characters(codec=None), max_size=60)))
def test_canonical_is_a_fixed_point_and_nothing_raises(url: str) -> None:
    canonical = canonical_url(url)
    assert canonical_url(canonical) == canonical


@given(
    st.tuples(
        st.sampled_from(["https://", "http://", "https://[", "https://a.b:", "https://@"]),
        st.text(
            st.one_of(st.sampled_from("%[]:@/?#&=.\0\ud800é"), st.characters(codec=None)),
            max_size=40,
        ),
    ).map("".join)
)
def test_junk_after_the_scheme_is_kept_or_becomes_a_fixed_point(url: str) -> None:
    canonical = canonical_url(url)
    assert canonical_url(canonical) == canonical


@given(_ADDRESS_LIKE)
def test_a_canonical_address_is_plain_ascii_without_fragment(url: str) -> None:
    canonical = canonical_url(url)
    assert canonical.isascii()
    assert "#" not in canonical
    assert " " not in canonical


@given(
    prefix=_PREFIXES,
    pairs=st.lists(_QUERY_PIECE, max_size=5),
    tracking=st.lists(st.tuples(_TRACKING_NAMES, st.booleans(), _QUERY_PIECE), max_size=4),
    fragment=_ENCODED,
    seed=st.randoms(use_true_random=False),
)
def test_neither_tracking_parameters_nor_order_nor_fragment_make_another_page(
    prefix: str,
    pairs: list[str],
    tracking: list[tuple[str, bool, str]],
    fragment: str,
    seed: random.Random,
) -> None:
    clicked = pairs + [
        f"{name.upper() if shout else name}={value}" for name, shout, value in tracking
    ]
    seed.shuffle(clicked)
    plain = canonical_url(f"{prefix}?{'&'.join(pairs)}")
    assert canonical_url(f"{prefix}?{'&'.join(clicked)}#{fragment}") == plain


@given(_PREFIXES, st.lists(st.text("abcxyz019", min_size=1, max_size=4), max_size=6))
def test_doubled_parameters_are_all_kept(prefix: str, names: list[str]) -> None:
    pairs = [f"p{name}=1" for name in names]
    canonical = canonical_url(f"{prefix}?{'&'.join(pairs)}")
    assert sorted(pairs) == [pair for pair in canonical.partition("?")[2].split("&") if pair]


def test_tracking_names_are_written_as_they_are_compared() -> None:
    for name in (*TRACKING_PARAMETERS, *TRACKING_PREFIXES):
        assert name == name.lower()
        assert name.isascii()


def test_no_tracking_parameter_is_listed_twice() -> None:
    assert not [name for name in TRACKING_PARAMETERS if name.startswith(TRACKING_PREFIXES)]
