"""`appliance doctor`: is the machine well, by its configuration, its supervisor, its network side and its clock."""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance import __version__
from appliance.cli import configuration, control, output, reach
from appliance.cli.options import Config, Json
from appliance.cli.reach import Finding
from appliance.errors import ApplianceError, ExitCode

if TYPE_CHECKING:
    from appliance.settings.main import Settings

_PATIENCE_S = 5.0


def doctor(
    *,
    config: Config = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="ADDRESS",
            help="As root: ask as a client with this address as well, which nobody has, in a network that is served.",
            show_default=False,
        ),
    ] = None,
    dhcp: Annotated[
        str | None,
        typer.Option(
            "--dhcp",
            metavar="INTERFACE",
            help="As root: ask what machines on this interface are told to boot (one DHCPDISCOVER for each kind).",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Examine the installed appliance, and tell for each finding the command that mends it.

    Looks at the configuration and what it meets (as `check` does), at the running supervisor, at whether TFTP
    and FTP answer at the addresses of this machine and passive connections come through, at a firewall
    that drops, at certificates, at the clock, and at versions. Changes nothing. With --as there is a client
    in a network namespace for some seconds, so that the firewall of this machine is met as clients meet it,
    at the service ports and at samples of the passive range. A firewall between this machine and its
    clients cannot be seen from here.

    \b
    Examples:
      appliance doctor
      appliance doctor --as 192.0.2.77 --dhcp eth0
      appliance doctor --json
    """
    found = configuration.find(config, quiet=as_json)
    settings, warnings = found.load()
    findings = [*_world(settings, [str(one) for one in warnings]), *_certificates(settings), *_clock()]
    findings += _firewall(settings)
    facts = _facts(settings.run_dir)
    findings += [*_running(facts), *_versions(settings), *reach.ask(reach.targets(facts, _implicit(settings)))]
    if source is not None:
        findings += _from(_address(source), settings, facts)
    if dhcp is not None:
        from appliance.cli import answers

        findings += answers.findings(dhcp)
    bad = any(one.state == "error" for one in findings)
    if as_json:
        output.document({"config": found.name, "ok": not bad, "findings": [asdict(one) for one in findings]})
    else:
        for one in findings:
            output.fact(f"{one.state:8}{one.check}: {one.what}{f' ({one.remedy})' if one.remedy else ''}")
    raise typer.Exit(ExitCode.FAILED if bad else ExitCode.DONE)


def _implicit(settings: Settings) -> set[int]:
    """Ports at which FTP begins with TLS."""
    ftp = settings.ftp
    if ftp.tls.mode == "off":
        return set()
    texts = (*ftp.tls.implicit_listen, *(text for site in ftp.sites for text in site.implicit_listen))
    return {int(text.rpartition(":")[2]) for text in texts}


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text} is no address", param_hint="--as") from error


def _from(source: str, settings: Settings, facts: dict[str, Any]) -> Iterator[Finding]:
    """What a client with this address finds."""
    from appliance.cli import outpost
    from appliance.settings.forms import port_range_parts

    try:
        wanted = reach.targets(facts, _implicit(settings))
        yield from outpost.findings(source, wanted, port_range_parts(settings.ftp.passive_ports))
    except ApplianceError as error:
        what, _, remedy = str(error).rpartition(" (")
        yield Finding("network", "error", what or str(error), remedy.rstrip(")"))


def _certificates(settings: Settings) -> Iterator[Finding]:
    """How long each certificate is still valid; one that cannot be used, or ends soon, is told by the configuration."""
    from appliance import world

    for path, days in world.validity(settings):
        yield Finding("tls", "ok", f"{path} is valid for {days} more days")


def _versions(settings: Settings) -> Iterator[Finding]:
    """Of what runs here, as a report of a defect would name it."""
    parts = [f"appliance {__version__}", f"Python {platform.python_version()}", f"Linux {platform.release()}"]
    programs = {"systemctl": ("--version",)} | ({"dnsmasq": ("--version",)} if settings.boot.dhcp != "off" else {})
    for program, words in programs.items():
        if where := shutil.which(program):
            said = subprocess.run([where, *words], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
            parts.append(" ".join(said.stdout.split("\n", maxsplit=1)[0].split()[:3]))
        elif program == "dnsmasq":
            yield Finding("version", "error", "boot.dhcp needs dnsmasq", "apt-get install dnsmasq-base")
    yield Finding("version", "ok", ", ".join(parts))


def _world(settings: Settings, warnings: list[str]) -> Iterator[Finding]:
    from appliance import world

    facts = _facts(settings.run_dir)
    kinds = {"tftp": "udp", "ftp": "tcp"}
    services = facts.get("services", {})
    held = {f"{kind} {text}" for name, kind in kinds.items() for text in services.get(name, {}).get("listen", ())}
    judged = world.judge(settings, ours=frozenset(held))
    problems = [one for one in judged if one.key != "clock"]  # judged by itself
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
    """Whether the clock can be right, and whether anybody keeps it so."""
    from appliance import world

    current = time.time() if now is None else now
    if what := world.behind(current):
        yield Finding("clock", "error", what, "timedatectl set-ntp true, or date -s")
        return
    yield Finding("clock", "ok", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(current)))
    if _unsynchronised():
        yield Finding("clock", "warning", "no time server keeps it right", "timedatectl set-ntp true")


def _unsynchronised() -> bool:
    """What timedatectl(1) says of this machine; where nobody can say, nothing is held against it."""
    program = shutil.which("timedatectl")
    if program is None or not os.path.isdir("/run/systemd/system"):
        return False
    argv = [program, "show", "--property=NTPSynchronized", "--value"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    return said.stdout.strip() == "no"


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
