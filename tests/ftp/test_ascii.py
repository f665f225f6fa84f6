"""ftp.ascii: TYPE A is the same however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appliance.ftp.ascii import from_wire, to_wire

TEXT = st.lists(st.sampled_from([b"\r", b"\n", b"a", b"\r\n", b"bc"]), max_size=12).map(b"".join)


def sent(pieces: list[bytes]) -> bytes:
    out, after_cr = b"", False
    for piece in pieces:
        out += to_wire(piece, after_cr)
        after_cr = piece.endswith(b"\r")
    return out


def kept(pieces: list[bytes]) -> bytes:
    out, held = b"", False
    for piece in pieces:
        text, held = from_wire(piece, held)
        out += text
    return out + (b"\r" if held else b"")


def cut(text: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(i, len(text)) for i in at), len(text)]
    return [piece for piece in (text[a:b] for a, b in pairwise(edges)) if piece]


def test_a_bare_lf_becomes_crlf_and_a_crlf_stays() -> None:
    assert to_wire(b"a\nb\r\nc\rd", False) == b"a\r\nb\r\nc\rd"
    assert from_wire(b"a\r\nb\nc\rd", False) == (b"a\nb\nc\rd", False)


@given(TEXT, st.lists(st.integers(0, 20), max_size=4))
def test_sending_does_not_depend_on_the_pieces(text: bytes, at: list[int]) -> None:
    whole = sent([text]) if text else b""
    assert sent(cut(text, at)) == whole
    assert whole.replace(b"\r\n", b"\n") == text.replace(b"\r\n", b"\n")
    assert b"\n" not in whole.replace(b"\r\n", b"")


@given(TEXT, st.lists(st.integers(0, 20), max_size=4))
def test_receiving_does_not_depend_on_the_pieces(text: bytes, at: list[int]) -> None:
    assert kept(cut(text, at)) == text.replace(b"\r\n", b"\n")
