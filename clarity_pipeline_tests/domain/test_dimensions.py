"""What a call can be split by, and the identity of a row."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clarity_pipeline.domain.dimensions import (
    COMBO_BY_DIMENSION_SET,
    DEFAULT_COMBOS,
    DIMENSION_COLUMNS,
    MAX_DIMENSIONS,
    OVERVIEW,
    URL_DEVICE,
    Dimension,
    DimensionCombo,
    combos_of_a_day,
    dimension_hash,
)
from clarity_pipeline.domain.errors import InvalidRequest


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("URL", Dimension.URL),
        ("url", Dimension.URL),
        ("Url", Dimension.URL),
        (" device ", Dimension.DEVICE),
        ("os", Dimension.OS),
        ("Country", Dimension.COUNTRY),
        ("Country/Region", Dimension.COUNTRY),
        ("country_region", Dimension.COUNTRY),
        ("REGION", Dimension.COUNTRY),
    ],
)
def test_a_dimension_is_known_by_any_spelling_people_use(name: str, dimension: Dimension) -> None:
    assert Dimension.parse(name) is dimension


@pytest.mark.parametrize("name", ["", "Page Title", "Referrer URL", "Popular Pages", "Geräte"])
def test_an_unknown_dimension_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidRequest, match="URL, Device, Country, Source"):
        Dimension.parse(name)


def test_the_documented_name_of_the_country_is_never_sent() -> None:
    """The live API drops `Country/Region` without a word (FACTS section 12)."""
    assert all("/" not in dimension.value for dimension in Dimension)


def test_rows_name_the_url_otherwise_than_the_request() -> None:
    assert Dimension.URL.row_key == "Url"
    assert [dimension.row_key for dimension in Dimension if dimension is not Dimension.URL] == [
        dimension.value for dimension in Dimension if dimension is not Dimension.URL
    ]


def test_dimension_columns_are_those_of_the_table_in_its_order() -> None:
    columns = "url device country source campaign channel browser os medium"
    assert " ".join(DIMENSION_COLUMNS) == columns


def test_a_day_is_four_combos_and_the_overview_if_wanted() -> None:
    sets = [combo.dimension_set for combo in combos_of_a_day(overview=False)]
    assert sets == ["Device,URL", "Source,URL", "Country,URL", "Campaign,Channel,URL"]
    assert combos_of_a_day(overview=True) == (*DEFAULT_COMBOS, OVERVIEW)
    assert combos_of_a_day(overview=False)[0] == URL_DEVICE


def test_combos_are_found_by_their_dimension_set() -> None:
    for combo in (*DEFAULT_COMBOS, OVERVIEW):
        assert COMBO_BY_DIMENSION_SET[combo.dimension_set] == combo
    assert OVERVIEW.dimension_set == ""


def test_combos_have_names_for_machines_and_for_people() -> None:
    assert [combo.slug for combo in combos_of_a_day(overview=True)] == [
        *("url_device", "url_source", "url_country", "url_campaign_channel", "overview"),
    ]
    assert URL_DEVICE.label == "URL + Device"
    assert OVERVIEW.label == "Overview"


def test_the_order_of_sending_does_not_change_the_dimension_set() -> None:
    turned = DimensionCombo((Dimension.DEVICE, Dimension.URL))
    assert turned.dimension_set == URL_DEVICE.dimension_set


def test_a_combo_takes_three_distinct_dimensions_at_most() -> None:
    assert DimensionCombo(tuple(Dimension)[:MAX_DIMENSIONS])
    with pytest.raises(InvalidRequest, match="at most 3"):
        DimensionCombo(tuple(Dimension)[:4])
    with pytest.raises(InvalidRequest, match="once"):
        DimensionCombo((Dimension.URL, Dimension.URL))


@pytest.mark.parametrize(
    ("dimension_set", "values", "expected"),
    [
        ("", {}, "fcdf3ecfe876539956eb77f17f503ac1"),
        ("URL", {Dimension.URL: None}, "ea71b9fa9091e7bedf79e69b7a64ebd7"),
        ("URL", {Dimension.URL: ""}, "517ab525318aabfb4eda8b8df07dc0da"),
        (
            "Device,URL",
            {Dimension.URL: "https://example.com/é", Dimension.DEVICE: "PC"},
            "efeb316ba5077b975f99627bf0f7c132",
        ),
    ],
)
def test_the_identity_of_a_row_never_changes(
    dimension_set: str, values: dict[Dimension, str | None], expected: str
) -> None:
    """It is part of a primary key: other digits would double every stored row."""
    assert dimension_hash(dimension_set, values) == expected


def test_null_the_empty_string_and_an_absent_dimension_are_three_rows() -> None:
    hashes = {
        dimension_hash("Device,URL", {Dimension.URL: "a", Dimension.DEVICE: None}),
        dimension_hash("Device,URL", {Dimension.URL: "a", Dimension.DEVICE: ""}),
        dimension_hash("Device,URL", {Dimension.URL: "a"}),
        dimension_hash("URL", {Dimension.URL: "a"}),
    }
    assert len(hashes) == 4


def test_the_order_of_dimensions_does_not_change_the_identity() -> None:
    one = {Dimension.URL: "a", Dimension.DEVICE: "b"}
    other = dict(reversed(one.items()))
    assert dimension_hash("Device,URL", one) == dimension_hash("Device,URL", other)


# Digits, separators and markers of the encoding itself, so that imitations would be found.
_TEXT = st.one_of(
    st.none(),
    st.text(st.sampled_from("0123456789:;n,URLDevice"), max_size=12),
    st.text(st.characters(codec=None), max_size=8),
)
_ROW = st.tuples(
    st.one_of(st.sampled_from(["", "URL", "Device,URL"]), st.text(max_size=6)),
    st.dictionaries(st.sampled_from(list(Dimension)), _TEXT, max_size=4),
)


@given(_ROW, _ROW)
def test_two_different_rows_never_share_an_identity(
    one: tuple[str, dict[Dimension, str | None]], other: tuple[str, dict[Dimension, str | None]]
) -> None:
    assume(one != other)
    assert dimension_hash(*one) != dimension_hash(*other)


@given(_ROW)
def test_an_identity_is_32_hex_digits(row: tuple[str, dict[Dimension, str | None]]) -> None:
    identity = dimension_hash(*row)
    assert len(identity) == 32
    assert set(identity) <= set("0123456789abcdef")
