"""Netascii (RFC 764 as RFC 1350 section 1 uses it): local lines end with LF, on the wire with CR LF.

Reading, each byte stands for itself alone, so pieces may be encoded one after the other, wherever they were cut.
Writing, a carry joins the pieces.
"""

from __future__ import annotations


def encode(piece: bytes | bytearray) -> bytes | bytearray:
    """Turn file bytes into wire bytes: LF becomes CR LF, and a bare CR becomes CR NUL."""
    return piece.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")


def decode(piece: bytes, after_cr: bool) -> tuple[bytes, bool]:
    """Turn wire bytes into file bytes; `after_cr` is what the call before returned second: a CR was held back.

    CR LF becomes LF, CR NUL becomes CR; a CR before anything else stays. One that is still held back at the end of the
    file belongs to it.
    """
    if after_cr:
        piece = b"\r" + piece
    held = piece.endswith(b"\r")
    if held:
        piece = piece[:-1]
    return piece.replace(b"\r\n", b"\n").replace(b"\r\0", b"\r"), held
