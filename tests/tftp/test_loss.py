"""What the server does about losses, over real sockets: the measured path decides, and lessons shape the next transfer.

The configured timeout is five seconds here, and the clients wait longer: seven losses that wait for it are too many.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.tftp import client
from tests.tftp.client import Fetch, ack, options_of, rrq, udp
from tests.tftp.server import SETTINGS, Server, until

PATIENT = replace(SETTINGS, timeout=5.0, give_up_after=60.0)
SHORT_S = 0.4
EARLY_S = 3.0  # before the configured timeout


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that leave it to the server to mend a loss, however long it takes."""
    monkeypatch.setattr(client, "PATIENCE_S", 120.0)
    monkeypatch.setattr(client, "WAIT_S", 120.0)


@pytest.fixture
def patient(start, waiting: None) -> Server:
    return start(PATIENT, early=True)


def put(server: Server, size: int) -> bytes:
    content = random.Random(size).randbytes(size)
    (server.root / "f").write_bytes(content)
    return content


class DeafFetch(Fetch):
    """Its ACKs get lost too, but for the first and the last; a block that comes again is acknowledged again."""

    dice = random.Random(3)
    final = told = 0

    def _ack(self, block: int, rollover: int) -> None:
        self.told = block
        if block in (0, self.final) or self.dice.random() > 0.05:
            super()._ack(block, rollover)

    def _receive(self) -> bytes | None:
        packet = super()._receive()
        if self.told and packet is not None and packet[2:4] == ack(self.told)[2:4]:
            self._ack(self.told, 0)
        return packet


def test_lock_step_over_a_path_that_loses_both_ways_never_waits_for_a_timeout(patient: Server) -> None:
    content = put(patient, 512 * 400 + 1)
    dice = random.Random(5)
    download = DeafFetch(patient.address, "f", {"tsize": 0}, lose=lambda block, times: dice.random() < 0.05)
    download.final = 401
    assert download.run() == content
    until(lambda: patient.counters["transfers"] == 1, "the record")
    assert patient.counters["retransmits"] > 20


@pytest.mark.parametrize("window", [1, 4, 16, 64])
def test_the_end_of_a_window_comes_again_before_any_timeout(patient: Server, window: int) -> None:
    content = put(patient, 512 * 640 + 1)
    download = Fetch(
        patient.address,
        "f",
        {"windowsize": window},
        lose=lambda block, times: times == 1 and (block % 64 == 0 or block == 641),
    )
    assert download.run() == content
    until(lambda: patient.counters["transfers"] == 1, "the record")


def test_a_client_that_asked_for_a_timeout_gets_no_repeat_before_it(patient: Server) -> None:
    put(patient, 2000)
    with udp() as asked, udp() as not_asked:
        for sock, options in ((asked, {"timeout": 5}), (not_asked, {"blksize": 600})):
            sock.sendto(rrq("f", options), patient.address)
            _oack, tid = sock.recvfrom(1000)
            sock.sendto(ack(0), tid)
        not_asked.settimeout(EARLY_S)
        assert not_asked.recv(1000) == not_asked.recv(1000)
        asked.recv(1000)
        asked.settimeout(SHORT_S)
        with pytest.raises(TimeoutError):
            asked.recv(1000)


def test_the_lost_oack_comes_again_at_once_for_a_client_that_is_known(patient: Server) -> None:
    put(patient, 2000)
    client.fetch(patient.address, "f", {"tsize": 0})
    until(lambda: patient.counters["transfers"] == 1, "the record")
    with udp() as known, udp("127.0.0.3") as stranger:
        for sock in (stranger, known):
            sock.sendto(rrq("f", {"tsize": 0}), patient.address)
            assert options_of(sock.recv(1000)) == {"tsize": "2000"}
        known.settimeout(EARLY_S)
        assert options_of(known.recv(1000)) == {"tsize": "2000"}
        for sock in (known, stranger):
            sock.settimeout(SHORT_S)
            with pytest.raises(TimeoutError):  # one repeat, and no stream
                sock.recv(1000)


def test_many_losses_in_each_window_make_the_next_offer_smaller_for_that_client_only(start, waiting: None) -> None:
    patient = start(replace(PATIENT, timeout=0.5), early=True)  # so many that some do wait for it
    content = put(patient, 512 * 500)
    offered = []
    for _ in range(3):
        download = Fetch(
            patient.address,
            "f",
            {"windowsize": 64},
            lose=lambda block, times: times == 1 and block % 4 == 0 and block < 490,
        )
        assert download.run() == content
        offered.append(download.agreed["windowsize"])
        until(lambda: patient.counters["transfers"] == len(offered), "the record")
    assert offered == ["64", "32", "16"]
    with udp("127.0.0.3") as other:
        download = Fetch(patient.address, "f", {"windowsize": 64}, sock=other)
        assert download.run() == content
    assert download.agreed == {"windowsize": "64"}
