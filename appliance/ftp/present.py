"""Who is on: the rows that show sessions and what they transfer, looked at once a second.

A session that is silent costs nothing: only those that came, or began or ended a transfer, are looked at. Invariant: a
row belongs to one session, from its first second to its end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance.observe import events
from appliance.observe.emitter import Emitter
from appliance.observe.live import Live

if TYPE_CHECKING:
    from appliance.ftp.data import Transfer
    from appliance.ftp.session import Session


class Present:
    """`begun` are sessions that have come, or began a transfer, since they were looked at, or that transfer now."""

    def __init__(self, live: Live, emitter: Emitter) -> None:
        self._live, self._emitter = live, emitter
        self.begun: set[Session] = set()

    def look(self, now: float) -> None:
        """Bring the rows up to date. `now`: monotonic seconds."""
        now_ms = time.time_ns() // 1_000_000
        for session in list(self.begun):
            if session.closed:
                self.gone(session)
                continue
            transfer = session.transfer
            if not session.row:
                self._come(session, now, now_ms)
            if transfer is None:
                self._live.name(session.row, now_ms, _idle(session))
                self._live.update(session.row, now_ms, session.bytes, 0)
                self.begun.discard(session)
            else:
                if not transfer.number:
                    self._show(session, transfer, now, now_ms)
                self._live.update(session.row, now_ms, transfer.moved, 0)
        self._live.looked(now_ms)

    def gone(self, session: Session) -> None:
        """The session is over."""
        self.begun.discard(session)
        if session.row:
            self._live.end(session.row)

    def _come(self, session: Session, now: float, now_ms: int) -> None:
        started_ms = now_ms - round((now - session.born) * 1000)
        session.row = self._live.begin(now_ms, started_ms, _idle(session), port=session.remote_port or 0)

    def _show(self, session: Session, transfer: Transfer, now: float, now_ms: int) -> None:
        transfer.number = session.row
        path, client = transfer.path.encode("utf-8", "surrogateescape"), session.client_ip.encode()
        verb = transfer.verb.encode()
        texts = (client, verb, path, b"", transfer.layer, b"", b"", session.tls_version.encode())
        started_ms = now_ms - round((now - transfer.started) * 1000)
        self._live.name(session.row, now_ms, texts, transfer.size, started_ms)
        self._emitter.emit(
            events.Started(
                number=session.row,
                size=transfer.size,
                bytes=transfer.moved,
                port=session.remote_port or 0,
                client=client,
                verb=verb,
                file=path,
                path=path,
                layer=transfer.layer,
            ),
            now,
        )


def _idle(session: Session) -> tuple[bytes, ...]:
    note = b"idle" if session.authenticated else b"not logged in"
    return (session.client_ip.encode(), b"", b"", b"", b"", b"", b"", note)
