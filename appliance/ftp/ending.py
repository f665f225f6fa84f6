"""What is told when a transfer or a session has ended: counters, a log line, an event, and a line of the xferlog."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance.ftp import xferlog
from appliance.observe import events, framing
from appliance.observe.emitter import Late

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
    ms = round(seconds * 1000)
    house.counters.took(ms)
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
        late = (
            _frame, ended.number, ended.size, ended.moved, owner.remote_port or 0, ms, owner.client_ip, ended.verb,
            ended.path, ended.layer, release, cause,
        )  # fmt: skip
        house.emitter.emit(late, house.now)
    if house.record.on:
        _write_line(owner, ended, seconds, done=not cause)


def _frame(late: Late) -> bytes:
    """The event of a transfer, made when it leaves; FTP has no blksize, windowsize, retransmits and mac."""
    _made_by, number, size, moved, port, ms, client, verb, path, layer, release, cause = late
    name = path.encode("utf-8", "surrogateescape")
    return framing.frame_ended(
        (number, size, moved, 0, 0, port, ms, 0, not cause),
        (client.encode(), b"", verb.encode(), name, name, layer, release, cause.encode() or b"done"),
    )


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
