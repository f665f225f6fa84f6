"""The k-th system call of a transfer fails, for every k: one session suffers, the server does not."""

from __future__ import annotations

import errno
import mmap
import os
import select
import socket
import struct
from dataclasses import replace

import pytest

from appliance import wire as control
from tests.tftp.client import WAIT_S, Fetch, Put, RefusedError, fetch, rrq, udp
from tests.tftp.custodian import Custodian
from tests.tftp.server import SETTINGS, Server, until
from tests.tftp.uploading import Box

CONTENT = bytes(range(256)) * 30
OPTIONS = {"blksize": 512, "windowsize": 4, "utimeout": 20_000}
METHODS = ("send", "recv", "recv_into", "recvmsg", "sendmsg", "bind", "connect", "setsockopt", "getsockopt")
FUNCTIONS = ("preadv", "open", "fstat", "write")

_LOG = 2  # its writes have tests of their own
CALLS = (*METHODS, "socket", *FUNCTIONS)
READS = [call for call in CALLS if call not in ("recv_into", "write")]
ERRORS = (errno.EAGAIN, errno.ENOBUFS, errno.EIO, errno.EMFILE)


class Saboteur:
    """Memory shared with the engine: which call fails, after how many, with what, and whether it did."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 32)

    def arm(self, call: str, nth: int, number: int) -> None:
        self._memory[:32] = struct.pack("=4q", CALLS.index(call) + 1, nth, number, 0)

    def fired(self) -> bool:
        return bool(struct.unpack("=4q", self._memory[:32])[3])

    def strike(self, call: str) -> None:
        """In the engine: before each call."""
        armed, nth, number, fired = struct.unpack("=4q", self._memory[:32])
        if armed != CALLS.index(call) + 1 or fired:
            return
        self._memory[:32] = struct.pack("=4q", armed, nth - 1, number, nth == 1)
        if nth == 1:
            raise OSError(number, os.strerror(number))

    def move_in(self) -> None:
        """Put itself before the calls of the engine's process."""
        plain = socket.socket
        strike = self.strike

        class Socket(plain):  # type: ignore[misc,valid-type]
            def __init__(self, *arguments, **more):
                strike("socket")
                super().__init__(*arguments, **more)

        for name in METHODS:
            setattr(Socket, name, self._guarded(name, getattr(plain, name)))
        socket.socket = Socket  # type: ignore[misc]
        for name in FUNCTIONS:
            setattr(os, name, self._guarded(name, getattr(os, name)))

    def _guarded(self, name, plain):
        def call(*arguments, **more):
            if name != "write" or arguments[0] != _LOG:
                self.strike(name)
            return plain(*arguments, **more)

        return call


@pytest.fixture
def saboteur() -> Saboteur:
    return Saboteur()


def one_transfer(server: Server, saboteur: Saboteur) -> None:
    """A transfer and a refusal that may suffer: they end with the right answer, an ERROR, or without an answer."""
    download = Fetch(server.address, "f", OPTIONS)
    try:
        assert download.run() == CONTENT
    except (RefusedError, ConnectionError):
        pass
    until(lambda: server.counters["active"] == 0, "the end of the transfer")
    before = seen_off(server)
    with udp() as sock:
        sock.sendto(rrq("missing"), server.address)
        until(lambda: seen_off(server) > before, "the refusal")
        # it is counted before it is sent
        until(
            lambda: saboteur.fired() or select.select([sock], [], [], 0)[0], "its ERROR, or that it could not be sent"
        )


def seen_off(server: Server) -> int:
    return server.counters["refused"] + server.counters["dropped"]


