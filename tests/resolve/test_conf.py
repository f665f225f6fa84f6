"""resolve.conf: resolv.conf and hosts as glibc reads them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.resolve import conf


def test_the_first_three_name_servers_count_and_comments_do_not() -> None:
    text = b"# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1 ; the first\nnameserver\nnameserver x\n"
    assert conf.servers(text) == ["192.0.2.1"]
    more = b"".join(b"nameserver 192.0.2.%d\n" % number for number in range(1, 6)) + b"nameserver ::1"
    assert conf.servers(more) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert conf.servers(b"nameserver fe80::1%eth0\n") == ["fe80::1%eth0"]


def test_without_any_the_machine_itself_is_asked() -> None:
    assert conf.servers(b"") == ["127.0.0.1"]


def test_hosts_are_found_by_every_name_and_only_by_their_ipv4_addresses() -> None:
    text = b"127.0.0.1 localhost\n::1 localhost six\n192.0.2.1\tFTP.Example.Org. ftp # the server\n192.0.2.2 ftp\n"
    text += b"x y\n\xff z\n"
    assert conf.hosts(text) == {
        "localhost": ["127.0.0.1"],
        "ftp.example.org": ["192.0.2.1"],
        "ftp": ["192.0.2.1", "192.0.2.2"],
    }


@given(st.binary(max_size=200))
def test_whatever_stands_there_is_read(text: bytes) -> None:
    assert conf.servers(text)
    conf.hosts(text)
