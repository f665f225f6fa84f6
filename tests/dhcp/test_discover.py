"""DHCPDISCOVER and the offers that answer it."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from appliance.dhcp.discover import Offer, boot, boot_request, discover, inform, offer

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


def told(*, file: bytes = b"", siaddr: bytes = bytes(4), more: bytes = b"") -> Offer:
    packet = bytearray(answer())
    packet[20:24], packet[108 : 108 + len(file)] = siaddr, file
    found = offer(bytes(packet[:-1]) + more + b"\xff", XID)
    assert found is not None
    return found


def option(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


def test_an_offer_tells_what_to_boot_in_its_fields_or_in_its_options() -> None:
    here, there = IPv4Address("192.0.2.9"), IPv4Address("192.0.2.8")
    plain = told(file=b"pxelinux.0", siaddr=here.packed)
    assert (plain.next_server, plain.file) == (here, b"pxelinux.0")
    options = told(more=option(66, b"192.0.2.8\0") + option(67, b"grubx64.efi\0"))
    assert (options.next_server, options.file) == (there, b"grubx64.efi")
    named = told(more=option(66, b"boot.example"), file=b"x")
    assert (named.next_server, named.file) == (IPv4Address(0), b"x")
    assert told(more=option(52, b"\1"), file=b"\x43\2no").file == b"", "the field holds options"


def test_a_boot_rom_says_what_it_is_and_asks_a_proxy_with_the_address_it_has() -> None:
    packet = boot(MAC, XID, 7)
    assert packet[240:243] == bytes((53, 1, 1)) and len(packet) >= 300
    for wanted in (b"PXEClient:Arch:00007:UNDI:003016", option(93, b"\0\7"), option(97, bytes(17))):
        assert wanted in packet
    asked = boot_request(MAC, XID, 0, IPv4Address("192.0.2.1"))
    assert (asked[12:16], asked[242]) == (bytes((192, 0, 2, 1)), 3)
    chosen = bytes((43, 7, 71, 4, 0x80, 1, 0, 0, 255))
    assert chosen in boot_request(MAC, XID, 0, IPv4Address("192.0.2.1"), 0x8001) and chosen not in asked


def test_the_first_item_of_a_proxys_menu_is_told() -> None:
    menu = bytes((9, 7, 0x80, 1)) + b"\4Boot"
    assert told(more=option(43, bytes((6, 1, 8)) + menu + b"\xff")).item == 0x8001
    assert told(more=option(43, bytes((6, 1, 8, 255)))).item == 0


@given(st.binary(max_size=400))
def test_no_datagram_ends_in_anything_but_an_offer_or_nothing(data: bytes) -> None:
    head = discover(MAC, XID)[:240]
    for datagram in (data, bytes((2,)) + head[1:] + data):
        found = offer(datagram, XID)
        assert found is None or isinstance(found, Offer)
