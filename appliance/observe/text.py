"""The one place where bytes from the network become text. Pure."""

from __future__ import annotations


def printable(raw: bytes | str, limit: int = 255) -> str:
    r"""Text for a person from bytes of a stranger: printable ASCII stays, all else becomes \xNN; cut at `limit`."""
    data = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogateescape")
    if len(data) <= limit and data.isascii() and b"\\" not in data:  # nearly every name: no walk over its characters
        plain = data.decode("ascii")
        if plain.isprintable():
            return plain
    text = "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x5C else f"\\x{b:02x}" for b in data[:limit])
    return text + ("..." if len(data) > limit else "")
