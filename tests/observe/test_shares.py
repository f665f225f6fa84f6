"""shares: files that their worker alone writes, and that its siblings can only read."""

from __future__ import annotations

import errno
import mmap
import os

import pytest

from appliance.observe import shares
from appliance.observe.tally import SIZE


def test_a_sibling_reads_what_the_owner_counts() -> None:
    salt = shares.salt()
    first, second = (shares.create("x", salt) for _ in range(2))
    one, two = shares.own(first), shares.own(second)
    two.link(1, shares.look(first))
    one.take("192.0.2.1")
    assert two.full_for("192.0.2.1", 1) and two.full(1)
    one.give("192.0.2.1")
    assert not two.full(1)
    os.close(first)
    os.close(second)


def test_tables_of_two_starts_have_different_salts() -> None:
    assert len({shares.salt() for _ in range(8)}) == 8


def test_a_table_is_sealed_as_soon_as_its_owner_has_it() -> None:
    descriptor = shares.create("x", shares.salt())
    assert not shares.sealed(descriptor)
    shares.own(descriptor)
    assert shares.sealed(descriptor)
    with pytest.raises(PermissionError):
        mmap.mmap(descriptor, SIZE)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(TypeError):
        shares.look(descriptor)[1] = 9
    os.close(descriptor)


def test_a_descriptor_that_is_no_table_is_refused() -> None:
    short = os.memfd_create("short")
    with pytest.raises(ValueError, match="length"):
        shares.look(short)
    read_end, write_end = os.pipe()
    with pytest.raises((OSError, ValueError)):
        shares.look(read_end)
    for descriptor in (short, read_end, write_end):
        os.close(descriptor)


def test_a_table_that_cannot_be_made_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _size: int) -> None:
        raise OSError(errno.ENOMEM, "full")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(OSError, match="full"):
        shares.create("x", bytes(16))
    assert len(os.listdir("/proc/self/fd")) == before
