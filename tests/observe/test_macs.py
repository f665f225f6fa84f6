"""Which MAC a client is known by: bounded, distrusted, and the kernel's word before the client's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.observe import arp, macs
from appliance.observe.macs import Macs

HEAD = "IP address HW type Flags HW address Mask Device\n"
A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


def table(**hosts: str) -> bytes:
    lines = (f"{name.replace('_', '.')[1:]} 0x1 0x2 {mac.upper()} * br0\n" for name, mac in hosts.items())
    return (HEAD + "".join(lines)).encode()


def test_the_kernel_is_asked_first_then_the_name_then_what_was_told() -> None:
    known = Macs(lambda: table(_192_0_2_1=A))
    assert known.of("192.0.2.1", f"grub.cfg-01-{B.replace(':', '-')}", 0) == A
    assert known.of("192.0.2.2", f"pxelinux.cfg/01-{B.replace(':', '-')}", 0) == B
    assert known.of("192.0.2.2", "vmlinuz", 1) == B
    known.told("192.0.2.3", A, 0)
    assert known.of("192.0.2.3", "vmlinuz", 599) == A
    assert known.of("192.0.2.3", "vmlinuz", 600) == ""  # the address may be another machine's by now
    assert known.of("192.0.2.4", "vmlinuz", 0) == ""


def test_the_table_is_read_twice_a_second_at_most_and_what_left_it_is_forgotten() -> None:
    texts = [table(_192_0_2_1=A), table(_192_0_2_1=B), HEAD.encode()]
    known = Macs(lambda: texts.pop(0))
    assert [known.of("192.0.2.1", "", at) for at in (0, 0.1, 0.4, 0.6, 1.2)] == [A, A, A, B, ""]


def test_a_mac_that_stands_for_many_addresses_is_a_routers_and_nobodys() -> None:
    few = {f"_192_0_2_{number}": A for number in range(4)}
    assert Macs(lambda: table(**few)).of("192.0.2.1", "", 0) == A
    assert Macs(lambda: table(**few, _192_0_2_9=A)).of("192.0.2.1", "", 0) == ""
    assert Macs(lambda: table(_192_0_2_1="00:00:00:00:00:00")).of("192.0.2.1", "", 0) == ""


def test_an_ipv6_address_made_of_a_mac_tells_it_and_others_do_not() -> None:
    known = Macs(bytes)
    assert known.of("fe80::5054:ff:fe00:a%br0", "", 0) == A
    assert known.of("2001:db8::1", "", 0) == ""
    assert known.of("nonsense:", "", 0) == ""


def test_what_is_remembered_is_bounded_and_nobody_is_no_client() -> None:
    known = Macs(bytes)
    known.told("", A, 0)
    for number in range(5000):
        known.told(str(number), A, 0)
    assert len(known._told) == 4096
    assert (known.of("0", "", 0), known.of("4999", "", 0)) == ("", A)


@given(name=st.text(max_size=60), client=st.text(max_size=20))
def test_whatever_is_asked_for_the_answer_is_a_mac_or_nothing(name: str, client: str) -> None:
    found = Macs(bytes).of(client, name, 0)
    assert found == "" or macs.mac_in(f"/{found}")


def test_the_kernels_table_can_be_read_again_and_again() -> None:
    read = arp.reader()
    assert read().startswith(b"IP address") or not read()
    assert read()[:10] == read()[:10]


def test_where_there_is_no_table_there_is_nothing(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(arp, "_TABLE", "/nonexistent")
    assert arp.reader()() == b""
    monkeypatch.setattr(arp, "_TABLE", "/proc/self")  # a folder: opened, and cannot be read
    assert arp.reader()() == b""