@pytest.mark.parametrize("call", READS)
def test_one_failing_call_costs_one_session_at_most(start, saboteur: Saboteur, call: str) -> None:
    for number in ERRORS:
        server = start(
            sabotage=saboteur.move_in
        )  # a fresh one: sockets are kept, and what made them is not called again
        (server.root / "f").write_bytes(CONTENT)
        for nth in range(1, 60):
            saboteur.arm(call, nth, number)
            one_transfer(server, saboteur)
            fired = saboteur.fired()
            saboteur.arm(call, 1 << 40, number)
            assert fetch(server.address, "f", OPTIONS) == CONTENT
            assert server.counters["crashes"] == 0, server.log.read_text()
            if not fired:
                break
        else:
            pytest.fail("it never stops firing")
        assert nth > 1, f"{call} is never used"


@pytest.mark.parametrize("rate", [0, 1 << 20], ids=["unpaced", "paced"])
def test_a_device_that_cannot_segment_gets_single_packets(start, saboteur: Saboteur, rate: int) -> None:
    limits = replace(SETTINGS.limits, rate_per_client=rate)
    server = start(replace(SETTINGS, limits=limits), sabotage=saboteur.move_in)
    (server.root / "f").write_bytes(CONTENT)
    for number in (errno.EMSGSIZE, errno.EINVAL, errno.EIO):
        saboteur.arm("send", 2, number)  # the first is the OACK, the second the first window
        download = Fetch(server.address, "f", {"windowsize": 8})
        assert download.run() == CONTENT
        assert saboteur.fired()
    until(lambda: server.counters["transfers"] == 3, "the records")
    assert server.counters["retransmits"] == 0


def test_a_full_send_queue_delays_and_loses_nothing(start, saboteur: Saboteur) -> None:
    server = start(sabotage=saboteur.move_in)
    (server.root / "f").write_bytes(CONTENT)
    for number in (errno.EAGAIN, errno.ENOBUFS):
        saboteur.arm("send", 4, number)  # the OACK and two windows have left
        download = Fetch(server.address, "f", {"windowsize": 4, "timeout": 5})
        assert download.run() == CONTENT
        assert saboteur.fired()
    until(lambda: server.counters["transfers"] == 2, "the records")
    assert server.counters["retransmits"] == 0


WRITES = ("send", "recv_into", "recvmsg", "bind", "connect", "getsockopt", "socket", "write")


@pytest.mark.parametrize("call", WRITES)
def test_one_failing_call_costs_one_upload_at_most(open_box, saboteur: Saboteur, call: str) -> None:
    box: Box = open_box(sabotage=saboteur.move_in)
    names = iter(range(10_000))
    for number in (*ERRORS, errno.ENOSPC, errno.EFBIG, errno.ECONNREFUSED):
        for nth in range(1, 80):
            name = f"f{next(names)}"
            saboteur.arm(call, nth, number)
            told = one_upload(box, name)
            fired = saboteur.fired()
            saboteur.arm(call, 1 << 40, number)
            until(lambda: box.server.counters["active"] == 0, "the end of the upload")
            relink(box)
            assert (name in box.stored()) or not told, "the client was told that a lost file is stored"
            if name in box.stored():
                assert box.stored()[name] == CONTENT
            Put(box.server.address, f"{name}-after", CONTENT, OPTIONS).run()
            assert box.server.counters["crashes"] == 0, box.server.log.read_text()
            assert box.server.alive()
            if not fired:
                break
        else:
            pytest.fail("it never stops firing")
        assert nth > 1, f"{call} is never used"
    until(lambda: box.hidden() == [], "what is unfinished to be removed")


def relink(box: Box) -> None:
    """A supervisor brings a new custodian when a link was lost."""
    told = box.server.log.read_text().count(": the custodian is gone ")
    if told == box.relinked:
        return
    box.relinked = told
    box.custodian.stop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    box.server.tell(control.Link(0), theirs.fileno())
    theirs.close()
    box.custodian = Custodian(ours, box.custodian.folder)


def one_upload(box: Box, name: str) -> bool:
    """Whether the client was told that its file is stored."""
    upload = Put(box.server.address, name, CONTENT, OPTIONS)
    upload.patience_s, upload.wait_s = 0.5, WAIT_S
    try:
        upload.run()
    except (RefusedError, ConnectionError, TimeoutError, AssertionError):
        return False
    return True
