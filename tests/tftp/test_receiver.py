"""receiver: the pure machine of a write, event by event, and against a model of the client."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.tftp.actions import ABORTED, NO_ANSWER, TIMED_OUT, Done, Failed, SendError, SendOack
from appliance.tftp.options import Agreed
from appliance.tftp.packet import ErrorCode
from appliance.tftp.receiver import (
    ANSWER_S,
    DALLY_S,
    DATA_WORD,
    ECHOES_MAX,
    LOST,
    NO_CUSTODIAN,
    NOTHING,
    Receiver,
    SendAck,
)
from appliance.tftp.repeats import FIRST_REPEATS, INTERVAL_MAX_S, LAST_REPEATS, MAX_REPEATS

OACK = ((b"windowsize", b"4"),)


def receiver(window: int = 4, *, rollover: int = 0, oack: tuple = OACK, give_up_s: float = 60.0) -> Receiver:
    return Receiver(Agreed(window=window, rollover=rollover, oack=oack, timeout_s=1.0), give_up_s=give_up_s)


def going(window: int = 4, **more) -> Receiver:
    """DATA 1 has come and the custodian has granted a file."""
    made = receiver(window, **more)
    made.start(0.0)
    made.begin(0.0)
    assert made.took(1, 0.0) == NOTHING
    assert made.release(0.0) == (1 if window == 1 else NOTHING)
    return made


def stored(window: int = 4) -> Receiver:
    made = going(window)
    made.end(1.0)
    assert made.store(2.0) == 2
    return made


# -- before the first DATA


def test_the_first_reply_is_the_oack_or_ack_0() -> None:
    assert receiver().start(0.0) == (SendOack(),)
    assert receiver(oack=()).start(0.0) == (SendAck(0),)


@pytest.mark.parametrize("oack", [OACK, ()])
def test_a_requester_never_heard_gets_two_repeats_and_then_nothing(oack: tuple) -> None:
    made = receiver(oack=oack)
    first = made.start(0.0)
    assert made.on_timeout(0.9) == ()
    assert made.on_timeout(1.0) == first
    assert not made.budget_spent
    assert made.on_timeout(2.9) == ()
    assert made.on_timeout(3.0) == first
    assert made.budget_spent
    assert made.on_timeout(7.0) == (Failed(NO_ANSWER),)
    assert made.on_timeout(99.0) == ()
    assert made.retransmits == FIRST_REPEATS


def test_nothing_but_data_1_is_answered_before_the_client_is_known() -> None:
    made = receiver()
    made.start(0.0)
    assert [made.stray(number, 0.1) for number in (0, 2, 5, 40000)] == [NOTHING] * 4


# -- going on


def test_one_ack_for_each_window() -> None:
    made = going(window=4)
    assert (made.room, made.expected) == (3, DATA_WORD | 2)
    assert made.took(2, 1.0) == NOTHING
    assert made.room == 1
    assert made.took(1, 1.0) == 4
    assert made.room == 4
    assert made.took(4, 1.0) == 8


def test_nothing_is_acknowledged_while_the_custodian_has_not_answered() -> None:
    made = receiver(window=2)
    made.start(0.0)
    made.begin(0.0)
    assert made.took(2, 0.0) == NOTHING
    assert made.room == 0
    assert made.stray(1, 0.5) == made.stray(4, 0.5) == NOTHING
    assert made.release(1.0) == 2


def test_a_block_that_was_missed_while_held_is_asked_for_at_once() -> None:
    made = going(window=4)
    made.hold(1.0)
    assert made.stray(2, 1.1) == NOTHING
    assert made.release(1.2) == 1
    made.hold(2.0)
    assert made.release(2.1) == NOTHING


@pytest.mark.parametrize(("rollover", "after"), [(0, 0), (1, 1)])
def test_numbers_roll_over_as_agreed(rollover: int, after: int) -> None:
    made = going(window=1, rollover=rollover)
    made.took(65533, 0.0)
    assert made.took(1, 0.0) == 65535
    assert made.expected == DATA_WORD | after
    assert made.stray(65535, 0.1) == 65535
    assert made.took(1, 0.2) == after
    assert made.stray(65535, 0.3) == after  # of the block before, whose ACK was lost
    assert made.stray(after, 0.3) == NOTHING
    assert made.took(65534 if rollover else 65535, 0.4) == 65535


def test_block_0_is_no_number_where_1_follows_65535() -> None:
    assert going(rollover=1).stray(0, 0.1) == NOTHING


# -- gaps and duplicates


def test_a_gap_is_told_once_and_again_after_progress() -> None:
    made = going(window=4)
    assert made.stray(3, 1.0) == 1
    assert made.stray(4, 1.0) == made.stray(5, 1.0) == NOTHING
    assert made.room == 4  # the sender begins a new window behind it
    assert made.took(1, 1.1) == NOTHING
    assert made.stray(4, 1.2) == 2
    assert made.retransmits == 2


def test_a_block_beyond_the_window_is_nonsense() -> None:
    assert going(window=4).stray(6, 1.0) == NOTHING


def test_a_duplicate_of_what_was_acknowledged_is_answered_once_per_window() -> None:
    made = going(window=1)
    assert made.stray(1, 1.0) == 1
    assert made.stray(1, 1.0) == NOTHING
    assert made.took(1, 1.1) == 2
    assert made.stray(2, 1.2) == 2


def test_a_duplicate_inside_an_unfinished_window_is_ignored() -> None:
    made = going(window=4)
    assert made.stray(1, 1.0) == NOTHING


def test_windows_that_all_bring_duplicates_are_echoes_and_end() -> None:
    made = going(window=1)
    answers = 0
    for number in range(1, 20):
        answers += made.stray(number, 1.0) != NOTHING
        made.took(1, 1.0)
    assert answers == ECHOES_MAX
    made.took(1, 1.0)  # a window without any
    made.took(1, 1.0)
    assert made.stray(22, 1.0) == 22


# -- silence


def test_silence_is_answered_with_the_last_block_at_growing_intervals_and_ends() -> None:
    made = going(window=4, give_up_s=1e9)
    made.took(1, 1.0)
    assert made.stray(4, 1.0) == 2
    now, gaps, actions = 1.0, [], ()
    while not actions or isinstance(actions[0], SendAck):
        gaps.append(made.deadline - now)
        now = made.deadline
        actions = made.on_timeout(now)
        assert actions in ((SendAck(2),), (Failed(TIMED_OUT),))
    assert gaps[:5] == [1, 2, 4, 8, 8]
    assert len(gaps) == MAX_REPEATS + 1
    assert max(gaps) == INTERVAL_MAX_S


def test_silence_is_bounded_in_time_too() -> None:
    made = going(give_up_s=6.0)
    assert made.silent_since == 0.0
    assert made.patience_s == 1.0
    now = 0.0
    while (actions := made.on_timeout(now := made.deadline)) != (Failed(TIMED_OUT),):
        assert actions == (SendAck(1),)
    assert 6.0 <= now <= 14.0


def test_after_silence_a_gap_may_be_told_again() -> None:
    made = going()
    assert made.stray(3, 0.1) == 1
    assert made.on_timeout(1.1) == (SendAck(1),)
    assert made.stray(3, 1.2) == 1


def test_a_silent_custodian_ends_it() -> None:
    for complete in (False, True):
        made = going()
        if complete:
            made.end(1.0)
        else:
            made.hold(1.0)
        assert made.on_timeout(ANSWER_S) == ()
        ended = made.on_timeout(1.0 + ANSWER_S)
        assert ended == (SendError(ErrorCode.UNDEFINED, LOST), Failed(NO_CUSTODIAN))


# -- the end


def test_the_last_block_is_acknowledged_only_when_the_file_is_stored() -> None:
    made = going(window=4)
    made.end(1.0)
    assert made.room == 0
    assert made.stray(2, 1.5) == NOTHING
    assert made.store(2.0) == 2


def test_repeats_of_the_last_block_are_answered_a_few_times() -> None:
    made = stored()
    assert made.stray(1, 2.0) == NOTHING
    answers = [made.stray(2, 2.1) for _ in range(LAST_REPEATS + 3)]
    assert answers == [2] * LAST_REPEATS + [NOTHING] * 3
    assert made.on_timeout(2.0 + DALLY_S - 0.1) == ()
    assert made.on_timeout(2.0 + DALLY_S) == (Done(),)
    assert made.stray(2, 99.0) == NOTHING


def test_what_is_stored_stays_stored_whatever_ends_it() -> None:
    assert stored().on_error() == (Done(),)
    assert stored().abort(ErrorCode.UNDEFINED, "x", "y") == (Done(),)


def test_an_error_or_an_abort_ends_it_once() -> None:
    made = going()
    assert made.on_error() == (Failed(ABORTED),)
    assert made.on_error() == made.abort(ErrorCode.UNDEFINED, "x", "y") == made.on_timeout(99.0) == ()
    assert made.room == 0
    assert going().abort(ErrorCode.DISK_FULL, "x", "y") == (SendError(ErrorCode.DISK_FULL, "x"), Failed("y"))


# -- against a model of the client


class Upload(RuleBasedStateMachine):
    """A sender, and a network that loses, repeats and reorders; the file must come out whole, with bounded traffic."""

    @initialize(window=st.integers(1, 8), last=st.integers(1, 40), rollover=st.integers(0, 1), start=st.integers(0, 1))
    def begin(self, window: int, last: int, rollover: int, start: int) -> None:
        self.window, self.last = window, last + start * 65530
        self.machine = receiver(window, rollover=rollover, give_up_s=1e9)
        self.rollover = rollover
        self.now = 0.0
        self.base = 0
        self.to_server: list[int] = []
        self.to_client: list[int] = []
        self.got = 0
        self.data = self.acks = 0
        self.over = False
        self.silences = 0
        self.machine.start(0.0)
        self.machine.begin(0.0)
        self.machine.release(0.0)
        if start and last:
            self.skip(65530)
        self.window_again()

    def skip(self, blocks: int) -> None:
        self.machine.took(blocks, self.now)
        self.got = self.base = blocks

    def wire(self, block: int) -> int:
        return block & 0xFFFF if not self.rollover or not block else (block - 1) % 65535 + 1

    def window_again(self) -> None:
        for block in range(self.base + 1, min(self.base + self.window, self.last) + 1):
            self.data += 1
            self.to_server.append(block)

    def say(self, number: int) -> None:
        if number != NOTHING:
            self.acks += 1
            self.to_client.append(number)

    @precondition(lambda self: self.to_server)
    @rule(pick=st.integers(0, 1000), keep=st.booleans(), far=st.booleans())
    def deliver_data(self, pick: int, keep: bool, far: bool) -> None:
        at = pick % len(self.to_server) if far else 0
        block = self.to_server[at] if keep else self.to_server.pop(at)
        if keep and len(self.to_server) > 200:
            return
        if DATA_WORD | self.wire(block) == self.machine.expected and self.machine.room and block == self.got + 1:
            self.got += 1
            self.silences = 0
            if block == self.last:
                self.machine.end(self.now)
                self.say(self.machine.store(self.now))
            else:
                self.say(self.machine.took(1, self.now))
        else:
            self.say(self.machine.stray(self.wire(block), self.now))

    @precondition(lambda self: self.to_server)
    @rule(pick=st.integers(0, 1000))
    def lose_data(self, pick: int) -> None:
        self.to_server.pop(pick % len(self.to_server))

    @precondition(lambda self: self.to_client)
    @rule(lose=st.booleans(), keep=st.booleans())
    def deliver_ack(self, lose: bool, keep: bool) -> None:
        number = self.to_client[0] if keep else self.to_client.pop(0)
        if keep and len(self.to_client) > 20:
            return
        if lose:
            return
        reached = range(self.base, min(self.base + self.window, self.last) + 1)
        block = next((block for block in reached if self.wire(block) == number), None)
        if block is None or (block == self.base and self.window == 1):
            return
        self.base = block
        if not self.over:
            self.over = block == self.last
            self.window_again()

    @rule()
    def client_timeout(self) -> None:
        if not self.to_server and not self.over:
            self.window_again()

    @rule()
    def server_timeout(self) -> None:
        if not self.machine.stored and self.silences < MAX_REPEATS:
            self.silences += 1
            self.now = self.machine.deadline
            for action in self.machine.on_timeout(self.now):
                if isinstance(action, SendAck):
                    self.say(action.block)

    @invariant()
    def it_never_claims_more_than_it_has(self) -> None:
        if hasattr(self, "machine"):
            assert self.machine.acked <= self.machine.received == self.got <= self.last
            assert self.machine.received - self.machine.acked <= self.window
            assert self.base <= self.got

    def teardown(self) -> None:
        """From wherever it is, a network that loses nothing more brings the file to its end."""
        if not hasattr(self, "machine"):
            return
        for _ in range(3000):
            if self.over or (self.machine.stored and not self.to_client and not self.to_server):
                break
            if self.to_server:
                self.deliver_data(0, False, False)
            elif self.to_client:
                self.deliver_ack(False, False)
            else:
                self.client_timeout()
                self.server_timeout()
        assert self.got == self.last
        assert self.machine.stored


Upload.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestUpload = Upload.TestCase


@given(window=st.integers(1, 8), events=st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=60))
def test_one_datagram_never_causes_two(window: int, events: list[tuple[int, bool]]) -> None:
    made = going(window)
    acks = 0
    for number, _again in events:
        if made.expected == DATA_WORD | number and made.room:
            acks += made.took(1, 0.0) != NOTHING
        else:
            acks += made.stray(number, 0.0) != NOTHING
    assert acks <= len(events)
    assert made.retransmits <= len(events)
