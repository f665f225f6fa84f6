"""Records of the events service become facts about machines."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.board.feed import fact_of, fact_of_row
from appliance.board.story import Fact
from appliance.observe import events, live

WHO = {"client": b"192.0.2.7", "mac": b"52-54-00-12-34-56", "file": b"boot\\linux"}


def told(event: Any, source: str = "tftp.0") -> Fact | None:
    return fact_of(events.Record(1, 5500, source, event))


def made(event: Any, source: str = "tftp.0") -> Fact:
    fact = told(event, source)
    assert fact is not None
    return fact


def test_a_transfer_that_began_and_its_progress() -> None:
    begun = made(
        events.Started(size=100, blksize=1468, windowsize=4, verb=b"RRQ", layer=b"release", release=b"R", **WHO)
    )
    assert (begun.at, begun.kind, begun.client, begun.mac, begun.service) == (
        5.5, "start", "192.0.2.7", "52:54:00:12:34:56", "tftp",
    )  # fmt: skip
    assert (begun.size, begun.blksize, begun.windowsize, begun.layer, begun.release) == (100, 1468, 4, "release", "R")
    assert begun.file == "boot\\x5clinux"
    assert made(events.Started(bytes=5, verb=b"RETR", **WHO), "ftp.1").kind == "progress"


@pytest.mark.parametrize(
    ("outcome", "taken", "kind", "cause"),
    [
        (b"done", 9, "done", ""),
        (b"complete", 9, "done", ""),
        (b"probe", 0, "aborted", "probe"),
        (b"aborted by the client", 0, "aborted", "aborted by the client"),
        (b"aborted by the client", 5, "failed", "aborted by the client"),
        (b"timed out", 0, "failed", "timed out"),
    ],
)
def test_how_a_transfer_ended(outcome: bytes, taken: int, kind: str, cause: str) -> None:
    fact = made(events.Ended(bytes=taken, retransmits=3, verb=b"RRQ", outcome=outcome, **WHO))
    assert (fact.kind, fact.cause, fact.bytes, fact.retransmits) == (kind, cause, taken, 3)


def test_refusals_and_silence() -> None:
    refused = made(events.Refused(verb=b"RRQ", cause=b"not found", **WHO))
    assert (refused.kind, refused.cause) == ("refused", "not found")
    silent = made(events.Unanswered(blksize=1468, **WHO))
    assert (silent.kind, silent.blksize) == ("unanswered", 1468)


def test_what_became_of_a_one_shot_boot() -> None:
    fact = made(events.Machine(mac=b"52:54:00:AB:00:01", state=b"loaded"), "keeper.0")
    assert (fact.kind, fact.mac, fact.cause) == ("one-shot", "52:54:00:ab:00:01", "loaded")


def row(**texts: bytes) -> live.Row:
    return live.Row(7, 1000, 5500, 43, 100, 1468, 4, 2, 1069, tuple(texts.get(name, b"") for name in live.TEXTS))


def test_how_far_a_transfer_is_that_goes_on() -> None:
    fact = fact_of_row(row(verb=b"RRQ", layer=b"release", release=b"R", **WHO), "tftp.1")
    assert fact == Fact(
        5.5,
        "progress",
        "192.0.2.7",
        "boot\\x5clinux",
        "52:54:00:12:34:56",
        "tftp",
        43,
        100,
        1468,
        4,
        2,
        "",
        "release",
        "R",
    )


@pytest.mark.parametrize("texts", [{"verb": b"WRQ", **WHO}, {"verb": b"RETR"}])
def test_a_row_that_no_machine_boots_from_is_left_out(texts: dict[str, bytes]) -> None:
    assert fact_of_row(row(**texts), "tftp.0") is None


@pytest.mark.parametrize(
    "event",
    [
        events.Started(verb=b"WRQ", **WHO),
        events.Ended(verb=b"LIST", **WHO),
        events.Ended(verb=b"RRQ"),
        events.Refused(verb=b"STOR", **WHO),
        events.Refused(verb=b"RRQ", client=b"192.0.2.7"),
        events.Unanswered(),
        events.Machine(state=b"loaded"),
        events.Session(client=b"192.0.2.7"),
        events.Lost(events=4),
    ],
)
def test_what_is_about_no_machine_is_left_out(event: Any) -> None:
    assert told(event) is None


def test_an_answer_of_our_dhcp_server_to_a_machine_that_boots_and_to_one_that_runs() -> None:
    fact = made(events.Dhcp(1, b"52:54:00:AB:00:01", b"192.0.2.7", b"DHCPACK", b"br0"), "dhcp.0")
    assert (fact.kind, fact.mac, fact.client, fact.file) == (
        "dhcp",
        "52:54:00:ab:00:01",
        "192.0.2.7",
        "DHCP: 192.0.2.7",
    )
    fact = made(events.Dhcp(1, b"52:54:00:AB:00:01", b"", b"PXE", b"br0", b"snponly.efi"), "dhcp.0")
    assert (fact.kind, fact.client, fact.file) == ("dhcp", "", "DHCP: snponly.efi")
    assert made(events.Dhcp(0, b"52:54:00:AB:00:01", b"192.0.2.7"), "dhcp.0").kind == "address"
    assert told(events.Dhcp(1), "dhcp.0") is None  # of nobody
