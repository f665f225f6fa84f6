"""One write transfer as a pure machine: blocks and the time go in, acknowledgements come out (RFC 1350, 2347, 7440).

Theory of operation. Blocks are counted from 1 without end; only `_wire` and `_ahead` know about 16 bits. Blocks up to
`received` have come in order, `acked` is the last one acknowledged: `acked <= received <= acked + window`. Plain going
on is `took`: so many full blocks in order, and perhaps an ACK, once per window (RFC 7440 section 4). All that disturbs
the order is `stray`. A machine that is held takes a window and acknowledges nothing: the custodian has not answered.

Invariants
- Until the first DATA a requester gets one packet and at most FIRST_REPEATS repeats of it, each no longer than what it
  sent: a forged request cannot be turned into a stream.
- A gap is told once, with the last block in order; the next telling needs progress, or a time-out.
- A duplicate of what was acknowledged is answered once per window, and after ECHOES_MAX windows that all brought
  duplicates not at all: they are then echoes of our own repeats (the Sorcerer's Apprentice of RFC 1123 4.2.3.1 in
  windows), and the time-out is left to mend what is really lost. One datagram never causes two.
- The last block is acknowledged when the file is stored, never before; what comes meanwhile is swallowed.
- Silence ends every transfer, after `give_up_s` or MAX_REPEATS, whichever comes first; so does a silent custodian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from appliance.tftp.actions import ABORTED, NO_ANSWER, TIMED_OUT, Done, Failed, SendError, SendOack
from appliance.tftp.blocks import wire_number
from appliance.tftp.options import Agreed
from appliance.tftp.packet import ErrorCode, Opcode
from appliance.tftp.repeats import FIRST_REPEATS, INTERVAL_MAX_S, LAST_REPEATS, MAX_REPEATS

ECHOES_MAX = 3
ANSWER_S = 60.0  # for the custodian, who may wait for the disk
DALLY_S = 6.0  # tftp-hpa and atftp repeat their last block after 5 s
LOST = "Upload could not be stored"
NO_CUSTODIAN = "the custodian does not answer"
NOTHING = -1
DATA_WORD = Opcode.DATA.value << 16  # the first four bytes of DATA 0 as one number


@dataclass(frozen=True, slots=True)
class SendAck:
    """Send the ACK of `block`, a number of 16 bits."""

    block: int


Action: TypeAlias = SendAck | SendOack | SendError | Done | Failed
Actions: TypeAlias = tuple[Action, ...]


class Receiver:
    """The receiver's side of one transfer. After Done or Failed every event returns () or NOTHING."""

    __slots__ = (
        "_agreed",
        "_doubled",
        "_echoes",
        "_give_up_s",
        "_heard_at",
        "_interval_s",
        "_missed",
        "_over",
        "_repeats",
        "_since",
        "_told",
        "acked",
        "complete",
        "heard",
        "held",
        "received",
        "retransmits",
        "stored",
    )

    def __init__(self, agreed: Agreed, *, give_up_s: float) -> None:
        """`give_up_s`: silence that ends the transfer; at least five times the agreed timeout is given."""
        self._agreed = agreed
        self._give_up_s = max(give_up_s, 5 * agreed.timeout_s)
        self._over = False
        self._told = False  # of the gap before us, or that we have what comes again
        self._doubled = False  # a duplicate came since the last window
        self._missed = False  # a block that was in order came while we were held
        self._echoes = 0
        self._repeats = 0
        self._interval_s = agreed.timeout_s
        self._heard_at = self._since = 0.0
        self.received = self.acked = 0
        self.heard = False  # DATA 1 came from the right port: the address is no forgery
        self.held = False
        self.complete = False  # the last block is here
        self.stored = False
        self.retransmits = 0

    @property
    def room(self) -> int:
        """Blocks that may be taken before something else has to happen."""
        return 0 if self.complete or self._over else self._agreed.window - (self.received - self.acked)

    @property
    def expected(self) -> int:
        """The first four bytes of the next DATA in order, as one number."""
        return DATA_WORD | wire_number(self.received + 1, self._agreed.rollover)

    @property
    def deadline(self) -> float:
        """When `on_timeout` is due."""
        if self.stored:
            return self._since + max(DALLY_S, 2 * self._agreed.timeout_s)
        return self._since + (ANSWER_S if self.held or self.complete else self._interval_s)

    @property
    def budget_spent(self) -> bool:
        """The client was never heard, and gets nothing more for this request."""
        return not self.heard and self._repeats >= FIRST_REPEATS

    @property
    def patience_s(self) -> float:
        """The agreed timeout: a client that is alive is not silent for longer."""
        return self._agreed.timeout_s

    @property
    def silent_since(self) -> float:
        """When the client last made progress (or the transfer began)."""
        return self._heard_at

    def start(self, now: float) -> Actions:
        """The first reply: the OACK, or ACK 0."""
        self._heard_at = now
        return self._offer(now)

    def begin(self, now: float) -> None:
        """DATA 1 is here, and the custodian is being asked for a file: hold what comes."""
        self.heard = True
        self.hold(now)

    def hold(self, now: float) -> None:
        """Acknowledge nothing until `release`."""
        self.held = True
        self._missed = False
        self._since = now

    def release(self, now: float) -> int:
        """The custodian has answered: the number to acknowledge, or NOTHING."""
        self.held = False
        self._since = now
        return self._acknowledge(now) if self._missed else self._window_full(now)

    def took(self, count: int, now: float) -> int:
        """`count` full blocks came in order, at most `room`: the number to acknowledge, or NOTHING."""
        self.received += count
        self._progress(now)
        return NOTHING if self.held else self._window_full(now)

    def end(self, now: float) -> None:
        """The last block, a short one, came in order: nothing is said until `store`."""
        self.received += 1
        self.complete = True
        self._progress(now)

    def store(self, now: float) -> int:
        """The file is stored under its name: the number to acknowledge. From now on only repeats are answered."""
        self.stored = True
        self.held = False
        self._repeats = 0
        self._since = now
        self.acked = self.received
        return wire_number(self.received, self._agreed.rollover)

    def stray(self, block16: int, now: float) -> int:
        """A DATA that is not the next one: the number to acknowledge, or NOTHING."""
        if self._over or not self.heard:
            return NOTHING
        if self.stored:
            return self._again(block16)
        ahead = self._ahead(block16)
        if self.held or self.complete or ahead is None:
            self._missed = self._missed or ahead == 1
            return NOTHING
        if ahead > 0:
            return NOTHING if ahead > self._agreed.window else self._tell(now)
        self._doubled = True
        if self.received > self.acked or self._echoes >= ECHOES_MAX:
            return NOTHING  # it has our ACK, or it only echoes
        self._echoes += not self._told
        return self._tell(now)

    def on_timeout(self, now: float) -> Actions:
        """The time has come to `deadline` (called earlier, nothing happens)."""
        if self._over or now < self.deadline:
            return ()
        if self.stored:
            return self._end(Done())
        if self.held or self.complete:
            return self.abort(ErrorCode.UNDEFINED, LOST, NO_CUSTODIAN)
        self._repeats += 1
        outcome = self._given_up(now)
        if outcome:
            return self._end(Failed(outcome))
        self._interval_s = min(2 * self._interval_s, max(INTERVAL_MAX_S, self._agreed.timeout_s))
        self.retransmits += 1
        if not self.heard:
            return self._offer(now)
        self._told = False
        self._echoes = 0
        return (SendAck(self._acknowledge(now)),)

    def on_error(self) -> Actions:
        """The client gives up."""
        if self._over:
            return ()
        return self._end(Done() if self.stored else Failed(ABORTED))

    def abort(self, code: ErrorCode, text: str, outcome: str) -> Actions:
        """End from our side: the client is told a constant, unless it was told already that its file is stored."""
        if self._over:
            return ()
        return self._end(Done()) if self.stored else (SendError(code, text), *self._end(Failed(outcome)))

    def _given_up(self, now: float) -> str:
        if not self.heard:
            return NO_ANSWER if self._repeats > FIRST_REPEATS else ""
        return TIMED_OUT if self._repeats > MAX_REPEATS or now - self._heard_at >= self._give_up_s else ""

    def _offer(self, now: float) -> Actions:
        self._since = now
        return (SendOack(),) if self._agreed.oack else (SendAck(0),)

    def _progress(self, now: float) -> None:
        self._told = False
        self._repeats = 0
        self._interval_s = self._agreed.timeout_s
        self._heard_at = self._since = now

    def _window_full(self, now: float) -> int:
        if self.received - self.acked < self._agreed.window:
            return NOTHING
        if not self._doubled:
            self._echoes = 0
        self._doubled = False
        return self._acknowledge(now)

    def _acknowledge(self, now: float) -> int:
        self.acked = self.received
        self._since = now
        return wire_number(self.received, self._agreed.rollover)

    def _tell(self, now: float) -> int:
        """Where we stand, out of turn and once: the sender goes on from there."""
        if self._told:
            return NOTHING
        self._told = True
        self.retransmits += 1
        return self._acknowledge(now)

    def _again(self, block16: int) -> int:
        """After the end: the ACK of the last block was lost."""
        if block16 != wire_number(self.received, self._agreed.rollover) or self._repeats >= LAST_REPEATS:
            return NOTHING
        self._repeats += 1
        self.retransmits += 1
        return wire_number(self.received, self._agreed.rollover)

    def _ahead(self, block16: int) -> int | None:
        """How far a block lies beyond `received`, 0 and less for one that came before; None for no number at all."""
        if not self._agreed.rollover:
            return (block16 - self.received + 0x8000) % 0x10000 - 0x8000
        if not block16:
            return None
        return (block16 - self.received + 0x8000) % 65535 - 0x8000

    def _end(self, action: Done | Failed) -> Actions:
        self._over = True
        return (action,)
