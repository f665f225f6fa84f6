"""netascii against the definition, byte by byte, wherever the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tftp import netascii
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


def decoded(pieces: list[bytes]) -> bytes:
    """As a write does it: piece by piece, and what is held back at the end belongs to the file."""
    content, held = b"", False
    for piece in pieces:
        turned, held = netascii.decode(piece, held)
        content += turned
    return content + b"\r" * held


@pytest.mark.parametrize(
    ("wire", "file"),
    [
        (b"a\r\nb", b"a\nb"), (b"a\r\0b", b"a\rb"), (b"\r\r\n", b"\r\n"), (b"\r\r\0\0", b"\r\r\0"), (b"a\rb", b"a\rb"),
        (b"a\nb", b"a\nb"), (b"\r\0\n", b"\r\n"), (b"end\r", b"end\r"), (b"", b""),
    ],
)  # fmt: skip
def test_lines_from_the_wire_end_as_files_have_it_wherever_they_are_cut(wire: bytes, file: bytes) -> None:
    for cut in range(len(wire) + 1):
        assert decoded([wire[:cut], wire[cut:]]) == file
    assert decoded([wire[at : at + 1] for at in range(len(wire))]) == file


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\0", b"x"]), max_size=12).map(b"".join), st.integers(1, 5))
def test_what_was_encoded_is_decoded_to_the_same(content: bytes, size: int) -> None:
    wire = bytes(netascii.encode(content))
    assert decoded([wire[at : at + size] for at in range(0, len(wire), size)]) == content
