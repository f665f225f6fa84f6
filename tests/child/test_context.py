"""context: what a worker does when a sibling comes or goes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from appliance import wire
from appliance.child.context import Channel, Context
from appliance.observe import shares, tables


@pytest.fixture
def context() -> Iterator[Context]:
    own, table = shares.create("own", bytes(16)), tables.create("own")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield Context("tftp", 0, {}, Channel(ours), tables.Counters(table), tally=shares.own(own))
    os.close(own)
    os.close(table)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_sibling_counts_from_its_share_to_its_unshare_and_no_descriptor_is_left(context: Context) -> None:
    before = descriptors()
    other = shares.create("other", bytes(16))
    shares.own(other).take("a")
    context.sibling(wire.Share(7, wire.TALLY), [other])
    assert context.tally.full(1) and context.tally.full_for("a", 1)
    context.sibling(wire.Unshare(7, wire.TALLY), [])
    assert not context.tally.full(1)
    assert descriptors() == before


def test_a_descriptor_that_is_no_table_is_closed_and_not_counted(context: Context) -> None:
    before = descriptors()
    with pytest.raises(ValueError, match="length"):
        context.sibling(wire.Share(7, wire.TALLY), [os.memfd_create("short")])
    context.sibling(wire.Share(8, wire.TALLY), [])
    assert descriptors() == before and not context.tally.full(1)
