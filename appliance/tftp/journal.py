"""What the operator reads of the TFTP service: a line per transfer, a line per refusal, repeats counted; the same as
events.

The client's address stands before anything the client chose; `observe.log` escapes hostile bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Any

from appliance.observe import events
from appliance.observe.emitter import Emitter
from appliance.observe.log import TurnLog
from appliance.tftp.admission import TokenBucket
from appliance.tftp.sockets import Peer

QUIET_S = 10.0
_SUBJECTS_MAX = 1024
_OWED_MAX = 256
_LINES_PER_SECOND = 200
_Subject = tuple[object, ...]


class Journal:
    """Writes the lines: those of transfers together at `flush`, the rest at once.

    `lines` about the same subject come at most once in QUIET_S. `emitter`: who tells the events service.
    """

    def __init__(self, log: TurnLog, emitter: Emitter | None = None) -> None:
        self._log, self.emitter = log, emitter or Emitter(None, 1, lambda _count: None)
        self._subjects: OrderedDict[_Subject, list[float]] = OrderedDict()  # quiet until, repeats; the oldest first
        self._owed: OrderedDict[_Subject, int] = OrderedDict()  # repeats of those that are quiet no more
        self._lines = TokenBucket(_LINES_PER_SECOND)

    def finished(self, peer: Peer, event: events.Ended, now: float) -> None:
        """A transfer that was under way is over; for an upload the verb is WRQ."""
        self._log.info(
            "upload" if event.verb == b"WRQ" else "transfer",
            client=host_port(peer),
            file=event.file,
            bytes=event.bytes,
            ms=event.ms,
            retransmits=event.retransmits,
            blksize=event.blksize,
            windowsize=event.windowsize,
            outcome=event.outcome,
        )
        self.emitter.emit(event, now)

    def custodian_gone(self, reason: str, lost: int) -> None:
        """The link to the custodian is lost; `lost` uploads and questions waited on it."""
        self._log.warning("the custodian is gone", reason=reason, lost=lost)
        self.flush()

    def unanswered(self, peer: Peer, name: bytes, now: float, blksize: int = 0) -> None:
        """A request was answered, and nobody was heard. `blksize`: of the answer, or as offered in it."""
        repeated = self._seldom("unanswered", (peer[0],), now, client=host_port(peer), file=name)
        if repeated is not None:
            self.emitter.emit(events.Unanswered(peer[1], repeated, blksize, peer[0].encode(), b"", name), now)

    def refused(self, peer: Peer, name: bytes, cause: str, now: float, verb: bytes = b"RRQ") -> None:
        """A request got an ERROR."""
        about = (peer[0], name, cause)
        repeated = self._seldom("refused", about, now, client=host_port(peer), file=name, cause=cause)
        if repeated is not None:
            client = peer[0].encode()
            self.emitter.emit(events.Refused(peer[1], repeated, client, b"", verb, name, cause.encode()), now)

    def dropped(self, peer: Peer, cause: str, now: float) -> None:
        """A datagram got no answer."""
        repeated = self._seldom("dropped", (peer[0], cause), now, client=host_port(peer), cause=cause)
        if repeated is not None:
            self.emitter.emit(events.Dropped(peer[1], repeated, peer[0].encode(), cause.encode()), now)

    def ambiguous(self, folder: bytes, taken: bytes, other: bytes) -> None:
        """A name was found in two spellings, neither of them as asked."""
        self._log.warning("ambiguous", folder=folder, taken=taken, other=other)
        self.flush()

    def crash(self, **fields: Any) -> None:
        """A bug was caught."""
        self._log.crash("crash", **fields)
        self.flush()

    def flush(self) -> None:
        """Write the lines of the transfers that ended in this turn of the loop."""
        self._log.flush()

    def _seldom(self, event: str, about: tuple[object, ...], now: float, **fields: Any) -> int | None:
        """How many like this were left out before it; None when this one is left out."""
        subject = (event, *about)
        entry = self._subjects.get(subject)
        if entry is not None and now < entry[0]:
            entry[1] += 1
            return None
        if not self._lines.take(now):
            return None
        repeated = int(entry[1]) if entry is not None else self._owed.pop(subject, 0)
        self._subjects[subject] = [now + QUIET_S, 0]
        self._subjects.move_to_end(subject)
        self._forget(now)
        self._log.info(event, **fields, **({"repeated": repeated} if repeated else {}))
        self.flush()
        return repeated

    def _forget(self, now: float) -> None:
        """Two for one that came: what keeps nobody quiet any more goes, not only what is too much."""
        for subject, (until, repeats) in list(islice(self._subjects.items(), 2)):
            if now < until and len(self._subjects) <= _SUBJECTS_MAX:
                break
            del self._subjects[subject]
            if repeats:
                self._owed[subject] = int(repeats)
                if len(self._owed) > _OWED_MAX:
                    self._owed.popitem(last=False)


def host_port(peer: Peer) -> str:
    """A client's address for people: 192.0.2.1:1069, [2001:db8::1]:1069."""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
