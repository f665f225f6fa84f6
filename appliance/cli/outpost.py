"""A client beside this machine: a network namespace with an address, from which a firewall is met as it is from afar.

Invariant: whatever happens, namespace, link and routes are gone afterwards. The neighbours on both ends of the link are
written out, so that no setting of this machine about ARP is in the way.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict

from appliance.cli.reach import Finding, Target
from appliance.errors import ApplianceError
from appliance.supervise.spawn import python_argv

_PATIENCE_S = 90.0  # every probe bounds itself
_SAMPLES = 5


def findings(source: str, wanted: list[Target], passive: range) -> list[Finding]:
    """What a client with the address `source` finds. Raises ApplianceError when it cannot be made."""
    version = ipaddress.ip_address(source).version
    own = [one for one in wanted if (6 if ":" in one.address else 4) == version]
    if not own:
        what = f"nothing is served to clients like {source}: no listener on the network has IPv{version}"
        return [Finding("network", "warning", what, "tftp.listen, ftp.listen")]
    with ExitStack() as stack:
        doors = [one for one in own if one.name in ("ftp", "ftps")][:1]
        for door in doors:
            own += [Target("passive", door.address, port) for port in _listening(stack, door.address, passive)]
        space = stack.enter_context(outpost(source, sorted({one.address for one in own})))
        argv = python_argv("appliance.cli.reach", json.dumps([asdict(one) for one in own]))
        said = _run(["ip", "netns", "exec", space, *argv])
    return [Finding(one["check"], one["state"], f"{one['what']}, asked by {source}", one["remedy"])
            for one in json.loads(said)]  # fmt: skip


def _listening(stack: ExitStack, address: str, passive: range) -> Iterator[int]:
    """Ports spread over the range, both ends among them, that are free; something of ours listens there meanwhile."""
    steps = min(_SAMPLES, len(passive)) - 1
    for port in sorted({passive[(len(passive) - 1) * step // max(1, steps)] for step in range(steps + 1)}):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = socket.create_server((address, port), family=family)
        except OSError:
            continue  # a transfer has it
        stack.enter_context(sock)
        yield port


@contextmanager
def outpost(source: str, known: list[str]) -> Iterator[str]:
    """The name of a namespace in which `source` is the address, and `known` of this machine are at hand."""
    _may_be_made(source)
    name = f"doctor{os.getpid()}"
    near, far = f"{name}n", f"{name}f"
    whole = f"{source}/{128 if ':' in source else 32}"
    try:
        _run(["ip", "netns", "add", name])
        _run(["ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name])
        here, there = (_hardware(*where) for where in ((near, ""), (far, name)))
        inside = ["ip", "-n", name]
        _run(["ip", "link", "set", near, "up"])
        _run([*inside, "link", "set", "lo", "up"])
        _run([*inside, "link", "set", far, "up"])
        _run([*inside, "address", "add", whole, "dev", far, *(["nodad"] if ":" in source else [])])
        _run(["ip", "route", "add", whole, "dev", near])
        _run(["ip", "neighbour", "replace", source, "lladdr", there, "dev", near, "nud", "permanent"])
        for address in known:
            _run([*inside, "route", "add", address, "dev", far])
            _run([*inside, "neighbour", "replace", address, "lladdr", here, "dev", far, "nud", "permanent"])
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", near], capture_output=True, timeout=20, check=False)  # noqa: S603, S607
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=20, check=False)  # noqa: S603, S607


def _may_be_made(source: str) -> None:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise ApplianceError("a client beside this machine is made by root, with ip (sudo; apt-get install iproute2)")
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((source, 0))
        except OSError:
            return
    raise ApplianceError(f"{source} is an address of this machine (name one that nobody has, in a network you serve)")


def _hardware(link: str, space: str) -> str:
    argv = ["ip", *(["-n", space] if space else []), "-j", "link", "show", "dev", link]
    return str(json.loads(_run(argv))[0]["address"])


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603 (no shell)
    if done.returncode:
        raise ApplianceError(f"{' '.join(argv[:6])}: {done.stderr.strip()[-500:]} (nothing of it is left)")
    return done.stdout
