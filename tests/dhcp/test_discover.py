"""DHCPDISCOVER and the offers that answer it."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from appliance.dhcp.discover import Offer, discover, inform, offer

XID = 0x12345678
MAC = bytes.fromhex("020000000001")


def answer(*, kind: int = 2, xid: int = XID, server: bytes = bytes((192, 0, 2, 2)), op: int = 2) -> bytes:
    packet = bytearray(discover(MAC, xid)[:240])
    packet[0] = op
    packet[16:20] = bytes((192, 0, 2, 50))
    return bytes(packet) + bytes((0, 53, 1, kind, 54, len(server))) + server + b"\xff"


def test_a_discover_asks_to_be_answered_by_broadcast_and_has_the_smallest_length_relays_take() -> None:
    packet = discover(MAC, XID)
    assert packet[:4] == bytes((1, 1, 6, 0))
    assert packet[4:8] == XID.to_bytes(4, "big")
    assert packet[10:12] == b"\x80\0"
    assert packet[28:34] == MAC
    assert packet[236:243] == b"\x63\x82\x53\x63" + bytes((53, 1, 1))
    assert len(packet) == 300


def test_an_offer_tells_server_and_address() -> None:
    assert offer(answer(), XID) == Offer(IPv4Address("192.0.2.2"), IPv4Address("192.0.2.50"))


def test_an_inform_names_the_address_that_the_host_has_and_its_answer_tells_the_server() -> None:
    packet = inform(MAC, XID, IPv4Address("192.0.2.1"))
    assert packet[12:16] == bytes((192, 0, 2, 1))
    assert packet[240:243] == bytes((53, 1, 8))
    assert offer(answer(kind=5), XID) == Offer(IPv4Address("192.0.2.2"), IPv4Address("0.0.0.0"))


def test_what_is_no_offer_to_us_is_nothing() -> None:
    assert offer(answer(kind=6), XID) is None
    assert offer(answer(xid=1), XID) is None
    assert offer(answer(op=1), XID) is None
    assert offer(answer(server=b"\1\2"), XID) is None
    assert offer(answer()[:239], XID) is None
    assert offer(answer().replace(b"\x63\x82", b"\0\0"), XID) is None
    assert offer(answer()[:-6] + b"\x36", XID) is None  # an option without its length


@given(st.binary(max_size=400))
def test_no_datagram_ends_in_anything_but_an_offer_or_nothing(data: bytes) -> None:
    head = discover(MAC, XID)[:240]
    assert offer(data, XID) is None or True
    found = offer(bytes((2,)) + head[1:] + data, XID)
    assert found is None or isinstance(found, Offer)
