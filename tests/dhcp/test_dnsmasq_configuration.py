"""What dnsmasq is told: every value by its form, and nothing but our directives."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dhcp.dnsmasq import ARCHES, Unwritable, Wanted, configuration

PROXY = Wanted("proxy", "eth1", IPv4Interface("192.0.2.1/24"), "/var/lib/appliance/dhcp/leases",
               {"bios": "pxelinux.0", "x64_efi": "snponly.efi", "ipxe": "boot.ipxe"})  # fmt: skip
RANGE = replace(
    PROXY,
    mode="range",
    first=IPv4Address("192.0.2.50"),
    last=IPv4Address("192.0.2.99"),
    router="192.0.2.254",
    dns=("192.0.2.3", "192.0.2.4"),
)
DIRECTIVES = {
    "port", "no-hosts", "no-resolv", "no-ping", "dhcp-broadcast", "dhcp-ignore-names", "bind-interfaces",
    "except-interface", "interface", "dhcp-leasefile", "dhcp-lease-max", "dhcp-userclass", "dhcp-match",
    "dhcp-authoritative", "dhcp-range", "dhcp-option", "dhcp-boot", "pxe-service", "log-dhcp",
}  # fmt: skip


def lines(wanted: Wanted) -> list[str]:
    return configuration(wanted).splitlines()


def test_a_range_gives_addresses_router_name_servers_and_the_loader_of_each_architecture() -> None:
    text = lines(RANGE)
    assert "dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,3600" in text
    assert "dhcp-option=option:router,192.0.2.254" in text
    assert "dhcp-option=option:dns-server,192.0.2.3,192.0.2.4" in text
    assert "dhcp-boot=tag:bios,tag:!ipxe,pxelinux.0,,192.0.2.1" in text
    assert "dhcp-boot=tag:x64_efi,tag:!ipxe,snponly.efi,,192.0.2.1" in text
    assert "dhcp-boot=tag:ipxe,boot.ipxe,,192.0.2.1" in text
    assert [line for line in text if "set:x64_efi" in line] == [
        "dhcp-match=set:x64_efi,option:client-arch,7",
        "dhcp-match=set:x64_efi,option:client-arch,9",
    ]


def test_without_router_and_name_servers_none_is_told_instead_of_this_machine() -> None:
    text = lines(replace(RANGE, router="", dns=()))
    assert "dhcp-option=option:router" in text
    assert "dhcp-option=option:dns-server" in text


def test_a_proxy_gives_no_address_and_names_the_loader_in_a_menu_of_one() -> None:
    text = lines(PROXY)
    assert "dhcp-range=192.0.2.0,proxy,255.255.255.0" in text
    assert 'pxe-service=tag:!ipxe,x86PC,"Network boot",pxelinux.0,192.0.2.1' in text
    assert 'pxe-service=tag:ipxe,x86-64_EFI,"Network boot",boot.ipxe,192.0.2.1' in text
    assert not any(line.startswith(("dhcp-option", "dhcp-authoritative")) for line in text)


def test_a_client_that_has_no_file_is_told_none() -> None:
    text = configuration(replace(PROXY, files={"bios": "pxelinux.0"}))
    assert "EFI" not in text and "tag:ipxe" not in text and "client-arch,7" not in text


@pytest.mark.parametrize("tag", ARCHES)
@pytest.mark.parametrize("mode", [PROXY, RANGE])
def test_each_architecture_can_stand_alone(tag: str, mode: Wanted) -> None:
    assert "port=0" in lines(replace(mode, files={tag: "loader"}))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"first": IPv4Address("198.51.100.1")}, "198.51.100.1"),
        ({"first": IPv4Address("192.0.2.0")}, "192.0.2.0"),
        ({"last": IPv4Address("192.0.2.255")}, "192.0.2.255"),
        ({"here": IPv4Interface("192.0.2.60/24")}, "own address"),
        ({"first": None}, "no range"),
        ({"last": None}, "no range"),
    ],
)
def test_addresses_that_no_machine_can_have_are_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises(Unwritable, match=what):
        configuration(replace(RANGE, **change))  # type: ignore[arg-type]


@given(value=st.text(max_size=20), place=st.sampled_from(["interface", "leasefile", "file", "router", "dns"]))
@pytest.mark.parametrize("wanted", [PROXY, RANGE])
def test_no_value_can_become_a_line_or_a_field_of_its_own(wanted: Wanted, value: str, place: str) -> None:
    changes: dict[str, object] = {
        "file": {"files": {"bios": value}}, "dns": {"dns": (value,)}
    }.get(place, {place: value})  # fmt: skip
    usual = configuration(wanted).count("\n")
    try:
        text = configuration(replace(wanted, **changes))  # type: ignore[arg-type]
    except Unwritable:
        return
    assert {line.partition("=")[0] for line in text.splitlines()} <= DIRECTIVES
    assert text.count("\n") <= usual
    assert all(line.isascii() and " " not in line.replace("Network boot", "") for line in text.splitlines())


@pytest.mark.parametrize("value", ["a,b", "a b", "a\nport=53", 'a"b', "a#b", "a\\b", "a\tb", "", "ä", "a\0b", "a'b"])
def test_separators_and_control_characters_are_refused(value: str) -> None:
    with pytest.raises(Unwritable, match="interface"):
        configuration(replace(PROXY, interface=value))
