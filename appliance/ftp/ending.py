"""What is told when a transfer or a session has ended: counters, a log line, an event, and a line of the xferlog."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from appliance.ftp import xferlog
from appliance.observe import events

if TYPE_CHECKING:
    from appliance.ftp.data import Transfer
    from appliance.ftp.session import Session


def session(ended: Session) -> None:
    """Tell of a session that is over."""
    house, reason = ended.house, ended.reason or "quit"
    house.log.info(
        "session",
        client=ended.client_ip,
        seconds=round(house.now - ended.born, 3),
        files=ended.files,
        bytes=ended.bytes,
        password=ended.password,
        **({"tls": ended.tls_version} if ended.tls_version else {}),
        reason=reason,
    )
    if house.emitter.on:
        house.tell(
            events.Session(
                ms=round((house.now - ended.born) * 1000),
                files=ended.files,
                bytes=ended.bytes,
                port=ended.remote_port or 0,
                client=ended.client_ip.encode(),
                tls=(ended.tls_version or "").encode(),
                reason=reason.encode(),
            )
        )


def transfer(owner: Session, ended: Transfer, cause: str) -> None:
    """Tell of a transfer that is over; `cause` is for the operator, "" for success."""
    house = owner.house
    owner.files += not cause
    owner.bytes += ended.moved
    house.counters.add("failed" if cause else "transfers")
    house.counters.add("bytes", ended.moved)
    seconds = time.monotonic() - ended.started
    house.counters.took(round(seconds * 1000))
    house.log.info(
        "transfer",
        client=owner.client_ip,
        verb=ended.verb,
        path=ended.path,
        bytes=ended.moved,
        seconds=round(seconds, 3),
        result=cause or "complete",
    )
    if house.emitter.on:
        release = owner.layers.release_id if ended.layer == b"release" else b""
        house.tell(partial(_event, owner, ended, seconds, release, cause))
    if house.record.on:
        _write_line(owner, ended, seconds, done=not cause)


def _event(owner: Session, ended: Transfer, seconds: float, release: bytes, cause: str) -> events.Ended:
    """Made when it leaves: of what the transfer was at its end, and what its session is from the first to the last."""
    name = ended.path.encode("utf-8", "surrogateescape")
    ms, outcome = round(seconds * 1000), cause.encode() or b"done"
    # in order, which takes a third less than by name; FTP has no blksize, windowsize, retransmits and mac
    return events.Ended(
        ended.number, ended.size, ended.moved, 0, 0, owner.remote_port or 0, ms, 0, not cause,
        owner.client_ip.encode(), b"", ended.verb.encode(), name, name, ended.layer, release, outcome,
    )  # fmt: skip


def _write_line(owner: Session, ended: Transfer, seconds: float, *, done: bool) -> None:
    line = xferlog.line(
        ended=time.time(),
        seconds=seconds,
        client=owner.client_ip,
        size=ended.moved,
        path=ended.path,
        text=owner.type_a,
        verb=ended.verb,
        user=owner.password,
        done=done,
    )
    if line:
        owner.house.record.write(line)
