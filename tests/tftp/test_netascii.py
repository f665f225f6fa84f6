"""netascii.encode against the definition, byte by byte, wherever the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tftp.netascii import encode


@pytest.mark.parametrize(
    ("local", "wire"),
    [(b"", b""), (b"a\nb", b"a\r\nb"), (b"a\rb", b"a\r\0b"), (b"\r\n", b"\r\0\r\n"), (b"\n\n", b"\r\n\r\n")],
)
def test_line_ends_and_bare_carriage_returns(local: bytes, wire: bytes) -> None:
    assert encode(local) == wire


_TEXT = st.lists(st.sampled_from([b"\r", b"\n", b"\0", b"x", b"\xff"]), max_size=40).map(b"".join)


@given(_TEXT, st.integers(0, 40))
def test_a_text_may_be_cut_anywhere(text: bytes, at: int) -> None:
    assert encode(text[:at]) + encode(text[at:]) == encode(text)


@given(_TEXT)
def test_reading_it_back_gives_the_text(text: bytes) -> None:
    assert encode(text).replace(b"\r\n", b"\n").replace(b"\r\0", b"\r") == text
