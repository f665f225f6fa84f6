"""Text of a fixed form: addresses, networks, port ranges, paths, names. Pure.

Every check takes text and returns it in its one canonical spelling, or raises Unfit with what is wrong and what to
write instead. A canonical text is returned unchanged.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable

from appliance.published.layers import HIDDEN, hidden
from appliance.settings import password, patterns

_ENDPOINT_LIKE = "write ADDRESS:PORT, like 0.0.0.0:69 or [::]:69"
_LONGEST_PATH = 4000  # bytes; PATH_MAX less what is appended
_INTERFACE = re.compile(r"[A-Za-z0-9._-]{1,15}", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_EVERYWHERE = {"": "0.0.0.0", "*": "0.0.0.0", "localhost": "127.0.0.1"}
_EVERYWHERE6 = {"": "::", "*": "::", "localhost": "::1"}


class Unfit(ValueError):
    """A value that cannot be used; `what` is wrong with it and `remedy` says what to write."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def endpoint(text: str) -> str:
    """ADDRESS:PORT to listen on; numeric, IPv6 in brackets, port 0 for any free one."""
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon or (":" in host and not host.startswith("[")):
        raise _no_port(text)
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise Unfit(f"{text}: {port or 'nothing'} is not a port", "write a port from 0 to 65535; 0 picks a free one")
    if host in _EVERYWHERE:
        number = int(port)
        remedy = f"write {_EVERYWHERE[host]}:{number} for IPv4 and [{_EVERYWHERE6[host]}]:{number} for IPv6"
        raise Unfit(f"{text}: {host or 'nothing'} is not a numeric address", remedy)
    return f"{_host(text, host)}:{int(port)}"


def _no_port(text: str) -> Unfit:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return Unfit(f"{text} has no port", _ENDPOINT_LIKE)
    if ":" in text and not text.startswith("["):
        return Unfit(f"{text}: an IPv6 address stands in brackets", f"write [{address}]:PORT")
    return Unfit(f"{text} has no port", f"write {text}:PORT")


def _host(text: str, host: str) -> str:
    try:
        if not host.startswith("["):
            return str(ipaddress.IPv4Address(host))
        if not host.endswith("]"):
            raise ValueError
        address = ipaddress.IPv6Address(host[1:-1])
        if not _INTERFACE.fullmatch(address.scope_id or "x"):
            raise ValueError
    except ValueError:
        raise Unfit(f"{text}: {host} is not a numeric address", _ENDPOINT_LIKE) from None
    if address.ipv4_mapped:
        raise Unfit(f"{text}: an IPv4 address in IPv6 form", f"write {address.ipv4_mapped}:PORT")
    if address.is_link_local and not address.scope_id:
        raise Unfit(f"{text}: a link-local address needs its interface", f"write [{address}%eth0]:PORT")
    return f"[{address}]"


def endpoint_parts(text: str) -> tuple[str, int]:
    """Address without brackets and port of a canonical endpoint."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def network(text: str) -> str:
    """A network in CIDR form, or a single address."""
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        remedy = "write a network like 192.0.2.0/24 or 2001:db8::/32, or an address"
        raise Unfit(f"{text} is not a network", remedy) from None
    if isinstance(loose, ipaddress.IPv6Network) and (mapped := loose.network_address.ipv4_mapped):
        right = f"{mapped}/{max(loose.prefixlen - 96, 0)}"
        raise Unfit(f"{text}: an IPv4 network in IPv6 form matches no client", f"write {right}")
    if "/" not in text:
        return str(loose.network_address)
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise Unfit(f"{text} has bits set beyond its prefix", f"write {loose}") from None


def port_range(text: str) -> str:
    """FIRST-LAST, both included, from 1024."""
    match = re.fullmatch(r"([0-9]{1,5}) ?- ?([0-9]{1,5})", text, re.ASCII)
    if match is None:
        raise Unfit(f"{text} is not a range of ports", "write FIRST-LAST, like 61000-65535")
    first, last = (int(part) for part in match.groups())
    if first > last:
        raise Unfit(f"{text} runs backwards", f"write {last}-{first}")
    if first < 1024 or last > 65535:
        raise Unfit(f"{text} is out of range", "write ports from 1024 to 65535, like 61000-65535")
    return f"{first}-{last}"


def port_range_parts(text: str) -> range:
    """The ports of a canonical range."""
    first, last = (int(part) for part in text.split("-"))
    return range(first, last + 1)


def path(text: str) -> str:
    """An absolute path, without "..", repeated or trailing slashes."""
    _printable(text, "a path")
    if not text.startswith("/"):
        raise Unfit(f"{text} is not an absolute path", f"write it in full, like /srv/{text.lstrip('~./') or 'tree'}")
    plain = posixpath.normpath("/" + text.lstrip("/"))
    if ".." in text.split("/"):
        raise Unfit(f'{text} contains ".."', f"write {plain}")
    return plain


def relative_path(text: str) -> str:
    """A path below the service's root; it can neither be the root nor leave it."""
    _printable(text, "a path")
    if text.startswith("/"):
        raise Unfit(f"{text} is not relative to the root", f"write {posixpath.normpath(text).lstrip('/') or 'a name'}")
    if ".." in text.split("/"):
        raise Unfit(f"{text} leaves the root", 'write a path inside the root, without ".."')
    plain = posixpath.normpath(text)
    if hidden(plain.encode()):
        raise Unfit(f"{text}: {HIDDEN} belongs to what is published", "name another folder inside the root")
    if plain == ".":
        raise Unfit(f"{text} is the root itself", "write the name of a folder inside the root")
    return plain


