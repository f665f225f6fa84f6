"""ftp.addresses: who a client is, and where a data connection may go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ftp.addresses import (
    AddressError,
    FamilyError,
    Networks,
    client_of,
    parse_eprt,
    parse_port,
    passive_reply,
    plain,
    refuse_target,
)


def test_a_mapped_address_is_ipv4_and_a_scope_is_dropped() -> None:
    assert plain("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain("fe80::1%eth0") == "fe80::1"
    assert plain("::ffff:1") == "::ffff:1"
    assert plain("192.0.2.1") == "192.0.2.1"


def test_a_client_is_an_ipv4_address_or_the_64_of_an_ipv6_address() -> None:
    assert client_of("192.0.2.1") == "192.0.2.1"
    assert client_of("2001:db8:1:2:3::4") == client_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"


def test_deny_wins_over_allow_and_an_empty_allow_is_everyone() -> None:
    assert Networks((), ()).permit("192.0.2.1")
    assert not Networks((), ("192.0.2.0/24",)).permit("192.0.2.1")
    both = Networks(("192.0.2.0/24", "2001:db8::/32"), ("192.0.2.7",))
    assert [both.permit(a) for a in ("192.0.2.1", "192.0.2.7", "198.51.100.1", "2001:db8::1")] == [
        True,
        False,
        False,
        True,
    ]


def test_port_of_rfc_959() -> None:
    assert parse_port("192,0,2,1,7,208") == ("192.0.2.1", 2000)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "1,2,3,4,5",
        "1,2,3,4,5,6,7",
        "256,1,1,1,1,1",
        "1,2,3,4,5,-6",
        "1,2,3,4,5, 6",
        "\u0661,2,3,4,5,6",
        "0001,2,3,4,5,6",
    ],
)
def test_a_port_argument_of_another_form_is_refused(bad: str) -> None:
    with pytest.raises(AddressError):
        parse_port(bad)


def test_eprt_of_rfc_2428() -> None:
    assert parse_eprt("|1|132.235.1.2|6275|") == (1, "132.235.1.2", 6275)
    assert parse_eprt("|2|1080::8:800:200C:417A|5282|") == (2, "1080::8:800:200c:417a", 5282)
    assert parse_eprt("!2!::ffff:192.0.2.1!99!") == (2, "192.0.2.1", 99)


def test_the_scope_that_a_client_puts_behind_its_own_address_is_no_part_of_it() -> None:
    assert parse_eprt("|2|fe80::1%eth0|5282|") == (2, "fe80::1", 5282)


@pytest.mark.parametrize("protocol", ["0", "3", "12"])
def test_an_unknown_protocol_is_told_from_a_bad_form(protocol: str) -> None:
    with pytest.raises(FamilyError):
        parse_eprt(f"|{protocol}|x|5282|")
    with pytest.raises(AddressError) as bad:
        parse_eprt(f"|{protocol}|x|65536|")
    assert not isinstance(bad.value, FamilyError)


@pytest.mark.parametrize(
    "bad",
    [
        "|",
        "|1|1.2.3.4|5",
        "|1|1.2.3.4|5|6|",
        "x|1|1.2.3.4|5|",
        "|3|1.2.3.4|5|",
        "|a|1.2.3.4|5|",
        "|1|1.2.3.4|65536|",
        "|1|1.2.3.4|+5|",
        "|1|1.2.3.4|\u0665|",
        "|1|1.2.3.4|123456|",
        "|1|::1|5|",
        "|2|1.2.3.4|5|",
        "|1|host|5|",
    ],
)
def test_an_eprt_argument_of_another_form_is_refused(bad: str) -> None:
    with pytest.raises(AddressError):
        parse_eprt(bad)


@given(st.text(min_size=1, max_size=40))
def test_hostile_arguments_raise_nothing_but_the_rooms_error(text: str) -> None:
    for parse in (parse_port, parse_eprt):
        try:
            parse(text)
        except AddressError:
            continue


def test_only_the_clients_own_address_and_no_privileged_port_is_connected_to() -> None:
    assert refuse_target("192.0.2.1", "192.0.2.1", 1024) == ""
    assert "1024" in refuse_target("192.0.2.1", "192.0.2.1", 1023)
    for foreign in ("192.0.2.2", "127.0.0.1", "::1", "nonsense"):
        assert "own address" in refuse_target("192.0.2.1", foreign, 2000)
    assert refuse_target("2001:db8::1", "2001:db8:0::1", 2000) == ""


def test_the_passive_reply_tells_address_and_port_in_bytes() -> None:
    assert passive_reply("192.0.2.1", 61001) == "227 Entering passive mode (192,0,2,1,238,73)."
