"""What is counted and told when a transfer is over: reads and writes."""

from __future__ import annotations

from appliance.observe import events
from appliance.observe.tables import Counters
from appliance.tftp.actions import NO_ANSWER, PROBE, Done, Failed
from appliance.tftp.journal import Journal
from appliance.tftp.receiving import Write
from appliance.tftp.transfer import GONE, Transfer

EVICTED = Failed("evicted")
REPLACED = Failed("replaced by a new request")
DONE = Done()
_NOBODY = {NO_ANSWER, GONE, EVICTED.outcome, REPLACED.outcome}


class Records:
    """Counters and journal of one worker."""

    def __init__(self, counters: Counters, journal: Journal) -> None:
        self._counters, self._journal = counters, journal

    def read(self, transfer: Transfer, how: Done | Failed, now: float) -> bool:
        """A read is over; False when nobody was ever heard."""
        counters, session = self._counters, transfer.session
        counters.add("bytes", transfer.delivered)
        if session.retransmits:
            counters.add("retransmits", session.retransmits)
        if isinstance(how, Failed):
            counters.add("failed")
        elif how.outcome != PROBE:
            counters.add("transfers")
        if not session.heard and how.outcome in _NOBODY:
            self._journal.unanswered(transfer.call.peer, transfer.call.request.name, now, transfer.agreed.block_size)
            return False
        took_ms = self._took(transfer.call.at, now)
        self._journal.finished(
            transfer.call.peer,
            events.Ended(
                number=transfer.number,
                size=transfer.file.size,
                bytes=transfer.delivered,
                blksize=transfer.agreed.block_size,
                windowsize=transfer.agreed.window,
                port=transfer.call.peer[1],
                ms=took_ms,
                retransmits=session.retransmits,
                acknowledged=how == DONE,
                client=transfer.call.peer[0].encode(),
                verb=b"RRQ",
                file=transfer.call.request.name,
                path=transfer.served.path,
                layer=transfer.served.layer,
                release=transfer.served.release,
                outcome=how.outcome.encode(),
            ),
            now,
        )
        return True

    def write(self, write: Write, how: Done | Failed, now: float) -> None:
        """A write is over, or its file is stored."""
        counters, receiver, request = self._counters, write.receiver, write.call.request
        counters.add("bytes", write.deposit.written)
        counters.add("retransmits", receiver.retransmits)
        counters.add("transfers" if isinstance(how, Done) else "failed")
        if not receiver.heard and how.outcome in _NOBODY:
            self._journal.unanswered(write.call.peer, request.name, now, write.agreed.block_size)
            return
        took_ms = self._took(write.call.at, now)
        self._journal.finished(
            write.call.peer,
            events.Ended(
                number=write.number,
                size=write.deposit.declared or -1,
                bytes=write.deposit.written,
                blksize=write.agreed.block_size,
                windowsize=write.agreed.window,
                port=write.call.peer[1],
                ms=took_ms,
                retransmits=receiver.retransmits,
                acknowledged=isinstance(how, Done),
                client=write.call.peer[0].encode(),
                verb=b"WRQ",
                file=request.name,
                path=write.deposit.name,
                layer=b"uploads",
                outcome=how.outcome.encode(),
            ),
            now,
        )

    def _took(self, began: float, now: float) -> int:
        took_ms = round((now - began) * 1000)
        self._counters.took(took_ms)
        return took_ms
