"""Records of the events service become facts for the board. Pure."""

from __future__ import annotations

from appliance.board.story import Fact
from appliance.observe import events, live
from appliance.observe.text import printable

_READS = (b"RRQ", b"RETR")
_NAME_MAX = 200  # characters of a name that the board keeps
_ONE_SHOT = (b"armed", b"loaded", b"confirmed", b"expired")
_NOTHING_WANTED = ("probe", "aborted by the client")  # before a byte was taken: a look at the size


def fact_of(record: events.Record) -> Fact | None:
    """What a record says about a machine; None for one that is about none."""
    event, at = record.event, record.at_ms / 1000
    service = record.source.partition(".")[0]
    if isinstance(event, events.Started | events.Ended):
        return _transfer(event, at, service) if event.verb in _READS and event.client else None
    if isinstance(event, events.Refused):
        known = event.verb in _READS and event.file and event.client
        return _fact(event, at, "refused", service, cause=printable(event.cause)) if known else None
    if isinstance(event, events.Unanswered):
        return _fact(event, at, "unanswered", service, blksize=event.blksize) if event.client else None
    if isinstance(event, events.Dhcp) and event.mac:
        return of_dhcp(at, _text(event.client), _mac(event.mac), _text(event.file), boots=bool(event.pxe))
    if isinstance(event, events.Machine) and event.state in _ONE_SHOT and (event.mac or event.client):
        return Fact(at, "one-shot", _text(event.client), mac=_mac(event.mac), cause=_text(event.state))
    return None


def of_dhcp(at: float, client: str, mac: str, file: str, *, boots: bool) -> Fact:
    """An answer of our DHCP server, shown as a step of its own in front of the loader."""
    return Fact(at, "dhcp" if boots else "address", client, f"DHCP: {file or client or 'answered'}", mac, "dhcp")


def fact_of_row(row: live.Row, source: str) -> Fact | None:
    """How far a transfer is that goes on, from the table of who is on; None for one that no machine boots from."""
    texts = dict(zip(live.TEXTS, row.texts, strict=True))
    if texts["verb"] not in _READS or not texts["client"]:
        return None
    return Fact(
        row.at_ms / 1000, "progress", _text(texts["client"]), printable(texts["file"], _NAME_MAX), _mac(texts["mac"]),
        source.partition(".")[0], row.bytes, row.size, row.blksize, row.windowsize, row.retransmits,
        layer=_text(texts["layer"]), release=_text(texts["release"]),
    )  # fmt: skip


def _transfer(event: events.Started | events.Ended, at: float, service: str) -> Fact:
    agreed = {
        "blksize": event.blksize, "windowsize": event.windowsize, "size": event.size, "bytes": event.bytes,
        "layer": _text(event.layer), "release": _text(event.release),
    }  # fmt: skip
    if isinstance(event, events.Started):
        return _fact(event, at, "progress" if event.bytes else "start", service, **agreed)
    outcome = _text(event.outcome)
    kind = "done" if outcome in ("done", "complete") else "failed"
    if kind == "failed" and not event.bytes and outcome in _NOTHING_WANTED:
        kind = "aborted"
    return _fact(
        event,
        at,
        kind,
        service,
        cause="" if kind == "done" else outcome,
        retransmits=event.retransmits,
        ms=max(0, event.ms),
        **agreed,
    )


def _fact(event: object, at: float, kind: str, service: str, **more: object) -> Fact:
    client, mac, file = (getattr(event, name) for name in ("client", "mac", "file"))
    return Fact(at, kind, _text(client), printable(file, _NAME_MAX), _mac(mac), service, **more)  # type: ignore[arg-type]


def _text(raw: bytes) -> str:
    return printable(raw, _NAME_MAX)


def _mac(raw: bytes) -> str:
    return _text(raw).lower().replace("-", ":")
