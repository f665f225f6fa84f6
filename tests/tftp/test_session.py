"""session.Session: each rule by itself, then against a model client on a path that loses, repeats and reorders."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.tftp.options import Agreed
from appliance.tftp.packet import ErrorCode
from appliance.tftp.session import (
    ABORTED,
    FIRST_REPEATS,
    LAST_REPEATS,
    MAX_REPEATS,
    MAX_RESTARTS,
    NO_ANSWER,
    PROBE,
    TIMED_OUT,
    UNCONFIRMED,
    Done,
    Failed,
    Send,
    SendError,
    SendOack,
    Session,
)

OPTION = ((b"tsize", b"1"),)


def session(last: int | None = 10, *, window: int = 1, oack: bool = False, rollover: int = 0, **more) -> Session:
    options = {"empty": False, "give_up_s": 60.0, "timeout_s": 1.0, **more}
    agreed = Agreed(512, window, options.pop("timeout_s"), rollover, OPTION if oack or window > 1 else ())
    return Session(agreed, last=last, **options)


def accepted(last: int | None = 100, *, window: int = 4, **more) -> Session:
    """A session whose OACK was acknowledged at once: the first window is out, and the round trip is 0."""
    made = session(last, window=window, oack=True, **more)
    made.start(0)
    made.on_ack(0, 0)
    return made


# -- the first reply


def test_without_options_block_1_is_the_first_reply() -> None:
    assert session().start(5) == (Send(1, 1),)


def test_with_options_the_oack_is_the_first_reply_and_ack_0_opens_the_window() -> None:
    made = session(window=4)
    assert made.start(0) == (SendOack(),)
    assert made.on_ack(1, 0) == ()
    assert not made.heard
    assert made.on_ack(0, 0) == (Send(1, 4),)
    assert made.heard


@pytest.mark.parametrize("oack", [False, True])
def test_a_requester_never_heard_gets_one_reply_and_two_repeats(oack: bool) -> None:
    made = session(oack=oack)
    sent = len(made.start(0))
    times, actions = [], ()
    while not any(isinstance(action, Failed) for action in actions):
        times.append(made.deadline)
        actions = made.on_timeout(made.deadline)
        sent += sum(isinstance(action, Send | SendOack) for action in actions)
    assert sent == 1 + FIRST_REPEATS
    assert times == [1, 3, 7]
    assert actions == (Failed(NO_ANSWER),)
    assert made.budget_spent


def test_the_first_window_waits_for_the_first_ack_whatever_happens() -> None:
    made = session(window=64)
    made.start(0)
    for block in (1, 2, 63, 64, 65535):
        assert made.on_ack(block, 0) == ()


# -- lock step


def test_each_ack_brings_the_next_block_until_the_last() -> None:
    made = session(3)
    made.start(0)
    assert made.on_ack(1, 0) == (Send(2, 1),)
    assert made.on_ack(2, 0) == (Send(3, 1),)
    assert made.awaiting_last
    assert made.on_ack(3, 0) == (Done(),)
    assert made.retransmits == 0


def test_a_repeated_ack_in_lock_step_sends_nothing() -> None:
    made = session()
    made.start(0)
    made.on_ack(1, 0)
    assert made.on_ack(1, 0) == made.on_ack(1, 0) == made.on_ack(0, 0) == ()


def test_an_ack_beyond_the_window_is_ignored() -> None:
    made = accepted(window=4)
    for block in (5, 6, 100, 65535):
        assert made.on_ack(block, 0) == ()
    assert made.acked == 0


def test_after_the_end_every_event_is_ignored() -> None:
    made = session(1)
    made.start(0)
    assert made.on_ack(1, 0) == (Done(),)
    assert made.on_ack(1, 0) == made.on_error(0) == made.on_timeout(99) == ()
    assert made.abort(ErrorCode.UNDEFINED, "x", "x") == ()


# -- windows (RFC 7440)


def test_an_ack_inside_the_window_restarts_it_there() -> None:
    made = accepted(window=4)
    assert made.on_ack(2, 1) == (Send(3, 4),)
    assert made.retransmits == 2


def test_the_ack_before_the_window_restarts_it_whole() -> None:
    made = accepted(window=4)
    made.on_ack(4, 1)
    assert made.on_ack(4, 2) == (Send(5, 4),)


def test_the_last_window_is_as_short_as_the_file() -> None:
    made = accepted(6, window=4)
    assert made.on_ack(4, 1) == (Send(5, 2),)
    assert made.on_ack(6, 2) == (Done(),)


def test_restarts_without_progress_are_bounded() -> None:
    made = accepted(window=4)
    made.on_ack(4, 1)
    answers = [made.on_ack(4, 2 + n) for n in range(3 * MAX_RESTARTS)]
    assert 1 < sum(bool(answer) for answer in answers) <= MAX_RESTARTS
    assert made.on_timeout(made.deadline) == (Send(5, 4),)
    assert made.on_ack(4, made.deadline - 0.5) == ()


def test_a_duplicate_of_the_last_ack_restarts_nothing_unless_silence_follows() -> None:
    made = session(100, window=4)
    made.start(0)
    made.on_ack(0, 0.01)  # the round trip is 10 ms
    made.on_ack(4, 0.02)
    assert made.on_ack(4, 0.021) == ()
    assert made.deadline == pytest.approx(0.041)
    assert made.on_timeout(0.042) == (Send(5, 4),)
    assert made.deadline == pytest.approx(1.042)


def test_a_restarted_window_that_arrives_whole_ends_the_doubt() -> None:
    made = accepted(window=4)
    assert made.on_ack(2, 1.0) == (Send(3, 4),)
    assert made.advance(6, 1.1) == 4
    assert (made.acked, made.sent) == (6, 10)
    assert [made.on_ack(block, 1.2) for block in (7, 8, 9)] == [(Send(8, 4),), (Send(9, 4),), (Send(10, 4),)]


def test_after_three_doubtful_restarts_the_window_slides() -> None:
    made = accepted(window=8)
    answers = [made.on_ack(block, 1.0) for block in range(1, 7)]
    assert answers[:4] == [(Send(2, 8),), (Send(3, 8),), (Send(4, 8),), (Send(5, 8),)]
    assert answers[4:] == [(Send(13, 1),), (Send(14, 1),)]


def test_a_slide_at_the_end_of_the_file_has_nothing_to_send() -> None:
    made = accepted(8, window=8)
    for block in range(1, 5):
        made.on_ack(block, 1.0)
    assert made.on_ack(5, 1.0) == ()
    assert made.on_timeout(made.deadline) == (Send(6, 3),)


def test_a_receiver_that_acknowledges_every_block_gets_no_more_than_twice_the_file() -> None:
    made = session(100, window=8)
    made.start(0)
    sends = list(made.on_ack(0, 0.01))
    now, blocks = 0.01, 0
    queue = []
    while sends or queue:
        for send in sends:
            assert isinstance(send, Send)
            blocks += send.count
            queue += [(now + 0.01 + 0.0001 * n, send.first + n) for n in range(send.count)]
        queue.sort()
        now, block = queue.pop(0)
        sends = [action for action in made.on_ack(block, now) if isinstance(action, Send)]
    assert made.acked == 100
    assert blocks <= 200


# -- silence


def test_the_interval_doubles_up_to_eight_seconds() -> None:
    made = accepted(window=4)
    waits = []
    for _ in range(5):
        before = made.deadline
        made.on_timeout(before)
        waits.append(made.deadline - before)
    assert waits == [2, 4, 8, 8, 8]


def test_progress_resets_the_interval() -> None:
    made = accepted(window=4)
    made.on_timeout(1)
    made.on_ack(4, 2)
    assert made.deadline == 3


def test_the_agreed_timeout_is_honoured_and_never_undercut() -> None:
    made = accepted(window=1, timeout_s=20.0)
    assert made.deadline == 20
    made.on_timeout(20)
    assert made.deadline == 40
    assert made.patience_s == 20


@pytest.mark.parametrize(("give_up_s", "timeout_s", "expected"), [(60.0, 1.0, 60.0), (1.0, 1.0, 5.0)])
def test_silence_ends_the_transfer_in_time(give_up_s: float, timeout_s: float, expected: float) -> None:
    made = accepted(window=4, give_up_s=give_up_s, timeout_s=timeout_s)
    actions: tuple = ()
    while not actions or isinstance(actions[0], Send):
        now = made.deadline
        actions = made.on_timeout(now)
    assert actions == (Failed(TIMED_OUT),)
    assert expected <= now <= expected + 8


def test_silence_ends_the_transfer_in_count() -> None:
    made = accepted(window=4, give_up_s=1e9)
    repeats = 0
    while isinstance(made.on_timeout(made.deadline)[0], Send):
        repeats += 1
    assert repeats == MAX_REPEATS


def test_the_last_block_alone_is_repeated_less_often() -> None:
    made = session(2)
    made.start(0)
    made.on_ack(1, 0)
    repeats = 0
    while (actions := made.on_timeout(made.deadline)) == (Send(2, 1),):
        repeats += 1
    assert repeats == LAST_REPEATS
    assert actions == (Failed(UNCONFIRMED),)


def test_a_timer_that_rings_early_does_nothing() -> None:
    made = accepted()
    assert made.on_timeout(0.999) == ()


# -- clients with habits


def test_an_error_after_the_oack_is_a_probe() -> None:  # EDK2
    for code in (0, 8):
        made = session(window=4)
        made.start(0)
        assert made.on_error(code) == (Done(PROBE),)


def test_an_error_later_or_of_another_kind_is_an_abort() -> None:
    made = session(window=4)
    made.start(0)
    assert made.on_error(4) == (Failed(ABORTED),)
    later = accepted()
    later.on_ack(4, 1)
    assert later.on_error(8) == (Failed(ABORTED),)


def test_the_empty_file_is_done_when_ack_0_comes_again() -> None:  # iPXE
    made = accepted(1, window=1, empty=True)
    assert made.on_ack(0, 0.1) == ()
    assert made.on_timeout(made.deadline) == (Done(),)


def test_the_empty_file_is_done_by_ack_1_too() -> None:
    made = accepted(1, window=1, empty=True)
    made.on_ack(0, 0.1)
    assert made.on_ack(1, 0.2) == (Done(),)


def test_ack_0_says_nothing_about_an_empty_file_without_options() -> None:
    made = session(1, empty=True)
    made.start(0)
    made.on_ack(0, 0)
    assert made.on_timeout(1) == (Send(1, 1),)


def test_our_own_end_tells_the_client_a_constant() -> None:
    made = accepted()
    assert made.abort(ErrorCode.DISK_FULL, "text", "cause") == (SendError(ErrorCode.DISK_FULL, "text"), Failed("cause"))


def test_a_file_of_unknown_length_ends_where_it_ends() -> None:
    made = accepted(None, window=4)
    assert made.advance(4, 0) == 0  # not its case: nobody knows what comes
    assert made.on_ack(4, 0.5) == (Send(5, 4),)
    assert made.silent_since == 0.5
    assert not made.awaiting_last
    made.end_at(6)
    assert made.on_ack(7, 0) == ()
    assert made.on_ack(6, 0) == (Done(),)


# -- beyond block 65535


@pytest.mark.parametrize(("rollover", "numbers"), [(0, [65534, 65535, 0, 1, 2]), (1, [65534, 65535, 1, 2, 3])])
def test_block_numbers_roll_over_as_agreed(rollover: int, numbers: list[int]) -> None:
    made = accepted(70000, window=1, rollover=rollover)
    for block in range(1, 65534):
        assert made.advance(block, 0) or made.on_ack(block, 0)
    for count, number in enumerate(numbers):
        assert made.on_ack((number + 7) & 0xFFFF, 0) == ()
        assert made.on_ack(number, 0) == (Send(65535 + count, 1),)


def test_block_number_0_never_comes_where_1_follows_65535() -> None:
    made = accepted(70000, window=1, rollover=1)
    for block in range(1, 65536):
        made.on_ack(block, 0)
    assert made.acked == 65535
    assert made.on_ack(0, 0) == ()
    assert made.on_ack(65535, 0) == ()  # the old one again


# -- the fast path, and the whole against a model


STATE = [name for name in Session.__slots__ if name != "_agreed"]


@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.sampled_from([0, 1]),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(["full", "any", "timeout"]), st.integers(0, 45), st.floats(0, 2)), max_size=40),
)
def test_the_fast_path_does_exactly_what_on_ack_does(last, window, rollover, oack, events) -> None:
    options = OPTION if oack or window > 1 else ()
    pair = [Session(Agreed(8, window, 1.0, rollover, options), last=last, empty=False, give_up_s=9) for _ in range(2)]
    quick, plain = pair
    assert quick.start(0) == plain.start(0)
    now = 0.0
    for kind, number, elapsed in events:
        now += elapsed
        if kind == "timeout":
            assert quick.on_timeout(now) == plain.on_timeout(now)
            continue
        block = plain.sent if kind == "full" else number
        count = quick.advance(block, now)
        expected = plain.on_ack(block, now)
        if count:
            assert expected == (Send(quick.acked + 1, count),)
        else:
            assert quick.on_ack(block, now) == expected
        assert [getattr(quick, name) for name in STATE] == [getattr(plain, name) for name in STATE]


class Receiver:
    """RFC 7440's receiver: takes blocks in order, acknowledges full windows, the end, and the first sign of a gap."""

    def __init__(self, window: int, last: int) -> None:
        self.window, self.last, self.got, self.in_window, self.told = window, last, 0, 0, False
        self.accepted = False

    def data(self, block: int) -> int | None:
        if block != self.got + 1:
            if self.told and self.window > 1:
                return None
            self.told, self.in_window = True, 0
            return self.got
        self.got, self.told = block, False
        self.in_window += 1
        if self.in_window == self.window or self.got == self.last:
            self.in_window = 0
            return self.got
        return None


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 60), st.integers(1, 12), st.sampled_from([0, 1]))
def test_every_block_arrives_over_a_path_that_loses_repeats_and_reorders(data, last, window, rollover) -> None:
    made = Session(Agreed(8, window, 1.0, rollover, OPTION), last=last, empty=False, give_up_s=1e9)
    receiver, now, sent, retries = Receiver(window, last), 0.0, 0, 0
    fate = data.draw(st.lists(st.sampled_from(["pass", "pass", "pass", "lose", "twice", "late"]), max_size=200))

    def travel(packets: list) -> list:
        arrived: list = []
        for packet in packets:
            what = fate.pop() if fate else "pass"
            if what == "lose":
                continue
            arrived.append(packet)
            if what == "twice":
                arrived.append(packet)
            if what == "late" and len(arrived) > 1:
                arrived[-1], arrived[-2] = arrived[-2], arrived[-1]
        return arrived

    actions = made.start(now)
    for _ in range(3000):
        packets: list = []
        for action in actions:
            if isinstance(action, Send):
                packets += range(action.first, action.first + action.count)
                sent += action.count
            elif isinstance(action, SendOack):
                packets.append("oack")
        answers: list = []
        for packet in travel(packets):
            answer = 0 if packet == "oack" else receiver.data(packet)
            if answer is not None:
                answers.append(answer)
        actions = ()
        for answer in travel(answers):
            now += 0.001
            more = made.on_ack(answer, now)
            for action in more:
                if isinstance(action, Send):
                    assert made.acked < action.first
                    assert action.first + action.count - 1 == made.sent <= min(last, made.acked + window)
            actions += more
        if receiver.got == last and any(isinstance(action, Done) for action in actions):
            break
        if not any(isinstance(action, Send | SendOack) for action in actions):
            now = max(now, made.deadline)
            receiver.told = False  # its own timer rang too
            actions = made.on_timeout(now)
            if actions and isinstance(actions[0], Failed):
                # only while nobody was heard, or with nothing but the last ACK missing, may it give up here
                assert actions[0].outcome in (NO_ANSWER, UNCONFIRMED)
                return
            retries += 1
    assert receiver.got == last
    assert sent <= (last + window) * (2 + retries) + 200 * window


# -- a Send that left late, because a rate held it back


def test_a_window_that_left_late_is_waited_for_from_when_it_left() -> None:
    made = accepted(give_up_s=5.0)
    assert made.on_ack(4, 1.0) == (Send(5, 4),)
    made.delayed(30.0)
    assert made.deadline == 32.0 and made.silent_since == 31.0
    assert made.on_timeout(31.9) == ()
    assert made.on_timeout(32.0) == (Send(5, 4),)  # a repeat, not the end: the client was silent for one second only
    assert made.on_timeout(made.deadline) == (Send(5, 4),)
    made = accepted()
    made.on_ack(4, 1.0)
    made.delayed(30.0)
    assert made.on_ack(8, 31.1) == (Send(9, 4),)
    assert made.deadline == pytest.approx(32.1)
