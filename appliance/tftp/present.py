"""Who is on: the rows that show transfers which last a while, and the events that tell of their beginning.

Looked at a few times a second, seldom when there are very many; nothing here is called per packet.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from appliance.observe import events
from appliance.observe.emitter import Emitter
from appliance.observe.live import Live
from appliance.tftp.files import Served
from appliance.tftp.receiving import Write
from appliance.tftp.transfer import Transfer

_SHORT_S = 0.2  # what is over sooner is never shown: it only ends
_SELDOMEST_S = 2.0  # between two looks, however many there are: then they take a percent or two
_PER_LOOK_S = 0.0005  # time between two looks for each transfer, so that looking takes less than a percent


class Present:
    """See the module."""

    def __init__(self, live: Live, emitter: Emitter) -> None:
        self._live, self._emitter = live, emitter
        self._due = 0.0

    def look(self, reads: Mapping[int, Transfer], writes: Iterable[Write], now: float) -> None:
        """Bring the rows up to date. `now`: monotonic seconds."""
        if now < self._due:
            return
        live, now_ms, number = self._live, time.time_ns() // 1_000_000, 0
        for transfer in reads.values():
            if transfer.number:
                live.update(transfer.number, now_ms, transfer.delivered, transfer.session.retransmits)
            elif transfer.confirmed and now - transfer.call.at > _SHORT_S:
                self._show(transfer, b"RRQ", (transfer.file.size, transfer.delivered), now, now_ms)
        for write in writes:
            if not write.number and now - write.call.at > _SHORT_S:
                self._show(write, b"WRQ", (write.deposit.declared or -1, write.deposit.written), now, now_ms)
            if write.number:
                live.update(write.number, now_ms, write.deposit.written, write.receiver.retransmits)
            number += 1
        live.looked(now_ms)
        self._due = now + min(_SELDOMEST_S, (len(reads) + number) * _PER_LOOK_S)

    def gone(self, transfer: Transfer | Write) -> None:
        """One that was shown is over."""
        self._live.end(transfer.number)

    def _show(self, it: Transfer | Write, verb: bytes, sizes: tuple[int, int], now: float, now_ms: int) -> None:
        call, agreed, (size, moved) = it.call, it.agreed, sizes
        served = it.served if isinstance(it, Transfer) else Served(it.deposit.name, b"uploads")
        client, name = call.peer[0].encode(), call.request.name
        texts = (client, verb, name, served.path, served.layer, served.release)
        started_ms = now_ms - round((now - call.at) * 1000)
        options = (agreed.block_size, agreed.window)
        it.number = self._live.begin(now_ms, started_ms, texts, size=size, options=options, port=call.peer[1])
        self._emitter.emit(
            events.Started(
                number=it.number,
                size=size,
                bytes=moved,
                blksize=options[0],
                windowsize=options[1],
                port=call.peer[1],
                client=client,
                verb=verb,
                file=name,
                path=served.path,
                layer=served.layer,
                release=served.release,
            ),
            now,
        )
