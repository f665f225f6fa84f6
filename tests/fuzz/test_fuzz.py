"""A short run of everything that `make fuzz` runs long, and that it finds what is there to be found."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

from appliance.tftp import packet, reception
from tests.fuzz import pure, wire
from tests.fuzz.machine import SessionMachine
from tests.fuzz.pure import FoundError
from tests.tftp.server import SETTINGS


def ignored(_done: int) -> None:
    """Nobody watches."""


def test_mutated_datagrams_are_parsed_and_negotiated_and_the_session_keeps_its_invariants() -> None:
    pure.run(10_000, 1350, ignored)


@pytest.mark.parametrize("single_port", [False, True])
def test_a_worker_takes_mutated_datagrams_from_many_clients(tmp_path: Path, single_port: bool) -> None:
    shape = replace(SETTINGS, single_port=single_port, allow=("127.0.0.0/8",) if single_port else ())
    bench = wire.Bench(tmp_path, shape, random.Random(2347))
    try:
        wire.run(bench, 4000, ignored)
        assert bench.lost() == 0
        assert bench.server.counters["dropped"] > 500
        assert bench.server.counters["refused"] > 100
    finally:
        bench.close()


def planted() -> None:
    """A defect in the server's process: one byte that the parser does not take."""
    sound = packet.parse

    def parse(datagram: bytes) -> packet.Packet:
        if datagram[:2] == b"\0\2":
            raise KeyError("planted")
        return sound(datagram)

    reception.packet.parse = parse  # type: ignore[attr-defined]


def test_a_planted_defect_is_found_and_told_as_a_test_of_one_datagram(tmp_path: Path) -> None:
    bench = wire.Bench(tmp_path, SETTINGS, random.Random(7), sabotage=planted)
    try:
        with pytest.raises(FoundError, match="planted") as caught:
            wire.run(bench, 2000, ignored)
        told = caught.value.test
        compile(told, "told", "exec")
        assert told.count("        b'\\x00\\x02") == told.count("\n        b") == 1
    finally:
        bench.close()


TestSession = SessionMachine.TestCase
TestSession.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
