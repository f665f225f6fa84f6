"""A transfer that keeps a rate: its windows leave in pieces, each when the pacer says so.

Nothing is dropped and no agreed window is shrunk: what is over the rate waits, and the retransmission timer with it. It
takes the general way of a `Transfer` for every datagram; the fast one is for those who keep no rate.
"""

from __future__ import annotations

import math
import time
from typing import Any

from appliance.tftp.blocks import stride_of
from appliance.tftp.rates import Flow, Pacer
from appliance.tftp.transfer import Call, Transfer


class PacedTransfer(Transfer):
    """`go` is called by the engine when the pacer has released its flow."""

    __slots__ = ("_asked_at", "_flow", "_pacer", "_piece", "_rest")

    def __init__(self, call: Call, *, pacer: Pacer, **more: Any) -> None:
        """`more`: what a Transfer is made of."""
        super().__init__(call, **more)
        self._pacer = pacer
        self._flow: Flow = pacer.join(self, call.client, call.quota)
        self._piece = max(1, self._flow.piece // stride_of(self.agreed.block_size))  # in blocks
        self._rest: tuple[int, int] | None = None  # what the session wants sent and has not left: first block, count
        self._asked_at = 0.0

    def readable(self, now: float) -> bool:
        """Take one datagram; there is always something to be seen to."""
        try:
            datagram = self._take()
        except OSError as error:
            self._receive_failed(error)
        else:
            self._event(datagram, now)
        return False

    def send(self, first: int, count: int) -> None:
        """Ask for the first piece; a client that repeats its ACK while we wait keeps its turn.

        The one block of a client that was never heard goes at once and uncounted: whoever forges an address takes
        nothing from the rate of its owner, and his own budget is `unseen_per_second`.
        """
        if not self.session.heard:
            super().send(first, count)
            return
        self._pending = None
        self._rest = (first, count)
        self._asked_at = time.monotonic()
        self._ask()

    def go(self, now: float) -> None:
        """Send one piece, and ask for the next."""
        if self._rest is None or self.over is not None:
            return
        first, count = self._rest
        super().send(first, min(count, self._piece))
        end, last = first + count, self.session.last
        end = end if last is None else min(end, last + 1)  # where netascii ends shows only now
        if self._pending is not None:  # the socket takes no more: the rest is asked for by the timer
            self._rest = (self._pending[0], end - self._pending[0])
        elif first + self._piece < end:
            self._rest = (first + self._piece, end - first - self._piece)
            self._ask()
        else:
            self._rest = None
            self.session.delayed(max(0.0, now - self._asked_at))

    def _look_ahead(self, awaited: int, count: int) -> None:
        """Not for the next window: the buffer holds the rest of this one, which would have to be read again."""

    def on_timer(self, now: float) -> None:
        """The time has come to `due`: while a piece waits for its turn, that is no silence of the client."""
        if self._pending is not None and self._rest is not None:
            self._pending = None
            self._ask()
        elif self._rest is None:
            super().on_timer(now)

    def wants_timer_at(self, now: float) -> float:
        """When `on_timer` should be called; never while the pacer has a piece of it."""
        return math.inf if self._rest is not None and self._pending is None else super().wants_timer_at(now)

    def close(self) -> bool:
        """As in a Transfer; gives the turn up, too."""
        self._pacer.leave(self._flow)
        return super().close()

    def _ask(self) -> None:
        assert self._rest is not None
        first, count = self._rest
        block = self.agreed.block_size
        amount = min(count, self._piece) * block
        if self.session.last is not None:
            amount = min(amount, self.file.size - (first - 1) * block)
        self._pacer.ask(self._flow, max(1, amount), time.monotonic())
