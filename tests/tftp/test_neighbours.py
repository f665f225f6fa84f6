"""neighbours: which MAC address a client claims."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import wire
from appliance.settings import plain
from appliance.settings.tftp import TftpMachine, TftpSettings
from appliance.tftp.neighbours import Neighbours, parse

HEADING = b"IP address       HW type     Flags       HW address            Mask     Device\n"
ONE = b"192.0.2.1        0x1         0x2         02:FC:00:00:00:05     *        eth0\n"
TWO = b"192.0.2.2        0x1         0x6         02:fc:00:00:00:06     *        eth0\n"


def test_the_table_of_the_kernel_is_read() -> None:
    more = (
        b"192.0.2.3        0x1         0x0         00:00:00:00:00:00     *        eth0\n"  # asked, not answered
        b"192.0.2.4        0x20        0x2         80:00:00:48:fe:80     *        ib0\n"  # no Ethernet
        b"cut\n"
    )
    assert parse(HEADING + ONE + TWO + more) == {"192.0.2.1": "02:fc:00:00:00:05", "192.0.2.2": "02:fc:00:00:00:06"}
    assert parse(b"") == parse(HEADING) == {}


class Table:
    """A table that counts how often it is read."""

    def __init__(self, text: bytes = b"") -> None:
        self.text, self.reads = text, 0

    def read(self) -> bytes:
        self.reads += 1
        return HEADING + self.text


def test_a_known_client_is_looked_up_once_a_second() -> None:
    table = Table(ONE)
    neighbours = Neighbours(table.read)
    assert [neighbours.mac("192.0.2.1", 100.0 + i / 100) for i in range(100)] == ["02:fc:00:00:00:05"] * 100
    assert table.reads == 1
    table.text = b""
    assert neighbours.mac("192.0.2.1", 101.0) == ""
    assert table.reads == 2


def test_a_client_that_has_just_come_is_found_at_once() -> None:
    table = Table(ONE)
    neighbours = Neighbours(table.read)
    assert neighbours.mac("192.0.2.1", 100.0)
    table.text += TWO
    assert neighbours.mac("192.0.2.2", 100.03) == "02:fc:00:00:00:06"


def test_strangers_have_the_table_read_fifty_times_a_second_at_most() -> None:
    table = Table()
    neighbours = Neighbours(table.read)
    for number in range(10_000):
        assert neighbours.mac(f"10.0.{number // 256}.{number % 256}", 100.0 + number / 10_000) == ""
    assert table.reads <= 51


@pytest.mark.parametrize(
    ("host", "mac"),
    [
        ("fe80::5054:ff:fe12:3456%eth0", "52:54:00:12:34:56"),
        ("2001:db8::21b:21ff:fe01:203", "00:1b:21:01:02:03"),
        ("2001:db8::1", ""),
        ("2001:db8::21b:21ff:ff01:203", ""),
    ],
)
def test_an_ipv6_address_may_hold_the_mac(host: str, mac: str) -> None:
    table = Table()
    assert Neighbours(table.read).mac(host, 0.0) == mac
    assert table.reads == 0


@given(st.ip_addresses(v=6))
def test_any_ipv6_address_has_a_mac_or_none(address: object) -> None:
    assert len(Neighbours(bytes).mac(str(address), 0.0)) in (0, 17)


def test_as_many_machines_as_the_settings_take_fit_the_message_to_a_worker() -> None:
    machines = tuple(TftpMachine(f"52:54:00:00:{i >> 8:02x}:{i & 255:02x}", root=f"hosts/{i:012}") for i in range(512))
    settings = replace(TftpSettings(), machines=machines)
    assert len(json.dumps(plain.encode(settings))) < wire.MAX_MESSAGE * 3 // 4
