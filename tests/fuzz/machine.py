"""A hypothesis state machine: our sending session against a model client, over a path that does what paths do."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.tftp.actions import NO_ANSWER, TIMED_OUT, UNCONFIRMED, Actions, Done, Failed, Send, SendOack
from appliance.tftp.options import Agreed
from appliance.tftp.session import Session
from tests.tftp.test_session import OPTION, Receiver

_IN_FLIGHT_MAX = 200
_TURNS_MAX = 5000


class SessionMachine(RuleBasedStateMachine):
    """Packets wait on the path until a rule delivers, loses or repeats one of them, in any order.

    `data`: blocks under way to the client, 0 is the OACK. `acks`: under way to us.
    """

    def __init__(self) -> None:
        super().__init__()
        self.data: list[int] = []
        self.acks: list[int] = []
        self.now = 100.0
        self.forged = False
        self.outcome: Done | Failed | None = None

    @initialize(
        last=st.integers(1, 80), window=st.integers(1, 16), rollover=st.sampled_from((0, 1)), offers=st.booleans()
    )
    def start(self, last: int, window: int, rollover: int, offers: bool) -> None:
        self.window = window if offers else 1
        agreed = Agreed(8, self.window, 1.0, rollover, OPTION if offers else ())
        self.session = Session(agreed, last=last, empty=False, give_up_s=1e9)
        self.client = Receiver(self.window, last)
        self._do(self.session.start(self.now))

    def _do(self, actions: Actions) -> None:
        assert self.outcome is None or not actions
        for action in actions:
            if isinstance(action, Send):
                assert self.session.acked < action.first
                assert action.first + action.count - 1 <= self.session.sent
                self.data += range(action.first, action.first + action.count)
            elif isinstance(action, SendOack):
                self.data.append(0)
            elif isinstance(action, Done | Failed):
                self.outcome = action
        del self.data[:-_IN_FLIGHT_MAX]

    def _arrives(self, block: int) -> None:
        answer = 0 if not block else self.client.data(block)
        if answer is not None:
            self.acks.append(answer)

    @precondition(lambda self: self.data)
    @rule(at=st.integers(0, 1 << 16), again=st.booleans())
    def a_packet_arrives(self, at: int, again: bool) -> None:
        block = self.data[at % len(self.data)] if again else self.data.pop(at % len(self.data))
        self._arrives(block)

    @precondition(lambda self: self.data)
    @rule()
    def everything_arrives_in_order(self) -> None:
        packets, self.data = self.data, []
        for block in packets:
            self._arrives(block)

    @precondition(lambda self: self.data)
    @rule(at=st.integers(0, 1 << 16))
    def a_packet_is_lost(self, at: int) -> None:
        self.data.pop(at % len(self.data))

    @precondition(lambda self: self.acks)
    @rule(at=st.integers(0, 1 << 16), again=st.booleans(), after=st.sampled_from((0.0, 0.0005, 0.02)))
    def an_ack_comes(self, at: int, again: bool, after: float) -> None:
        self.now += after
        block = self.acks[at % len(self.acks)] if again else self.acks.pop(at % len(self.acks))
        count = self.session.advance(block, self.now)
        if count:
            self.data += range(self.session.acked + 1, self.session.acked + 1 + count)
        else:
            self._do(self.session.on_ack(block, self.now))

    @precondition(lambda self: self.acks)
    @rule(at=st.integers(0, 1 << 16))
    def an_ack_is_lost(self, at: int) -> None:
        self.acks.pop(at % len(self.acks))

    @rule(block=st.integers(0, 65535))
    def a_stranger_who_forges_the_address_sends_an_ack(self, block: int) -> None:
        self.forged = self.forged or 0 < (block - self.session.acked) & 0xFFFF <= self.window or not block
        self._do(self.session.on_ack(block, self.now))

    @rule()
    def our_timer_rings(self) -> None:
        self.now = max(self.now, self.session.deadline)
        self._do(self.session.on_timeout(self.now))

    @rule()
    def the_clients_timer_rings(self) -> None:
        if self.client.got:
            self.client.told = False
            self.acks.append(self.client.got)

    @invariant()
    def what_is_under_way_is_one_window_at_most(self) -> None:
        session = self.session
        assert 0 <= session.acked <= session.sent <= session.acked + self.window
        assert session.last is not None and session.sent <= session.last

    @invariant()
    def nothing_is_taken_for_arrived_that_is_not(self) -> None:
        assert self.forged or self.session.acked <= self.client.got

    @invariant()
    def it_is_done_only_when_the_client_has_everything(self) -> None:
        if self.outcome == Done() and not self.forged:
            assert self.client.got == self.client.last

    def teardown(self) -> None:
        """On a good path from here on, the client gets everything."""
        if not hasattr(self, "session") or self.forged:
            return
        for _ in range(_TURNS_MAX):
            if self.outcome is not None:
                break
            packets, self.data = self.data, []
            for block in packets:
                self._arrives(block)
            answers, self.acks = self.acks, []
            for answer in answers:
                self.now += 0.001
                self._do(self.session.on_ack(answer, self.now))
            if not self.data and not self.acks:
                self.client.told = False
                self.our_timer_rings()
        if isinstance(self.outcome, Failed):
            assert self.outcome.outcome in (NO_ANSWER, UNCONFIRMED, TIMED_OUT)
        else:
            assert self.outcome == Done() and self.client.got == self.client.last
