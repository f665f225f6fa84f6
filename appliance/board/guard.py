"""Who may see the board: the Host a browser names, the Origin it comes from, and the password. Pure.

A page on loopback is reachable by every page that the same browser shows: a name that someone else controls and points
at 127.0.0.1 (DNS rebinding) would read it. So only names that are configured, or are addresses of ours, are answered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from appliance.settings import password

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

_LOG_N, _R, _P = 14, 8, 1  # 16 MiB, some 40 ms
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


def store(secret: str, salt: bytes) -> str:
    """A password as it stands in the configuration. `salt`: 16 random bytes."""
    return str(password.Stored(_LOG_N, _R, _P, salt, _derived(secret.encode(), salt, _LOG_N, _R, _P)))


def matches(secret: bytes, stored: str) -> bool:
    """Whether a password is the one that is stored; takes as long for a wrong one. False for what is no stored text."""
    found = password.parse(stored)
    if found is None:
        return False
    derived = _derived(secret[:_LONGEST], found.salt, found.log_n, found.r, found.p)
    return hmac.compare_digest(derived, found.derived)


def _derived(secret: bytes, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(secret, salt=salt, n=1 << log_n, r=r, p=p, maxmem=password.MEMORY_MAX, dklen=32)


def password_in(authorization: bytes | None) -> bytes | None:
    """The password of a Basic Authorization header (RFC 7617), any user name; None where there is none."""
    scheme, _, encoded = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        _user, colon, secret = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return secret if colon else None
