"""Who may see the board: the Host a browser names, the Origin it comes from, and the password. Pure.

A page on loopback is reachable by every page that the same browser shows: a name that someone else controls and points
at 127.0.0.1 (DNS rebinding) would read it. So only names that are configured, or are addresses of ours, are answered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"Content-Security-Policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Permissions-Policy", b"camera=(), microphone=(), geolocation=()"),
)
"""What stands above every answer: nothing from elsewhere, nobody frames it, no text becomes code."""

_STORED = re.compile(r"scrypt:([1-9][0-9]?):([1-9][0-9]?):([1-9][0-9]?):([0-9a-f]{32}):([0-9a-f]{64})")
_LOG_N, _R, _P = 14, 8, 1  # RFC 7914: 16 MiB, some 40 ms
_MEMORY = 64 << 20
_LONGEST = 256  # bytes of a password


def hosts_of(listens: list[str], names: list[str]) -> frozenset[str]:
    """What a Host header may say: each listener's address and port, the names with those ports, localhost."""
    allowed = set()
    for listen in listens:
        host, _, port = listen.rpartition(":")
        spoken = {host, *names}
        if host in ("127.0.0.1", "[::1]"):
            spoken.add("localhost")
        for name in spoken:
            allowed.add(f"{name}:{port}".lower())
            if port in ("80", "443"):
                allowed.add(name.lower())
    return frozenset(allowed)


def host_fits(host: bytes | None, allowed: frozenset[str]) -> bool:
    """Whether a Host header names us. A missing one does not (RFC 9112 section 3.2)."""
    return host is not None and host.decode("latin-1").strip().lower() in allowed


def origin_fits(origin: bytes | None, host: bytes | None, scheme: str) -> bool:
    """Whether a request comes from our own page, or from no page at all (RFC 6454 section 7)."""
    if origin is None:
        return True
    return host is not None and origin.lower() == f"{scheme}://".encode() + host.strip().lower()


def store(password: str, salt: bytes) -> str:
    """A password as it stands in the configuration. `salt`: 16 random bytes. RFC 7914."""
    return f"scrypt:{_LOG_N}:{_R}:{_P}:{salt.hex()}:{_derived(password.encode(), salt, _LOG_N, _R, _P).hex()}"


def is_stored(text: str) -> bool:
    """Whether a text has the form that `store` makes, with costs that one request may have."""
    found = _STORED.fullmatch(text)
    if found is None:
        return False
    log_n, r, p = (int(found.group(i)) for i in (1, 2, 3))
    return 10 <= log_n <= 17 and 1 <= r <= 16 and 1 <= p <= 4 and 128 * r << log_n <= _MEMORY // 2


def matches(password: bytes, stored: str) -> bool:
    """Whether a password is the one that is stored; takes as long for a wrong one. False for what is no stored text."""
    found = _STORED.fullmatch(stored)
    if found is None or not is_stored(stored):
        return False
    log_n, r, p = (int(found.group(i)) for i in (1, 2, 3))
    derived = _derived(password[:_LONGEST], bytes.fromhex(found.group(4)), log_n, r, p)
    return hmac.compare_digest(derived, bytes.fromhex(found.group(5)))


def _derived(password: bytes, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=1 << log_n, r=r, p=p, maxmem=_MEMORY, dklen=32)


def password_in(authorization: bytes | None) -> bytes | None:
    """The password of a Basic Authorization header (RFC 7617), any user name; None where there is none."""
    scheme, _, encoded = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        _user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return password if colon else None
