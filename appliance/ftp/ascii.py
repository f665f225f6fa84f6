"""TYPE A (RFC 959 section 3.1.1.1): lines end in CRLF on the wire, in LF in files. Pure; a carry joins the pieces."""

from __future__ import annotations


def to_wire(chunk: bytes, after_cr: bool) -> bytes:
    """File bytes as they travel: a bare LF becomes CRLF, a CRLF stays. `after_cr`: the chunk before ended in CR.

    Two replaces of C speed; inserting a CR per line is 130 times slower and stops the loop meanwhile.
    """
    plain = chunk.replace(b"\r\n", b"\n") if b"\r" in chunk else chunk
    wire = plain.replace(b"\n", b"\r\n")
    return wire[1:] if after_cr and chunk.startswith(b"\n") else wire


def from_wire(chunk: bytes, after_cr: bool) -> tuple[bytes, bool]:
    """Bytes for the file, and whether a CR was held back until it is known what follows."""
    if after_cr:
        chunk = b"\r" + chunk
    held = chunk.endswith(b"\r")
    if held:
        chunk = chunk[:-1]
    return chunk.replace(b"\r\n", b"\n"), held