def _printable(text: str, what: str) -> None:
    if not text:
        raise Unfit("an empty text", f"write {what}")
    if not text.isprintable():
        raise Unfit(f"{ascii(text)[:60]} contains characters that cannot be printed", f"write {what} without them")
    if len(text.encode()) > _LONGEST_PATH:
        raise Unfit(f"{text[:40]}... is too long", f"write {what} of at most {_LONGEST_PATH} bytes")


def user(text: str) -> str:
    """The name of an account that is not root (useradd(8), NAME_REGEX of Debian)."""
    if not re.fullmatch(r"[a-z_][a-z0-9_.-]{0,30}\$?", text, re.ASCII):
        _printable(text, "the name of an account")
        raise Unfit(f"{text} is not the name of an account", "write a name like appliance-tftp")
    if text == "root":
        raise Unfit("workers never run as root", "write another account, or take the key out")
    return text


def pattern(text: str) -> str:
    """A shell pattern of one name."""
    _printable(text, "a pattern like *.tmp")
    if "/" in text:
        raise Unfit(f"{text} is a pattern of a path", "write a pattern of a single name, like *.tmp")
    return text


def name(text: str) -> str:
    """The name of a file, without a folder."""
    _printable(text, "a name like .message")
    if "/" in text or text in (".", "..") or len(text.encode()) > 255:
        raise Unfit(f"{text[:80]} is not the name of a file", "write a name like .message, without a folder")
    return text


def ipv4(text: str) -> str:
    """An IPv4 address."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise Unfit(f"{text} is not an IPv4 address", "write an address like 192.0.2.7") from None


def address_range(text: str) -> str:
    """FIRST-LAST, two IPv4 addresses, both included."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    try:
        pair = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
    except ValueError:
        raise Unfit(f"{text} is not a range of addresses", "write FIRST-LAST, like 192.0.2.50-192.0.2.99") from None
    if pair[0] > pair[1]:
        raise Unfit(f"{text} runs backwards", f"write {pair[1]}-{pair[0]}")
    return f"{pair[0]}{dash}{pair[1]}"


def interface(text: str) -> str:
    """The name of a network interface of Linux."""
    if not _INTERFACE.fullmatch(text):
        raise Unfit(f"{text} is not the name of an interface", "write a name like eth1; `ip link` lists them")
    return text


def loader_path(text: str) -> str:
    """A relative path that every DHCP server and every firmware can be told: plain characters only."""
    plain = relative_path(text)
    if not re.fullmatch(r"[A-Za-z0-9_./+-]{1,127}", plain, re.ASCII):  # RFC 2131 section 2: `file` is 128 octets
        raise Unfit(f"{text} has characters that not every firmware takes", "use letters, digits and _ . / + -")
    return plain


def public_address(text: str) -> str:
    """An IPv4 address, or a DNS name that has one."""
    for form in (ipv4, host_name):
        try:
            return form(text)
        except Unfit:
            continue
    raise Unfit(
        f"{text} is neither an IPv4 address nor a host name", "write an address like 192.0.2.7, or ftp.example.org"
    )


def host_name(text: str) -> str:
    """A DNS name (RFC 1123 section 2.1), in lower case and without the dot of the root."""
    name = text.lower().removesuffix(".")
    if (
        len(name) > 253
        or not all(_LABEL.fullmatch(label) for label in name.split("."))
        or name.split(".")[-1].isdigit()
    ):
        raise Unfit(f"{text} is not a host name", "write a name like ftp.example.org")
    return name


def mac(text: str) -> str:
    """The MAC address of one machine."""
    digits = re.sub("[:-]", "", text)
    if not re.fullmatch("([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}", text, re.ASCII):
        raise Unfit(f"{text} is not a MAC address", "write six pairs of digits, like 52:54:00:12:34:56")
    raw = bytes.fromhex(digits)
    if raw[0] & 1 or not any(raw):
        raise Unfit(
            f"{text} is the address of no single machine", "write the MAC address of the machine's network card"
        )
    return raw.hex(":")


def line(text: str) -> str:
    """Text of one printable line."""
    if text and not text.isprintable():
        raise Unfit("characters that cannot be printed", "write one line of printable characters")
    return text


def regex(text: str) -> str:
    """A regular expression for names whose cost is bounded."""
    _printable(text, "a regular expression")
    try:
        patterns.steps(text)
    except patterns.PatternError as error:
        raise Unfit(error.what, error.remedy) from None
    return text


def replacement(text: str) -> str:
    """What takes the place of what a regular expression found; may be empty."""
    line(text)
    try:
        patterns.parts(text)
    except patterns.PatternError as error:
        raise Unfit(error.what, error.remedy) from None
    return text


def stored_password(text: str) -> str:
    """What `appliance board password` prints."""
    if password.parse(text) is None:
        raise Unfit("that is no stored password", "write what `appliance board password` prints")
    return text


CHECKS: dict[str, Callable[[str], str]] = {
    "endpoint": endpoint,
    "network": network,
    "port-range": port_range,
    "path": path,
    "relative-path": relative_path,
    "user": user,
    "pattern": pattern,
    "name": name,
    "ipv4": ipv4,
    "address-range": address_range,
    "interface": interface,
    "loader-path": loader_path,
    "public-address": public_address,
    "host-name": host_name,
    "mac": mac,
    "line": line,
    "regex": regex,
    "replacement": replacement,
    "stored-password": stored_password,
}
