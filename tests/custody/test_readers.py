"""custody.readers: who may read an upload back."""

from __future__ import annotations

import pytest

from appliance.custody.readers import Readers
from appliance.custody.wire import Reason

NETWORKS = ("192.0.2.0/24", "198.51.100.7", "2001:db8::/48")


def test_nobody_reads_where_nothing_is_readable() -> None:
    assert Readers("none", NETWORKS).refuse("192.0.2.1") is Reason.UNREADABLE


def test_a_client_reads_what_it_uploaded_itself() -> None:
    readers = Readers("same-client", ())
    assert readers.refuse("192.0.2.1") is None
    assert readers.permits("192.0.2.1", "192.0.2.1")
    assert not readers.permits("192.0.2.1", "192.0.2.2")
    assert not readers.permits("192.0.2.1", "")


@pytest.mark.parametrize(
    ("client", "may"),
    [
        ("192.0.2.1", True),
        ("192.0.3.1", False),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("2001:db8:0:1::/64", True),
        ("2001:db8:0:1::", True),
        ("2001:db8:1::", False),
        ("no address", False),
        ("::1/garbage/64", False),
        ("", False),
    ],
)
def test_networks_are_matched_by_the_key_of_a_client(client: str, may: bool) -> None:
    readers = Readers("networks", NETWORKS)
    assert readers.refuse(client) is (None if may else Reason.UNREADABLE)
    assert readers.permits(client, "somebody else")


def test_a_network_smaller_than_a_client_holds_no_client() -> None:
    assert Readers("networks", ("2001:db8::1",)).refuse("2001:db8::") is Reason.UNREADABLE
