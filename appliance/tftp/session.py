"""One read transfer as a pure machine: events and the time go in, actions come out (RFC 1350, 1123 4.2.3, 2347, 7440).

Theory of operation. Blocks are counted from 1 without end; only `wire_number` and `_step` know of 16 bits. Blocks up to
`acked` have arrived, blocks up to `sent` have left: `acked < sent <= acked + window` while the transfer lives. A `Send`
begins at `acked + 1`, the only place a receiver can go on from after a gap (RFC 7440 section 4), or slides: it begins
at `sent + 1`, because what is in flight may still be under way.

Invariants
- Until the first ACK a requester gets one packet and at most FIRST_REPEATS repeats of it: a forged request cannot be
  turned into a stream.
- At window 1 a repeated ACK is ignored (RFC 1123 4.2.3.1, the Sorcerer's Apprentice). In larger windows it means that
  the first block of the window was lost, so it restarts the window - but not before it can be an answer to what was
  sent last, and only MAX_RESTARTS times without progress.
- An ACK inside the window restarts it there, at once. But a receiver that acknowledges duplicates, or every block,
  sends such ACKs without any gap, and each restart makes it send more of them. So after DOUBTS_MAX restarts inside
  what was sent twice, the window slides instead. Duplicates never multiply.
- Silence ends every transfer, after `give_up_s` or MAX_REPEATS, whichever comes first.
- A timeout that the client asked for is kept to. Otherwise the measured path says when to repeat (`roundtrip`), at most
  the configured timeout. A doubled interval stays until something that was sent once was measured, and is halved by
  each answer that cannot be. After EARLY_REPEATS the client's own timer gets its turn. These repeats come on top of
  those that count, one window for each interval; a client that pauses (it writes to flash) is recognised by answers
  that come too late for the last repeat, and is given more time from then on.
- What is repeated after a silence leaves in slices, and after SILENCES_MAX windows with a silence every window does: a
  burst whose end never fits a queue on the way would otherwise be lost again and again.
"""

from __future__ import annotations

from appliance.tftp.actions import (
    ABORTED,
    NO_ANSWER,
    PROBE,
    TIMED_OUT,
    UNCONFIRMED,
    Actions,
    Done,
    Failed,
    Send,
    SendError,
    SendOack,
)
from appliance.tftp.blocks import wire_number
from appliance.tftp.options import Agreed
from appliance.tftp.packet import ErrorCode
from appliance.tftp.repeats import FIRST_REPEATS, INTERVAL_MAX_S, LAST_REPEATS, MAX_REPEATS, first_wait_s
from appliance.tftp.roundtrip import RoundTrip

MAX_RESTARTS = 8
EARLY_REPEATS = 4  # then the client's own timer, usually 1 s, gets its turn: each packet of ours would wind it up again
DOUBTS_MAX = 3
GUARD_MAX_S = 0.01
SAMPLE_EVERY_S = 0.01  # the round trip is measured no more often: it would cost as much as the rest of `advance`
SLICE = 8  # blocks: fits the queues of the smallest switches
SLICES = 8  # at most, of one window
PACE_S = 0.001  # between two slices: 8 blocks of 1428 bytes in 1 ms are 91 Mbit/s
PACE_MAX_S = 0.02
SILENCES_MAX = 3
SOFT_S = 0.002  # a slide that brings nothing within this time, or two round trips, was a gap
_NEVER = 1 << 20  # no step reaches that far; also "no block number is awaited"


