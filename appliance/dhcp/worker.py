"""The `dhcp` service: a confined child that has dnsmasq run beside it, and makes log lines of what dnsmasq says.

What needs root happens in `prepare`, before the child is confined: the address of the interface, the question who else
answers, dnsmasq itself. Afterwards it holds two pipes. It does not outlive dnsmasq, nor dnsmasq it (dhcp.guard).
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import time
from collections import OrderedDict
from ipaddress import IPv4Address
from typing import Any

from appliance import wire
from appliance.child.context import Context
from appliance.confine.foreign import CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, Foreign
from appliance.dhcp import dnsmasq, guard, lan
from appliance.errors import ConfinementError, StartError
from appliance.observe import events
from appliance.observe.emitter import Emitter
from appliance.observe.log import Log
from appliance.settings.boot import BootSettings
from appliance.settings.dhcp import DhcpSettings, told
from appliance.settings.plain import decode

_PROGRAM = "/usr/sbin/dnsmasq"  # not a setting: what a settings reader that fell could name would be run
_READY_S = 15.0
_LONGEST = 2000  # bytes of one line
_LINE = re.compile(r"dnsmasq(-dhcp)?\[\d+\]: (.*)")
_DETAIL = re.compile(r"(\d+) (.*)")  # of log-dhcp: the transaction it belongs to, before everything it says of it
_GIVEN = re.compile(r"(DHCP[A-Z]+|PXE)\(([^)]*)\) ?(.*)")
_BOOTS = "vendor class: PXEClient"
_MAC = re.compile("([0-9a-f]{2}:){5}[0-9a-f]{2}")
_ANSWERS = ("DHCPACK", "PXE")
_MOST = 1024  # transactions whose vendor class is remembered


class DhcpChild:
    """See the module."""

    def __init__(self, context: Context, guarded: guard.Guarded, log: Log) -> None:
        self._context, self._guarded, self._log = context, guarded, log
        self._rest = b""
        self._booting: OrderedDict[str, None] = OrderedDict()  # transactions of machines that boot
        lost = lambda count: context.counters.add("events_lost", count)  # noqa: E731
        self._emitter = Emitter(context.links.get("events"), int(context.settings["events_per_second"]), lost)
        self._selector = selectors.EpollSelector()

    def run(self) -> None:
        """Serve until drained, or the supervisor or dnsmasq is gone."""
        os.set_blocking(self._guarded.said, False)
        self._selector.register(self._guarded.said, selectors.EVENT_READ, self._hear)
        self._selector.register(self._context.channel.fileno(), selectors.EVENT_READ, self._told)
        going = True
        while going:
            events = self._selector.select(1.0)
            self._context.counters.tick()
            self._emitter.flush(time.monotonic())
            for key, _mask in events:
                try:
                    going = key.data() and going
                except EOFError:
                    going = False
                except Exception:
                    self._context.counters.add("crashes")
                    self._log.crash("dhcp")
        os.close(self._guarded.life)

    def _told(self) -> bool:
        """A message of the supervisor; False when it is time to go."""
        received = self._context.channel.receive()
        if received is None:
            return True
        message, fds = received
        if isinstance(message, wire.Link) and fds:
            self._emitter.attach(socket.socket(fileno=fds.pop()))
        for descriptor in fds:
            os.close(descriptor)
        return not isinstance(message, wire.Drain)

    def _hear(self) -> bool:
        """What dnsmasq says; False when it has ended."""
        try:
            data = os.read(self._guarded.said, 65536)
        except BlockingIOError:
            return True
        if not data:
            self._log.error("dnsmasq has ended")
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:_LONGEST]
        for line in lines:
            self._tell(line[:_LONGEST])
        return True

    def _tell(self, line: bytes) -> None:
        text = line.decode("ascii", "backslashreplace")
        found = _LINE.fullmatch(text)
        said = found[2] if found else text
        detail = _DETAIL.fullmatch(said)
        number, said = (detail[1], detail[2]) if detail else ("", said)
        given = _GIVEN.fullmatch(said)
        if given is not None:
            self._given(number, given[1], given[2], given[3])
        elif detail is None:
            self._log.info("dnsmasq", said=said)
        elif said.startswith(_BOOTS):
            self._booting[number] = None
            if len(self._booting) > _MOST:
                self._booting.popitem(last=False)

    def _given(self, number: str, message: str, interface: str, said: str) -> None:
        words = said.split(" ")
        mac = next((word for word in words if _MAC.fullmatch(word)), "")
        address = words[0] if words[0].replace(".", "").isdigit() else ""
        self._log.info("dhcp", client=mac, message=message, interface=interface, said=said)
        if message not in _ANSWERS:
            return
        self._context.counters.add("transfers")
        boots = message == "PXE" or number in self._booting
        file = said.partition(f"{mac} ")[2] if message == "PXE" and mac else ""
        texts = (text.encode("ascii", "replace") for text in (mac, address, message, interface, file))
        self._emitter.emit(events.Dhcp(int(boots), *texts), time.monotonic())


def prepare(context: Context) -> DhcpChild:
    """Find out, ask, start dnsmasq, and wait until it serves. Raises StartError."""
    log = Log("dhcp", str(context.settings["log"]))
    boot = decode(BootSettings, context.settings["boot"])
    folder = str(context.settings["folder"])
    here = lan.address(boot.dhcp_server.interface or "")
    if boot.dhcp == "range":
        _alone(boot.dhcp_server, lan.others(str(boot.dhcp_server.interface), here))
    try:
        text = dnsmasq.configuration(_wanted(boot, here, folder))
    except dnsmasq.Unwritable as error:
        raise StartError(f"boot.dhcp_server: {error}") from error
    program = Foreign(
        _PROGRAM,
        ("--keep-in-foreground", "--log-facility=-", "--pid-file=", "--user=", "--group=", "--conf-file=-"),
        folder,
        int(context.settings["uid"]),
        int(context.settings["gid"]),
        (CAP_NET_BIND_SERVICE, CAP_NET_ADMIN),
        "dnsmasq",
    )
    if not os.access(_PROGRAM, os.X_OK):
        raise StartError(f"boot.dhcp: there is no {_PROGRAM}; apt-get install dnsmasq-base")
    try:
        guarded = guard.start(program, text)
    except (OSError, ConfinementError) as error:
        raise StartError(f"dnsmasq cannot be started: {error}") from error
    _serving(guarded.said)
    return DhcpChild(context, guarded, log)


def _alone(settings: DhcpSettings, found: list[Any]) -> None:
    if found:
        who = ", ".join(str(offer.server) for offer in found)
        raise StartError(
            f"boot.dhcp: range: another DHCP server answers on {settings.interface}: {who} "
            "(write proxy to work beside it, or end the other one)"
        )


def _wanted(boot: BootSettings, here: Any, folder: str) -> dnsmasq.Wanted:
    settings = boot.dhcp_server
    first, last = (settings.range or "-").split("-", 1)
    return dnsmasq.Wanted(
        boot.dhcp,
        str(settings.interface),
        here,
        f"{folder}/leases",
        told(boot.dhcp, settings.files),
        IPv4Address(first.strip()) if first else None,
        IPv4Address(last.strip()) if last else None,
        settings.router or "",
        settings.dns,
        int(settings.lease),
        settings.leases,
    )


def _serving(said: int) -> None:
    """Wait for dnsmasq's word that it has started. Raises StartError with its last words when it ends instead.

    Read byte by byte up to that line and not beyond: nothing before it has come from the network.
    """
    line, last = b"", ""
    deadline = time.monotonic() + _READY_S
    os.set_blocking(said, False)
    with selectors.DefaultSelector() as selector:
        selector.register(said, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                break
            byte = os.read(said, 1)
            if not byte:
                raise StartError(f"dnsmasq did not start: {last or 'it said nothing'}")
            line += byte
            if byte == b"\n":
                last, line = line.decode("ascii", "backslashreplace").strip(), b""
                if ": started, version" in last:
                    return
    raise StartError("dnsmasq did not say that it has started")
