"""Facts about the machine: read from a made-up /proc, and from real sockets on loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.machine import Machine, free_bytes, held_bytes, nearest, receive_buffer, try_bind

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(where: str, state: str, inode: int) -> str:
    return f"   0: {where} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 2 0\n"


def proc(folder: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Machine(str(folder), uid=1000, gid=1000)


def holding(folder: Path, pid: int, name: str, inode: int) -> None:
    (folder / f"{pid}/fd").mkdir(parents=True)
    (folder / f"{pid}/comm").write_text(f"{name}\n")
    (folder / f"{pid}/fd/3").symlink_to("/dev/null")
    (folder / f"{pid}/fd/4").symlink_to(f"socket:[{inode}]")


def test_files_that_are_not_there_are_empty(tmp_path: Path) -> None:
    machine = proc(tmp_path, {"a": " words \n", "n": "12\n", "meminfo": "MemTotal:  2048 kB\nShort:\n"})
    assert (machine.text("a"), machine.text("b")) == ("words", "")
    assert (machine.number("n"), machine.number("a"), machine.number("b")) == (12, None, None)
    assert machine.memory() == 2 << 20
    assert Machine(str(tmp_path / "none")).memory() == 0


@pytest.mark.parametrize(
    ("files", "first"),
    [
        ({"self/status": "CapEff:\t0000000000000400\n"}, 1),
        ({"self/status": "CapEff:\t0000000000000000\n"}, 1024),
        ({"self/status": "CapEff:\t0\n", "sys/net/ipv4/ip_unprivileged_port_start": "69\n"}, 69),
        ({"self/status": "CapEff:\t0\n", "sys/net/ipv4/ip_unprivileged_port_start": "0\n"}, 0),
        ({}, 1024),
    ],
)
def test_low_ports_are_for_those_with_the_capability(tmp_path: Path, files: dict[str, str], first: int) -> None:
    assert proc(tmp_path, files).first_free_port() == first


def test_root_may_bind_every_port_when_nothing_tells_otherwise(tmp_path: Path) -> None:
    assert Machine(str(tmp_path), uid=0).first_free_port() == 1


@pytest.mark.parametrize(
    ("kind", "address", "port", "expected"),
    [
        ("udp", "127.0.0.1", 69, "dnsmasq (pid 71)"),
        ("udp", "0.0.0.0", 69, "dnsmasq (pid 71)"),
        ("udp", "127.0.0.2", 69, ""),
        ("udp", "127.0.0.1", 70, ""),
        ("udp", "::1", 69, ""),
        ("tcp", "192.0.2.1", 21, "vsftpd (pid 72)"),  # by the IPv6 wildcard
        ("tcp", "::1", 21, "vsftpd (pid 72)"),
        ("tcp", "127.0.0.1", 22, ""),  # only connected, not listening
        ("tcp", "::1", 23, "telnetd (pid 73)"),
        ("tcp", "::", 23, "telnetd (pid 73)"),
        ("tcp", "10.0.0.1", 24, "all (pid 74)"),
    ],
)
def test_the_holder_of_a_port_is_found(tmp_path: Path, kind: str, address: str, port: int, expected: str) -> None:
    machine = proc(
        tmp_path,
        {
            "net/udp": HEAD + line("0100007F:0045", "07", 11),
            "net/tcp": HEAD + line("0100007F:0016", "01", 12) + line("00000000:0018", "0A", 15),
            "net/tcp6": HEAD
            + line("00000000000000000000000000000000:0015", "0A", 13)
            + line("00000000000000000000000001000000:0017", "0A", 14),
        },
    )
    for pid, name, inode in (
        (70, "none", 99),
        (71, "dnsmasq", 11),
        (72, "vsftpd", 13),
        (73, "telnetd", 14),
        (74, "all", 15),
    ):
        holding(tmp_path, pid, name, inode)
    (tmp_path / "75").write_text("no process")
    assert machine.holder(kind, address, port) == expected


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/vsftpd.service\n", "vsftpd.service"),
        ("1:name=systemd:/system.slice/system-appliance.slice/appliance@b.service\n0::/\n", "appliance@b.service"),
        ("0::/machine.slice/a.service/payload/system.slice/b.service\n", "b.service"),
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/x.service\n", ""),
        ("0::/init.scope\n", ""),
    ],
)
def test_the_unit_of_a_process_is_told(tmp_path: Path, cgroup: str, unit: str) -> None:
    assert proc(tmp_path, {"7/cgroup": cgroup}).unit("7") == unit
    assert proc(tmp_path, {}).unit("8") == ""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_a_real_listener_of_ours_is_found(listener: socket.socket) -> None:
    name = Path("/proc/self/comm").read_text().strip()
    assert Machine().holder("tcp", "127.0.0.1", listener.getsockname()[1]) == f"{name} (pid {os.getpid()})"


def test_a_descriptor_that_goes_away_while_it_is_looked_at_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = proc(tmp_path, {"net/udp": HEAD + line("0100007F:0045", "07", 11)})
    holding(tmp_path, 71, "dnsmasq", 11)

    def gone(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "readlink", gone)
    assert machine.holder("udp", "127.0.0.1", 69) == ""


def test_a_taken_port_cannot_be_bound(listener: socket.socket) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        try_bind("tcp", "127.0.0.1", listener.getsockname()[1], absent=True)


def test_binding_leaves_nothing_behind() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    try_bind("udp", "127.0.0.1", port, absent=True)
    try_bind("udp", "127.0.0.1", port, absent=True)


@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::77"])
def test_an_address_of_another_machine_can_be_awaited(address: str) -> None:
    try_bind("tcp", address, 0, absent=True)
    with pytest.raises(OSError, match="Cannot assign requested address"):
        try_bind("udp", address, 0, absent=False)


def test_a_receive_buffer_is_what_the_kernel_gave() -> None:
    assert receive_buffer(4096) == 4096


def test_without_privilege_the_kernels_bound_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ordinary(socket.socket):
        def setsockopt(self, level: int, option: int, value: Any) -> None:
            if option == 33:  # SO_RCVBUFFORCE
                raise PermissionError
            super().setsockopt(level, option, value)

    monkeypatch.setattr(socket, "socket", Ordinary)
    bound = int(Path("/proc/sys/net/core/rmem_max").read_text())
    assert receive_buffer(4096) == 4096
    assert receive_buffer(bound + (1 << 20)) == bound


def test_the_nearest_folder_is_the_one_to_ask(tmp_path: Path) -> None:
    assert nearest(f"{tmp_path}/a/b/c") == str(tmp_path)
    assert nearest(str(tmp_path)) == str(tmp_path)
    assert free_bytes(f"{tmp_path}/a/b") > 0


def test_a_folder_holds_the_bytes_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    (tmp_path / "b").write_bytes(b"x" * 20)
    assert held_bytes(str(tmp_path)) == 30
    assert held_bytes(f"{tmp_path}/none") == 0
