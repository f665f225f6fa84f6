"""One question to one name server as bytes, and what its answer says. The door of dnspython.

Invariant: whatever the bytes are, `addresses` ends with a list or with Unanswered; what is no answer to this question
(another id, another name) never becomes one.
"""

from __future__ import annotations

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdatatype

LARGEST = 4096
_PAYLOAD = 1232  # bytes that fit every path (the value that DNS servers agreed on in 2020)


class Unanswered(Exception):
    """The server has said something, and it is no address; the text says what."""


class NotOurs(Exception):
    """This is no answer to the question: somebody else's, or noise. The right one may still come."""


class Query:
    """A question for the IPv4 addresses of a name."""

    def __init__(self, name: str) -> None:
        """Raises ValueError for a name that DNS has no form for."""
        try:
            self._message = dns.message.make_query(name + ".", dns.rdatatype.A, use_edns=0, payload=_PAYLOAD)
            self.wire = self._message.to_wire()
        except dns.exception.DNSException as error:
            raise ValueError(f"{name} is no name that can be looked up") from error

    def addresses(self, datagram: bytes) -> list[str]:
        """What the answer says, aliases followed. Raises Unanswered and NotOurs."""
        try:
            answer = dns.message.from_wire(datagram, ignore_trailing=True)
            if not self._message.is_response(answer):
                raise NotOurs
            if answer.rcode() != dns.rcode.NOERROR:
                raise Unanswered(dns.rcode.to_text(answer.rcode()))
            if answer.flags & dns.flags.TC:
                raise Unanswered("the answer is too large")
            found = answer.resolve_chaining().answer  # type: ignore[attr-defined]
        except dns.exception.DNSException as error:
            raise NotOurs from error
        if found is None:
            raise Unanswered("there is no IPv4 address")
        return [item.address for item in found]


def warm() -> None:
    """Load what dnspython loads when it first meets it: later nothing can be loaded any more."""
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call]
    query = Query("warm.example")
    answer = dns.message.make_response(query._message)
    text = f"id {answer.id}\nopcode QUERY\nrcode NOERROR\nflags QR RD RA\n;QUESTION\nwarm.example. IN A\n;ANSWER\n"
    whole = dns.message.from_text(text + "warm.example. 5 IN CNAME b.example.\nb.example. 5 IN A 192.0.2.1\n")
    assert query.addresses(whole.to_wire()) == ["192.0.2.1"]
