"""`appliance doctor`: is the machine well, by its configuration, its supervisor, its network side and its clock."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from appliance import __version__
from appliance.cli import configuration, control, output
from appliance.cli.options import Config, Json
from appliance.errors import ExitCode

if TYPE_CHECKING:
    from appliance.settings.main import Settings

_PATIENCE_S = 5.0
_ELSEWHERE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))  # RFC 5737, RFC 3849: nothing is sent
_ABSENT = b"\0\1.appliance-doctor\0octet\0"  # a read request for a name that nobody has


@dataclass(frozen=True, slots=True)
class Finding:
    """`state` is ok, warning or error; `remedy` is the command that mends it, "" where nothing is wrong."""

    check: str
    state: str
    what: str
    remedy: str = ""


def doctor(*, config: Config = None, as_json: Json = False) -> None:
    """Examine the installed appliance, and tell for each finding the command that mends it.

    Looks at the configuration and what it meets (as `check` does), at the running supervisor, at whether TFTP
    and FTP answer at the addresses of this machine and passive connections come through, at a firewall
    that drops, at the clock, and at the version that runs. Changes nothing. A firewall between this
    machine and its clients cannot be seen from here.

    \b
    Examples:
      appliance doctor
      appliance doctor --json
    """
    found = configuration.find(config, quiet=as_json)
    settings, warnings = found.load()
    findings = [*_world(settings, [str(one) for one in warnings]), *_clock(), *_firewall(settings)]
    facts = _facts(settings.run_dir)
    findings += [*_running(facts), *_reach(facts)]
    bad = any(one.state == "error" for one in findings)
    if as_json:
        output.document({"config": found.name, "ok": not bad, "findings": [asdict(one) for one in findings]})
    else:
        for one in findings:
            output.fact(f"{one.state:8}{one.check}: {one.what}{f' ({one.remedy})' if one.remedy else ''}")
    raise typer.Exit(ExitCode.FAILED if bad else ExitCode.DONE)


def _world(settings: Settings, warnings: list[str]) -> Iterator[Finding]:
    from appliance import world

    facts = _facts(settings.run_dir)
    kinds = {"tftp": "udp", "ftp": "tcp"}
    services = facts.get("services", {})
    held = {f"{kind} {text}" for name, kind in kinds.items() for text in services.get(name, {}).get("listen", ())}
    problems = world.judge(settings, ours=frozenset(held))
    for line in warnings:
        yield Finding("configuration", "warning", line, "appliance check")
    for one in problems:
        yield Finding(one.key or "world", one.severity, one.what, one.remedy)
    if not problems and not warnings:
        yield Finding("configuration", "ok", "nothing is wrong with it, nor with what it meets")


def _facts(run_dir: str) -> dict[str, Any]:
    try:
        return dict(json.loads(control.status(run_dir, _PATIENCE_S)))
    except (control.NotRunning, control.NoAnswer, ValueError) as error:
        return {"absent": str(error)}


def _running(facts: dict[str, Any]) -> Iterator[Finding]:
    if "absent" in facts:
        yield Finding("running", "error", str(facts["absent"]), "systemctl start appliance, or appliance run")
        return
    if facts.get("ready"):
        yield Finding("running", "ok", "every listener serves")
    else:
        yield Finding("running", "error", "not every listener serves", "appliance status")
    for one in facts.get("problems", ()):
        yield Finding("running", str(one["severity"]), str(one["what"]), str(one["remedy"]))
    if facts.get("version", __version__) != __version__:
        what = f"version {facts['version']} runs, {__version__} is installed"
        yield Finding("version", "warning", what, "systemctl restart appliance")


def _clock(now: float | None = None) -> Iterator[Finding]:
    """A clock that is behind our own files is wrong: certificates, retention and times of listings depend on it."""
    made = os.stat(__file__).st_mtime
    current = time.time() if now is None else now
    if current < made - 86400:
        what = f"it says {time.strftime('%Y-%m-%d', time.gmtime(current))}, before this program was made"
        yield Finding("clock", "error", what, "timedatectl set-ntp true, or date -s")
    else:
        yield Finding("clock", "ok", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(current)))


def _firewall(settings: Settings) -> Iterator[Finding]:
    """An input chain of nftables that drops what no rule names, and no rule with a port of ours. Root may look."""
    program = shutil.which("nft")
    if program is None or os.geteuid() != 0:
        return
    asked = subprocess.run([program, "-j", "list", "ruleset"], capture_output=True, timeout=20, check=False)  # noqa: S603
    try:
        items = json.loads(asked.stdout)["nftables"]
    except (ValueError, KeyError, TypeError):
        return
    yield from judged(items, settings)


def judged(items: list[dict[str, Any]], settings: Settings) -> Iterator[Finding]:
    """What a ruleset (libnftables-json(5)) lets through of what is served."""
    from appliance.install import doors

    chains = [item["chain"] for item in items if "chain" in item]
    if not any(chain.get("hook") == "input" and chain.get("policy") == "drop" for chain in chains):
        return
    named = [match for item in items if "rule" in item for match in _ports(item["rule"].get("expr", ()))]
    for door in doors.doors(settings):
        for first, last in door.ports:
            if not any(low <= first and last <= high for low, high in named):
                what = (
                    f"the firewall drops, and no rule names {door.protocol} {first}{f'-{last}' if last > first else ''}"
                )
                yield Finding("firewall", "error", f"{what} ({door.name})", "appliance firewall nft")


def _ports(expressions: Iterable[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    for one in expressions:
        match = one.get("match", {})
        if match.get("left", {}).get("payload", {}).get("field") != "dport":
            continue
        right = match.get("right")
        for value in right["set"] if isinstance(right, dict) and "set" in right else [right]:
            if isinstance(value, int):
                yield value, value
            elif isinstance(value, dict) and "range" in value:
                yield value["range"][0], value["range"][1]


def _reach(facts: dict[str, Any]) -> Iterator[Finding]:
    """Each address on the network at which a service listens answers, by the protocol."""
    import ftplib  # `--help` is quick

    for name, probe in (("tftp", _tftp), ("ftp", _ftp)):
        for text in facts.get("services", {}).get(name, {}).get("listen", ()):
            host, _, port = text.rpartition(":")
            address = _outward(host.strip("[]"))
            if address is None:
                continue
            try:
                yield Finding(name, "ok", probe(address, int(port)))
            except (OSError, EOFError, ftplib.Error) as error:
                remedy = "appliance firewall nft, ss -lnup" if name == "tftp" else "appliance firewall nft, ss -lntp"
                yield Finding(name, "error", f"no answer at {address} port {port}: {error or 'closed'}", remedy)


def _outward(host: str) -> str | None:
    """The address of this machine that its network sees for a listener; None when there is none of that family."""
    if host not in {"0.0.0.0", "::"}:
        return host
    for elsewhere, family in _ELSEWHERE:
        if (":" in host) == (family == socket.AF_INET6):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                try:
                    sock.connect((elsewhere, 9))
                    return str(sock.getsockname()[0])
                except OSError:
                    return None
    return None


def _tftp(address: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_PATIENCE_S)
        sock.sendto(_ABSENT, (address, port))
        sock.recvfrom(2048)
    return f"answers at {address} port {port}"


def _ftp(address: str, port: int) -> str:
    import ftplib

    with ftplib.FTP(timeout=_PATIENCE_S) as client:  # noqa: S321 (it is what this server speaks)
        client.connect(address, port)
        client.login()
        count = len(client.nlst())
    return f"answers at {address} port {port}, and a passive connection came through ({count} entries)"
