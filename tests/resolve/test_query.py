"""resolve.query: only an answer to the question is one, whatever comes."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.resolve.query import NotOurs, Query, Unanswered

QUERY = Query("ftp.example.org")


def answer(*rows: tuple[str, str, str], rcode: int = 0) -> dns.message.Message:
    made = dns.message.make_response(dns.message.from_wire(QUERY.wire))
    made.answer = [dns.rrset.from_text(name, 5, "IN", kind, value) for name, kind, value in rows]
    made.set_rcode(dns.rcode.Rcode(rcode))
    return made


def test_addresses_are_found_and_aliases_followed() -> None:
    rows = [
        ("ftp.example.org.", "CNAME", "a.example."),
        ("a.example.", "A", "192.0.2.1"),
        ("x.example.", "A", "192.0.2.9"),
    ]
    assert QUERY.addresses(answer(*rows).to_wire()) == ["192.0.2.1"]


def test_what_is_no_address_says_why() -> None:
    with pytest.raises(Unanswered, match="NXDOMAIN"):
        QUERY.addresses(answer(rcode=3).to_wire())
    with pytest.raises(Unanswered, match="SERVFAIL"):
        QUERY.addresses(answer(rcode=2).to_wire())
    with pytest.raises(Unanswered, match="no IPv4 address"):
        QUERY.addresses(answer().to_wire())
    cut = answer()
    cut.flags |= dns.flags.TC
    with pytest.raises(Unanswered, match="too large"):
        QUERY.addresses(cut.to_wire())


def test_an_answer_to_another_question_is_none() -> None:
    good = answer(("ftp.example.org.", "A", "192.0.2.1"))
    for other in (Query("ftp.example.com"), Query("ftp.example.org")):  # another name; the same with another id
        with pytest.raises(NotOurs):
            other.addresses(good.to_wire())
    with pytest.raises(NotOurs):
        QUERY.addresses(QUERY.wire)  # a question is no answer


def test_an_endless_chain_of_aliases_is_no_answer() -> None:
    rows = [("ftp.example.org.", "CNAME", "a.example."), ("a.example.", "CNAME", "ftp.example.org.")]
    with pytest.raises((NotOurs, Unanswered)):
        QUERY.addresses(answer(*rows).to_wire())


def test_a_name_that_dns_has_no_form_for_is_told() -> None:
    with pytest.raises(ValueError, match="no name"):
        Query("a..b")


@given(st.binary(max_size=100), st.integers(0, 60), st.integers(0, 255))
def test_bytes_of_any_kind_are_no_crash(noise: bytes, place: int, value: int) -> None:
    good = bytearray(answer(("ftp.example.org.", "A", "192.0.2.1")).to_wire())
    good[place % len(good)] = value
    for datagram in (noise, bytes(good), QUERY.wire[:2] + noise):
        try:
            assert all(isinstance(address, str) for address in QUERY.addresses(datagram))
        except (NotOurs, Unanswered):
            pass
