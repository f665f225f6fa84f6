"""Ask the services at their addresses as a client does; `main` does it in another network namespace (`doctor --as`)."""

from __future__ import annotations

import json
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliance.cli.ftpclient import Session

_PATIENCE_S = 5.0
_ELSEWHERE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))  # RFC 5737, RFC 3849: nothing is sent
_ABSENT = b".appliance-doctor"  # a name that nobody has
_RULES = "appliance firewall nft"


@dataclass(frozen=True, slots=True)
class Finding:
    """`state` is ok, warning or error; `remedy` is the command that mends it, "" where nothing is wrong."""

    check: str
    state: str
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A port of ours on an address of this machine: of a service, `ftps` where FTP begins with TLS, or `passive` for
    one of FTP's data connections."""

    name: str
    address: str
    port: int


def targets(facts: Mapping[str, Any], implicit: Collection[int] = ()) -> list[Target]:
    """Each address on the network at which a service of `status --json` listens. `implicit`: ports of `ftps`."""
    found: list[Target] = []
    for name in ("tftp", "ftp"):
        for text in facts.get("services", {}).get(name, {}).get("listen", ()):
            host, _, port = text.rpartition(":")
            if (address := outward(host.strip("[]"))) is not None:
                found.append(Target("ftps" if name == "ftp" and int(port) in implicit else name, address, int(port)))
    return found


def outward(host: str) -> str | None:
    """The address of this machine that its network sees for a listener; None when there is none of that family, or
    another machine has it now (of `check`'s findings that is one).
    """
    if host not in {"0.0.0.0", "::"}:
        return host if _is_ours(host) else None
    for elsewhere, family in _ELSEWHERE:
        if (":" in host) == (family == socket.AF_INET6):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                try:
                    sock.connect((elsewhere, 9))
                    return str(sock.getsockname()[0])
                except OSError:
                    return None
    return None


def _is_ours(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True


def ask(found: list[Target]) -> Iterator[Finding]:
    """One finding for each service at each address, and one for the ports of data connections."""
    import ftplib  # `--help` is quick

    silent: list[str] = []
    passive = [one for one in found if one.name == "passive"]
    for one in found:
        where = f"{one.address} port {one.port}"
        try:
            if one.name == "passive":
                socket.create_connection((one.address, one.port), timeout=_PATIENCE_S).close()
            else:
                yield Finding(one.name, "ok", f"answers at {where}{_PROBES[one.name](one.address, one.port)}")
        except ftplib.Error as error:
            remedy = "appliance log --since 5m; ftp.allow, ftp.limits and ftp.passive_ports have reasons"
            yield Finding(one.name, "error", f"refuses at {where}: {error}", remedy)
        except (OSError, EOFError) as error:
            if one.name == "passive":
                silent.append(str(one.port))
            else:
                remedy = f"{_RULES}, " + ("tftp.allow, ss -lnup" if one.name == "tftp" else "ftp.allow, ss -lntp")
                yield Finding(one.name, "error", f"no answer at {where}: {error or 'closed'}", remedy)
    if silent:
        what = f"data connections do not come through to port {', '.join(silent)} of {passive[0].address}"
        yield Finding("passive ports", "error", what, _RULES)
    elif passive:
        ports = ", ".join(str(one.port) for one in passive)
        yield Finding("passive ports", "ok", f"data connections come through to {ports} of {passive[0].address}")


def tftp(address: str, port: int, name: bytes = _ABSENT) -> bytes:
    """What is answered to a read request, which goes no further. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_PATIENCE_S / 2)
        for last in (False, True):
            sock.sendto(b"\0\1" + name + b"\0octet\0tsize\0" + b"0\0", (address, port))
            try:
                answer, peer = sock.recvfrom(2048)
            except TimeoutError:
                if last:
                    raise
                continue
            if answer[:2] != b"\0\5":
                sock.sendto(b"\0\5\0\0\0", peer)
            return answer
    raise AssertionError("unreachable")


def _ask_tftp(address: str, port: int) -> str:
    tftp(address, port)
    return ""


def _ask_ftp(address: str, port: int) -> str:
    import ftplib

    from appliance.cli.ftpclient import Session

    try:
        # latin-1: names in a folder may have any bytes
        return _listed(Session(timeout=_PATIENCE_S, encoding="latin-1"), address, port)
    except ftplib.error_perm as error:
        if "TLS" not in str(error):
            raise
        return _ask_under_tls(address, port, implicit=False)  # `ftp.tls.mode: required`


def _ask_ftps(address: str, port: int) -> str:
    return _ask_under_tls(address, port, implicit=True)


def _ask_under_tls(address: str, port: int, *, implicit: bool) -> str:
    import ssl

    from appliance.cli.ftpsclient import TlsSession

    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE  # whether it is reached is asked, not by which name
    return _listed(TlsSession(trust, implicit=implicit, timeout=_PATIENCE_S, encoding="latin-1"), address, port)


def _listed(client: Session, address: str, port: int) -> str:
    with client:
        client.reach(address, port)
        client.begin()
        count = len(client.nlst())
    return f", and a passive connection came through ({count} entries)"


_PROBES = {"tftp": _ask_tftp, "ftp": _ask_ftp, "ftps": _ask_ftps}


def main(argv: list[str]) -> int:
    """Targets as JSON in the first argument, findings as JSON on standard output."""
    wanted = [Target(**one) for one in json.loads(argv[0])]
    print(json.dumps([asdict(one) for one in ask(wanted)]))
    return 0
