"""What really happened when a machine booted last, from the history of events, beside what `boot explain` foretold."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from appliance.cli import configuration, log, output
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.board.story import Book, Fact, Machine
    from appliance.boot.explain import Explanation

_READS = ("RRQ", "RETR")
_ENDS = {"done": "done", "probe": "aborted", "aborted by the client": "aborted"}
_KINDS = {"start": "start", "refused": "refused", "unanswered": "unanswered"}


def happened(found: configuration.Found, told: Explanation) -> dict[str, Any] | None:
    """The last boot of the machine as facts; None when nothing was heard of it, or nobody kept a history."""
    try:
        records = list(log.history(found))
    except ApplianceError as error:
        output.remark(f"what happened so far is not known: {error}")
        return None
    return of_records(records, told)


def of_records(records: Iterable[dict[str, Any]], told: Explanation) -> dict[str, Any] | None:
    """The same from records of the history."""
    from appliance.board.diagnosis import World, diagnose
    from appliance.board.story import Book

    book = Book()
    for record in records:
        if (fact := _fact(record)) is not None:
            book.tell(fact)
    machine = _of(book, told)
    if machine is None:
        return None
    book.tick(time.time())
    served = {step.file for one in book.machines.values() for step in one.steps if step.state == "done"}
    finding = diagnose(machine, World(served))
    asked = {plain(step.ask.path) for way in told.ways for step in way.steps}
    return {
        "started": machine.started,
        "at": machine.at,
        "addresses": list(machine.addresses),
        "state": machine.state,
        "finding": {"what": finding.what, "remedy": finding.remedy} if finding else None,
        "steps": [
            {
                "file": step.file,
                "state": step.state,
                "bytes": step.bytes,
                "size": step.size,
                "at": step.at,
                "cause": step.cause,
                "layer": step.layer,
                "release": step.release,
                "foretold": plain(step.file) in asked,
            }
            for step in machine.steps
        ],
    }


def plain(name: str) -> str:
    """A name as two clients that mean the same file spell it: no slash in front, none twice."""
    from appliance.observe.macs import slashed

    return "/".join(part for part in slashed(name).split("/") if part)


def _fact(record: dict[str, Any]) -> Fact | None:
    """A record of the history as the story takes it; None for what is no reading of a file."""
    from appliance.board.story import Fact

    if record.get("event") == "dhcp":
        return _answer(record)
    event, file = record.get("event"), record.get("file")
    outcome = str(record.get("outcome", ""))
    kind = _ENDS.get(outcome, "failed") if event == "transfer" else _KINDS.get(str(event))
    if kind is None or not isinstance(file, str) or not file or record.get("verb", "RRQ") not in _READS:
        return None
    numbers = {
        name: record[name] for name in ("bytes", "size", "blksize", "windowsize", "retransmits") if name in record
    }
    texts = {name: str(record.get(name, "")) for name in ("mac", "layer", "release")}
    cause = str(record.get("cause", "")) or (outcome if kind == "failed" else "")
    at, room = float(record.get("time", 0)), str(record.get("room", "tftp"))
    return Fact(at, kind, str(record.get("client", "")), file, service=room, cause=cause, **numbers, **texts)  # type: ignore[arg-type]


def _answer(record: dict[str, Any]) -> Fact | None:
    """An answer of our DHCP server to a machine that boots."""
    from appliance.board.feed import of_dhcp

    mac = str(record.get("mac", ""))
    if not mac or not record.get("pxe"):
        return None
    texts = (str(record.get(name, "")) for name in ("client", "file"))
    client, file = texts
    return of_dhcp(float(record.get("time", 0)), client, mac, file, boots=True)


def _of(book: Book, told: Explanation) -> Machine | None:
    """The machine by its MAC, by a configuration that only it asks for, or by its address."""
    meant = told.choice.machine
    own = {plain(step.ask.path) for way in told.ways for step in way.steps if step.found.startswith("rendered for ")}
    own -= {plain(step.ask.path) for way in told.ways for step in way.steps if step.found == "rendered for everybody"}
    newest = list(reversed(book.machines.values()))
    by_mac = (one for one in newest if one.mac in meant.macs)
    by_name = (one for one in newest if any(plain(step.file) in own for step in one.steps))
    by_address = (one for one in newest if meant.ip and meant.ip in one.addresses)
    return next(itertools.chain(by_mac, by_name, by_address), None)


_WORDS = {
    "done": "got it",
    "missing": "was refused",
    "failed": "failed",
    "aborted": "wanted no more",
    "unanswered": "was answered and never heard",
    "running": "is reading it",
}


def lines(facts: dict[str, Any]) -> list[str]:
    """The last boot for a person."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["started"]))
    found = [f"last seen booting {at}, from {', '.join(facts['addresses'])}: {facts['state']}"]
    for step in facts["steps"]:
        more = [f"{step['bytes']} bytes"] if step["bytes"] else []
        more += [text for text in (step["layer"], step["cause"]) if text]
        mark = "" if step["foretold"] else "; nobody foretold it"
        found.append(f"  {step['file']}: {_WORDS[step['state']]}{_bracketed(more)}{mark}")
    if facts["finding"]:
        found.append(f"  {facts['finding']['what']} ({facts['finding']['remedy']})")
    return found


def _bracketed(texts: list[str]) -> str:
    return f" ({', '.join(texts)})" if texts else ""
