"""Netascii (RFC 764 as RFC 1350 section 1 uses it) for reads: local lines end with LF, on the wire with CR LF.

Each byte stands for itself alone, so pieces may be encoded one after the other, wherever they were cut.
"""

from __future__ import annotations


def encode(piece: bytes | bytearray) -> bytes | bytearray:
    """Turn file bytes into wire bytes: LF becomes CR LF, and a bare CR becomes CR NUL."""
    return piece.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
