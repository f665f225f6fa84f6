"""Who is answered by the board, and who is not."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.board.guard import HEADERS, host_fits, hosts_of, matches, origin_fits, password_in, store

ALLOWED = hosts_of(["127.0.0.1:8069", "192.0.2.1:443"], ["board.example"])


@pytest.mark.parametrize(
    "host",
    [
        b"127.0.0.1:8069",
        b"localhost:8069",
        b"LOCALHOST:8069",
        b" board.example:8069",
        b"board.example",
        b"192.0.2.1",
        b"192.0.2.1:443",
    ],
)
def test_our_own_names_are_answered(host: bytes) -> None:
    assert host_fits(host, ALLOWED)


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"",
        b"127.0.0.1",
        b"127.0.0.1:80",
        b"evil.example:8069",
        b"127.0.0.1:8069.evil.example",
        b"localhost:443",
        b"\xff",
    ],
)
def test_a_name_that_somebody_else_points_at_us_is_not(host: bytes | None) -> None:
    assert not host_fits(host, ALLOWED)


def test_ipv6_loopback_is_localhost_too() -> None:
    assert host_fits(b"localhost:8069", hosts_of(["[::1]:8069"], []))


@pytest.mark.parametrize(
    ("origin", "fits"),
    [
        (None, True),
        (b"http://localhost:8069", True),
        (b"HTTP://localhost:8069", True),
        (b"https://localhost:8069", False),
        (b"http://evil.example", False),
        (b"null", False),
    ],
)
def test_a_page_from_elsewhere_gets_nothing(origin: bytes | None, fits: bool) -> None:
    assert origin_fits(origin, b"localhost:8069", "http") is fits
    assert not origin_fits(b"http://localhost:8069", None, "http")


def test_a_stored_password_matches_itself_and_nothing_else() -> None:
    stored = store("correct horse", b"s" * 16)
    assert matches(b"correct horse", stored)
    assert not matches(b"correct hors", stored)
    assert not matches(b"", stored)
    assert not matches(b"correct horse", "correct horse")


def test_the_password_of_a_basic_header() -> None:
    def basic(text: bytes) -> bytes:
        return b"Basic " + base64.b64encode(text)

    assert password_in(basic(b"anyone:a:b")) == b"a:b"
    assert password_in(basic(b"no colon")) is None
    assert password_in(b"basic !!!") is None
    assert password_in(b"Bearer abc") is None
    assert password_in(None) is None


@given(st.binary(max_size=200))
def test_no_header_is_an_exception(raw: bytes) -> None:
    password_in(raw)
    password_in(b"Basic " + raw)
    host_fits(raw, ALLOWED)
    origin_fits(raw, raw, "http")


def test_nothing_from_elsewhere_is_allowed_on_the_page() -> None:
    policy = dict(HEADERS)[b"Content-Security-Policy"]
    assert b"default-src 'none'" in policy
    assert b"unsafe" not in policy
    assert b"frame-ancestors 'none'" in policy
