"""Sizes and durations: exact both ways, refused with the right words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from appliance.settings.forms import Unfit
from appliance.settings.units import DURATION_LIKE, SIZE_LIKE, format_duration, format_size, parse_duration, shown
from appliance.settings.units import parse_size as size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0B", 0),
        ("7B", 7),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1kb", 1000),
        ("1KiB", 1024),
        ("1kib", 1024),
        ("64MB", 64_000_000),
        ("64 MB", 64_000_000),
        ("64mib", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("2TB", 2 * 10**12),
        ("2TiB", 2 << 40),
        (4096, 4096),
        (0, 0),
    ],
)
def test_sizes_take_decimal_and_binary_units_and_plain_bytes(text: object, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("64 MB/s", "64 MB/s is not a size", SIZE_LIKE),
        ("64Mb", "64Mb is not a size", "write 64MB"),
        ("64M", "64M is not a size", "write 64MiB or 64MB"),
        ("64k", "64k is not a size", "write 64KiB or 64kB"),
        ("64XB", "64XB is not a size", SIZE_LIKE),
        ("512", "512 has no unit", "write 512B, or a size like 512KiB, 64MiB or 1GB"),
        ("0.5B", "0.5B is not a whole number of bytes", SIZE_LIKE),
        ("-1B", "-1B is not a size", SIZE_LIKE),
        (-1, "-1 is not a size", SIZE_LIKE),
        (True, "true is not a size", SIZE_LIKE),
        (1.5, "1.5 is not a size", SIZE_LIKE),
        (None, "None is not a size", SIZE_LIKE),
        ("", "'' is not a size", SIZE_LIKE),
        ("٣MB", "٣MB is not a size", SIZE_LIKE),
        ("1" * 100 + "B", "1" * 60 + "... is not a size", SIZE_LIKE),
    ],
)
def test_what_is_no_size_is_refused_with_a_remedy(text: object, what: str, remedy: str) -> None:
    with pytest.raises(Unfit) as caught:
        size(text)
    assert (caught.value.what, caught.value.remedy) == (what, remedy)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 0.25),
        ("35ms", 0.035),
        ("30s", 30.0),
        ("1.5h", 5400.0),
        ("5 m", 300.0),
        ("30d", 2592000.0),
        (0, 0.0),
        (0.0, 0.0),
    ],
)
def test_durations_take_units_and_the_number_zero(text: object, expected: float) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        (30, "30 has no unit", "write 30s, or another of ms, s, m, h, d"),
        ("30", "30 has no unit", "write 30s, or another of ms, s, m, h, d"),
        (1.5, "1.5 has no unit", "write 1.5s, or another of ms, s, m, h, d"),
        ("1w", "1w is not a duration", DURATION_LIKE),
        ("1H", "1H is not a duration", DURATION_LIKE),
        ("soon", "soon is not a duration", DURATION_LIKE),
        (False, "false is not a duration", DURATION_LIKE),
        ([], "[] is not a duration", DURATION_LIKE),
    ],
)
def test_what_is_no_duration_is_refused_with_a_remedy(text: object, what: str, remedy: str) -> None:
    with pytest.raises(Unfit) as caught:
        parse_duration(text)
    assert (caught.value.what, caught.value.remedy) == (what, remedy)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0B"), (1, "1B"), (1024, "1KiB"), (1000, "1kB"), (1536, "1536B"), (3 << 29, "1536MiB"), (10**9, "1GB")],
)
def test_sizes_are_written_with_the_largest_exact_unit(value: int, text: str) -> None:
    assert format_size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0s"),
        (0.25, "250ms"),
        (1.0, "1s"),
        (90.0, "90s"),
        (300.0, "5m"),
        (86400.0, "1d"),
        (0.0005, "0.0005s"),
        (1e-7, "0.0000001s"),
    ],
)
def test_durations_are_written_with_the_largest_exact_unit(value: float, text: str) -> None:
    assert format_duration(value) == text


@profile(deadline=None)
@given(st.integers(0, 1 << 60))
def test_every_size_survives_being_written_and_read(value: int) -> None:
    assert size(format_size(value)) == value


@profile(deadline=None)
@given(st.floats(0, 3650 * 86400))
def test_every_duration_survives_being_written_and_read(value: float) -> None:
    assert parse_duration(format_duration(value)) == value


@profile(deadline=None)
@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none())
def test_any_value_is_a_number_or_unfit(value: object) -> None:
    for parse in (size, parse_duration):
        try:
            number = parse(value)
        except Unfit:
            continue
        assert number >= 0


def test_shown_values_are_short_and_printable() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert shown("x" * 63) == "x" * 63
    assert shown("x" * 64) == "x" * 60 + "..."
