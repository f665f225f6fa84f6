"""Every judgement about what is listened on, with its exact words and the command that mends it."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from appliance import reach
from appliance.machine import Machine
from appliance.settings.main import Settings
from appliance.settings.tftp import TftpSite
from tests.ftp.tlskit import certificate
from tests.judged import changed, found, ftp_only, made, tftp_only, tls


def test_a_taken_port_names_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "unit", lambda *_args: "")
    name = Path("/proc/self/comm").read_text().strip()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert found(reach.ports, tftp_only(listen=("127.0.0.1:0", f"127.0.0.1:{port}")), Machine()) == [
            f"tftp.listen[1]: udp port {port} is taken by {name} (pid {os.getpid()}) "
            f"(kill {os.getpid()}, or write another port)"
        ]


@pytest.mark.parametrize(
    ("holder", "unit", "remedy"),
    [
        ("vsftpd (pid 7)", "vsftpd.service", "systemctl disable --now vsftpd.service"),
        ("in.tftpd (pid 7)", "tftpd-hpa.service", "systemctl disable --now tftpd-hpa.service"),
        ("dnsmasq (pid 7)", "dnsmasq.service", "take enable-tftp out of its configuration and restart dnsmasq.service, "
         "or systemctl disable --now dnsmasq.service"),
        ("dnsmasq (pid 7)", "", "kill 7"),
        ("systemd (pid 1)", "init.scope", "systemctl list-sockets shows the .socket that holds it: "
         "systemctl disable --now NAME.socket"),
    ],
)  # fmt: skip
def test_a_taken_port_is_freed_by_the_unit_that_holds_it(
    monkeypatch: pytest.MonkeyPatch, holder: str, unit: str, remedy: str
) -> None:
    monkeypatch.setattr(Machine, "holder", lambda *_args: holder)
    monkeypatch.setattr(Machine, "unit", lambda *_args: unit)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (line,) = found(reach.ports, ftp_only(listen=(f"127.0.0.1:{taken.getsockname()[1]}",)), Machine())
    assert line.endswith(f" is taken by {holder} ({remedy}, or write another port)")


def test_a_taken_port_of_someone_unseen_says_how_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "holder", lambda *_args: "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert found(reach.ports, ftp_only(listen=(f"127.0.0.1:{port}",)), Machine()) == [
            f"ftp.listen[0]: tcp port {port} is taken "
            f"(as root: ss -ltnp sport = :{port} shows by whom; stop it, or write another port)"
        ]


def test_a_low_port_needs_root(tmp_path: Path) -> None:
    machine = made(tmp_path, {"self/status": "CapEff:\t0\n"}, uid=1000)
    assert found(reach.ports, tftp_only(listen=("127.0.0.1:69",)), machine) == [
        "tftp.listen[0]: port 69 needs root "
        "(run as root, or write a port from 1024, or sysctl -w net.ipv4.ip_unprivileged_port_start=69)"
    ]


def test_the_port_of_a_site_is_tried_too(tmp_path: Path) -> None:
    machine = made(tmp_path, {"self/status": "CapEff:\t0\n"}, uid=1000)
    settings = tftp_only(listen=("127.0.0.1:0",), sites=(TftpSite("127.0.0.1:69"),))
    assert [line.partition(" (")[0] for line in found(reach.ports, settings, machine)] == [
        "tftp.sites[0].listen: port 69 needs root"
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EAFNOSUPPORT, "ftp.listen[0]: this machine has no IPv6 (take [::1]:2121 out)"),
        (errno.EIO, "ftp.listen[0]: port 2121 at ::1 cannot be bound: Input/output error (ip -brief address)"),
    ],
)
def test_other_refusals_of_the_kernel_are_told(code: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(reach, "try_bind", refuse)
    assert found(reach.ports, ftp_only(listen=("[::1]:2121",))) == [expected]
    assert found(reach.addresses, ftp_only(listen=("[::1]:2121",))) == []


@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::77"])
def test_an_address_that_is_not_here_is_a_warning(address: str) -> None:
    listen = (f"[{address}]:0" if ":" in address else f"{address}:0", "127.0.0.1:0")
    assert found(reach.addresses, tftp_only(listen=listen)) == [
        f"warning: tftp.listen[0]: {address} is not an address of this machine; it is served as soon as it is "
        "(ip -brief address shows those it has)"
    ]
    assert found(reach.ports, tftp_only(listen=listen)) == []


def test_active_mode_from_a_low_port_needs_root(tmp_path: Path) -> None:
    ordinary = made(tmp_path, {"self/status": "CapEff:\t0\n"}, uid=1000)
    assert found(reach.source_port, Settings(), ordinary) == [
        "warning: ftp.active.source_port: port 20 needs root, so active mode fails (run as root, or write 0)"
    ]
    assert found(reach.source_port, ftp_only(active={"source_port": 0}), ordinary) == []
    assert found(reach.source_port, ftp_only(active={"enabled": False}), ordinary) == []
    assert found(reach.source_port, tftp_only(), ordinary) == []
    assert found(reach.source_port, Settings(), Machine(str(tmp_path / "none"), uid=0)) == []


def test_a_small_receive_buffer_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "receive_buffer", lambda _wanted: 212_992)
    assert found(reach.receive_buffers, Settings()) == [
        "warning: tftp.listen: a listener gets a receive buffer of 208KiB, too little for many machines at once "
        "(sysctl -w net.core.rmem_max=8388608, or run as root)"
    ]
    assert found(reach.receive_buffers, ftp_only()) == []
    monkeypatch.setattr(reach, "receive_buffer", lambda _wanted: 1 << 20)
    assert found(reach.receive_buffers, Settings()) == []


def test_fewer_passive_ports_than_sessions_is_a_warning(tmp_path: Path) -> None:
    few = {"passive_ports": "61000-61099", "limits": {"sessions": 101}}
    assert found(reach.passive_ports, ftp_only(**few), made(tmp_path, {})) == [
        "warning: ftp.passive_ports: 100 ports are fewer than 101 sessions "
        "(write a wider range, or ftp.limits.sessions: 100)"
    ]
    one = ftp_only(passive_ports="61000-61000", limits={"sessions": 2})
    assert "1 port is fewer than 2 sessions" in found(reach.passive_ports, one, made(tmp_path, {}))[0]
    assert found(reach.passive_ports, ftp_only(**{**few, "limits": {"sessions": 100}}), made(tmp_path, {})) == []
    assert found(reach.passive_ports, changed(ftp={"enabled": False, **few}), made(tmp_path, {})) == []


def test_passive_ports_that_the_kernel_gives_out_are_a_warning(tmp_path: Path) -> None:
    machine = made(tmp_path, {"sys/net/ipv4/ip_local_port_range": "32768\t61000\n"})
    assert found(reach.passive_ports, Settings(), machine) == [
        "warning: ftp.passive_ports: 61000-65535 overlaps 32768-61000, which the kernel gives out to other connections "
        "(sysctl -w net.ipv4.ip_local_reserved_ports=61000-65535)"
    ]


@pytest.mark.parametrize(
    ("reserved", "remedy"),
    [
        ("61000-65535", ""),
        ("8080,60999-61000", ""),  # what lies beyond 61000 the kernel gives out to nobody
        ("8080", "8080,61000-65535"),
        ("61001-65535", "61001-65535,61000-65535"),
    ],
)
def test_passive_ports_that_the_kernel_keeps_back_are_no_finding(tmp_path: Path, reserved: str, remedy: str) -> None:
    """Seen: a warning for ever on a machine where net.ipv4.ip_local_reserved_ports held the whole range."""
    files = {"ip_local_port_range": "32768\t61000\n", "ip_local_reserved_ports": f"{reserved}\n"}
    machine = made(tmp_path, {f"sys/net/ipv4/{name}": text for name, text in files.items()})
    told = found(reach.passive_ports, Settings(), machine)
    assert [line.rpartition("=")[2] for line in told] == ([f"{remedy})"] if remedy else [])


def test_listeners_for_ftps_are_tried_like_the_others(tmp_path: Path) -> None:
    pair = certificate(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = tls(pair, implicit_listen=(text,))
        settings = dataclasses.replace(settings, ftp=dataclasses.replace(settings.ftp, listen=("127.0.0.1:0",)))
        assert [line.split(":")[0] for line in found(reach.ports, settings)] == ["ftp.tls.implicit_listen[0]"]
    absent = tls(pair, implicit_listen=("192.0.2.7:990",))
    told = [line for line in found(reach.addresses, absent) if "implicit" in line]
    assert told[0].startswith("warning: ftp.tls.implicit_listen[0]: 192.0.2.7 is not an address of this machine")