class Session:
    """The sender's side of one transfer. After Done or Failed every event returns ()."""

    __slots__ = (
        "_agreed", "_awaited", "_clean", "_doubts", "_early", "_echo", "_empty", "_fresh", "_give_up_s", "_heard_at",
        "_interval_s", "_offering", "_over", "_pace_s", "_paced", "_path", "_recover", "_repeats", "_restarts",
        "_sample_at", "_satisfied", "_sent_at", "_silences", "_soft", "_unmended", "acked", "deadline", "heard",
        "last", "retransmits", "sent", "setbacks",
    )  # fmt: skip

    def __init__(
        self, agreed: Agreed, *, last: int | None, empty: bool, give_up_s: float, interval_s: float = 0.0
    ) -> None:
        """`last`: number of the last block, None until `end_at` tells. `give_up_s`: silence that ends the transfer.

        `interval_s`: what an earlier transfer of this client measured, 0 if there was none. Before the first ACK it
        moves the first repeat forward; it brings no further one, and the first ACK is waited for as long as without it.
        """
        self._agreed = agreed
        self._empty = empty
        self._give_up_s = max(give_up_s, 5 * agreed.timeout_s)
        self._offering = bool(agreed.oack)
        self._over = self._satisfied = self._soft = self._paced = self._echo = False
        self._clean = True  # nothing in flight was sent twice
        self._awaited = _NEVER
        self._repeats = self._early = self._restarts = self._doubts = self._silences = 0
        self._recover = 0  # up to this block something has left before the last `_send`
        self._pace_s = 0.0
        self._interval_s = (
            agreed.timeout_s if agreed.timeout_asked or not interval_s else min(interval_s, agreed.timeout_s)
        )
        self._path = RoundTrip()
        self._fresh = 1  # the first block that was sent once, at `_sent_at`: from here on an ACK measures the path
        self._heard_at = self._sent_at = self._sample_at = 0.0
        self._unmended = 0
        self.setbacks = 0  # gaps and silences that a repeat mended: about one for each loss, none for a client gone
        self.acked = self.sent = 0
        self.last = last
        self.deadline = 0.0
        self.heard = False  # the client has acknowledged something: its address is no forgery
        self.retransmits = 0

    @property
    def awaiting_last(self) -> bool:
        """Only the ACK of the last block is missing."""
        return self.last is not None and self.acked == self.last - 1 and not self._offering

    @property
    def budget_spent(self) -> bool:
        """The client was never heard, and gets nothing more for this request."""
        return not self.heard and self._repeats >= FIRST_REPEATS

    @property
    def patience_s(self) -> float:
        """The agreed timeout: a client that is alive is not silent for longer."""
        return self._agreed.timeout_s

    @property
    def measured_s(self) -> float:
        """After how long this path's silence means a loss, in seconds; 0 where nothing was measured."""
        return self._path.calm_s(self._agreed.timeout_s) if self._path.smoothed_s else 0.0

    @property
    def sliced(self) -> bool:
        """Whole windows got lost, so they leave in slices."""
        return self._paced

    @property
    def silent_since(self) -> float:
        """When the client last made progress (or the transfer began)."""
        return self._heard_at

    def start(self, now: float) -> Actions:
        """The first reply: the OACK, or block 1."""
        self._heard_at = now
        return self._offer(now) if self._offering else self._send(now)

    def end_at(self, last: int) -> None:
        """Tell the number of the last block as soon as it is known; blocks after it were never sent."""
        self.last = last
        self.sent = min(self.sent, last)
        if not self._soft:
            self.deadline = self._sent_at + self._interval_s  # no further slice follows

    def advance(self, block16: int, now: float) -> int:
        """The one case that matters for speed: everything in flight arrived and more is to be sent.

        Returns how many blocks to send from `acked + 1`, having done exactly what `on_ack` does; 0 where it is any
        other case, having done nothing.
        """
        if block16 != self._awaited:
            return 0
        self.go_on(now)
        return self.sent - self.acked

    def go_on(self, now: float) -> tuple[int, int]:
        """`advance` for the number that `ahead` told; returns what `ahead` tells then."""
        acked = self.acked = self.sent
        if now >= self._sample_at:
            self._sample(now)
        self._fresh = acked + 1
        self._heard_at = self._sent_at = now
        self.deadline = now + self._interval_s
        window, last = self._agreed.window, self.last
        sent = acked + window
        if last is not None and sent >= last:
            self.sent = last
            self._awaited = _NEVER
            return _NEVER, 0
        self.sent = sent
        self._awaited = awaited = wire_number(sent, self._agreed.rollover) if sent > 0xFFFF else sent
        return (awaited, 0) if last is None else (awaited, min(window, last - sent))

    def ahead(self) -> tuple[int, int]:
        """What `advance` waits for: the number in the ACK, and how many blocks it will then send from `sent + 1` on.

        The count is 0 where nothing is its case.
        """
        if self._awaited == _NEVER or self.last is None:
            return self._awaited, 0
        return self._awaited, min(self._agreed.window, self.last - self.sent)

    def on_ack(self, block16: int, now: float) -> Actions:
        """An ACK from the client."""
        if self._over:
            return ()
        if self._offering:
            return () if block16 else self._accepted(now)
        step = self._step(block16)
        if step > max(self.sent, self._recover) - self.acked:
            return ()  # forged, or older than what was acknowledged already
        if step == 0:
            return self._repeated(now)
        self.acked += step
        self.sent = max(self.sent, self.acked)  # a repeat in slices was overtaken by the ACK of what left before it
        self._measure(now)
        self._progress(now)
        if self.acked == self.last:
            return self._end(Done())
        if self.acked < self.sent:
            return self._restart(now)
        if self._clean:
            self._silences = 0
        else:
            self._doubts = 0
        return self._send(now)

    def on_error(self, code: int) -> Actions:
        """An ERROR from the client: it wants no more."""
        if self._over:
            return ()
        # EDK2 asks for tsize and then says ERROR 8 "User aborted the transfer", once for each boot file; others say 0.
        if self.acked == 0 and self._agreed.oack and code in (ErrorCode.UNDEFINED, ErrorCode.OPTIONS):
            return self._end(Done(PROBE))
        return self._end(Failed(ABORTED))

    def on_timeout(self, now: float) -> Actions:
        """The time has come to `deadline` (called earlier, nothing happens)."""
        if self._over or now < self.deadline:
            return ()
        if self._satisfied:
            return self._end(Done())
        if self._soft:
            self._unmended += 1
            return self._send(now)
        if self.sent < self._window_end() and not self._offering:
            return self._slice(now)
        self._sample_at = 0.0  # the next block that is sent only once is measured, whenever it comes
        self._unmended += 1
        self._silences += 1
        self._paced = self._paced or (self._silences >= SILENCES_MAX and self._agreed.window > SLICE)
        if self.heard and self._early < EARLY_REPEATS and self._interval_s < self._agreed.timeout_s:
            self._early += 1
            self._interval_s = min(2 * self._interval_s, self._agreed.timeout_s)
            return self._send(now, again=True)
        self._repeats += 1
        outcome = self._given_up(now)
        if outcome:
            return self._end(Failed(outcome))
        timeout_s = self._agreed.timeout_s
        least_s = timeout_s if self.heard else timeout_s / 2
        self._interval_s = min(2 * max(self._interval_s, least_s), max(INTERVAL_MAX_S, timeout_s))
        if self.budget_spent:
            self._interval_s = max(self._interval_s, self._heard_at + first_wait_s(timeout_s) - now)
        if self._offering:
            self.retransmits += 1
            return self._offer(now)
        return self._send(now, again=True)

    def delayed(self, by: float) -> None:
        """What the last Send asked for has left only now, `by` seconds late: the client could not answer before."""
        self._sent_at += by
        self._heard_at += by
        self.deadline += by

    def abort(self, code: ErrorCode, text: str, outcome: str) -> Actions:
        """End from our side: the client is told a constant."""
        return () if self._over else (SendError(code, text), *self._end(Failed(outcome)))

    def _given_up(self, now: float) -> str:
        if not self.heard:
            return NO_ANSWER if self._repeats > FIRST_REPEATS else ""
        if self.awaiting_last and self._repeats > LAST_REPEATS:
            return UNCONFIRMED
        return TIMED_OUT if self._repeats > MAX_REPEATS or now - self._heard_at >= self._give_up_s else ""

    def _accepted(self, now: float) -> Actions:
        """ACK 0 after the OACK."""
        self._offering = False
        if not self._repeats:
            self._sample(now)
        self._progress(now)
        return self._send(now)

    def _progress(self, now: float) -> None:
        self.heard = True
        self._echo = bool(self._early or self._repeats)
        self._repeats = self._early = self._restarts = 0
        self._interval_s = min(self._interval_s, self._agreed.timeout_s)
        self.setbacks += self._unmended
        self._unmended = 0
        self._heard_at = now

    def _repeated(self, now: float) -> Actions:
        """The ACK of `acked` once more."""
        if self._empty and self._agreed.oack:
            # iPXE never acknowledges the empty DATA 1 of an empty file: it repeats ACK 0 and is content. Wait one
            # interval without a repeat, in case that this was a duplicate and the real ACK comes.
            if not self._satisfied:
                self.deadline = now + self._agreed.timeout_s
            self._satisfied = True
            return ()
        if self._agreed.window == 1:
            return ()
        # A duplicate of the ACK comes at once; a sign of a gap needs a round trip. And whoever got a window twice
        # acknowledges it twice.
        soon = now - self._sent_at < min(max(self._path.shortest_s, SOFT_S / 2), GUARD_MAX_S)
        echo, self._echo = self._echo, False
        return self._restart(now, wait=soon or echo)

    def _restart(self, now: float, *, wait: bool = False) -> Actions:
        """Go back to `acked + 1`: a gap (RFC 7440 section 4). `wait`: only if nothing better comes."""
        if self._restarts >= MAX_RESTARTS:
            return ()
        self._restarts += 1
        doubtful = self.acked <= self._recover
        if wait or (doubtful and self._doubts >= DOUBTS_MAX):
            return self._slide(now)
        self._unmended += 1
        self._doubts += doubtful
        return self._send(now)

    def _slide(self, now: float) -> Actions:
        """Fill the window up with new blocks; if that brings no ACK either, it is a gap."""
        self._awaited = _NEVER  # what ends a slide is no case for `advance`
        self._soft = True
        self.deadline = min(self.deadline, now + max(2 * self._path.smoothed_s, SOFT_S))
        return self._emit(self._window_end(), now)

    def _offer(self, now: float) -> Actions:
        self._sent_at = now
        self.deadline = now + self._interval_s
        return (SendOack(),)

    def _send(self, now: float, *, again: bool = False) -> Actions:
        """One window from `acked + 1`. `again`: it has left before, and nothing came back."""
        if self.sent > self.acked:
            self._recover = max(self._recover, self.sent)
        self._clean = self._recover <= self.acked
        self._soft = False
        if again:
            # Slower each time, for slow paths: all slices together take an eighth of the interval.
            self._pace_s = min(max(PACE_S, self._interval_s / (8 * SLICES)), PACE_MAX_S)
        else:
            self._pace_s = PACE_S if self._paced else 0.0
        self.sent = self.acked
        actions = self._slice(now)
        self._await()
        return actions

    def _slice(self, now: float) -> Actions:
        """The next part of the window: all that is left of it, unless bursts get lost on the way."""
        end = window_end = self._window_end()
        if self._pace_s:
            end = min(end, self.sent + max(SLICE, -(-self._agreed.window // SLICES)))
        self.deadline = now + (self._pace_s if end < window_end else self._interval_s)
        return self._emit(end, now)

    def _emit(self, end: int, now: float) -> Actions:
        """Blocks from `sent + 1` to `end`."""
        first, self.sent = self.sent + 1, end
        self.retransmits += max(0, min(end, self._recover) - first + 1)
        self._fresh = max(first, self._recover + 1)
        self._sent_at = now
        return (Send(first, end - first + 1),) if end >= first else ()

    def _window_end(self) -> int:
        end = self.acked + self._agreed.window
        return end if self.last is None else min(end, self.last)

    def _await(self) -> None:
        """Tell `advance` what to look for: only plain going on is its case."""
        more = self.last is not None and self.sent < self.last
        plain = self.heard and self._clean and not self._silences and not self._paced
        self._awaited = wire_number(self.sent, self._agreed.rollover) if plain and more else _NEVER

    def _measure(self, now: float) -> None:
        """`acked` has moved: what does the time it took say about the path?"""
        if self.acked >= self._fresh:
            if now >= self._sample_at:
                self._sample(now)
        elif self._path.smoothed_s and not self._agreed.timeout_asked:
            # What is needed came within a round trip of the last repeat; later, it was on its way before that.
            late = now - self._sent_at > max(4 * self._path.smoothed_s, GUARD_MAX_S)
            if late and not self._early:
                return  # a gap told late: no silence came before it
            self._path.pauses(late, self._agreed.timeout_s)
            calm_s = self._path.calm_s(self._agreed.timeout_s)
            self._interval_s = max(calm_s, min(self._interval_s / 2, calm_s * 2 ** (EARLY_REPEATS - 1)))

    def _sample(self, now: float) -> None:
        """Something was sent once and answered: measure the path."""
        self._path.sample(now - self._sent_at)
        self._sample_at = now + SAMPLE_EVERY_S
        if not self._agreed.timeout_asked:
            self._interval_s = self._path.calm_s(self._agreed.timeout_s)

    def _step(self, block16: int) -> int:
        """How far beyond `acked` an ACK reaches, in blocks."""
        if not self._agreed.rollover or self.acked == 0:
            return (block16 - self.acked) & 0xFFFF
        return (block16 - wire_number(self.acked, self._agreed.rollover)) % 65535 if block16 else _NEVER

    def _end(self, action: Done | Failed) -> Actions:
        self._over = True
        self._awaited = _NEVER
        return (action,)
