"""session.Session: each rule by itself, then against a model client on a path that loses, repeats and reorders."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.tftp.actions import (
    ABORTED,
    NO_ANSWER,
    PROBE,
    TIMED_OUT,
    UNCONFIRMED,
    Done,
    Failed,
    Send,
    SendError,
    SendOack,
)
from appliance.tftp.options import Agreed
from appliance.tftp.packet import ErrorCode
from appliance.tftp.repeats import FIRST_REPEATS, INTERVAL_MAX_S, LAST_REPEATS, MAX_REPEATS
from appliance.tftp.roundtrip import EARLIEST_S, RoundTrip
from appliance.tftp.session import (
    EARLY_REPEATS,
    MAX_RESTARTS,
    PACE_MAX_S,
    PACE_S,
    SILENCES_MAX,
    SLICE,
    Session,
)

OPTION = ((b"tsize", b"1"),)


def session(last: int | None = 10, *, window: int = 1, oack: bool = False, rollover: int = 0, **more) -> Session:
    options = {"empty": False, "give_up_s": 60.0, "timeout_s": 1.0, "asked": True, **more}
    oack_options = OPTION if oack or window > 1 else ()
    agreed = Agreed(512, window, options.pop("timeout_s"), rollover, oack_options, options.pop("asked"))
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
    assert made.advance(6, 1.1) == 0  # only what was sent once is its case
    assert made.on_ack(6, 1.1) == (Send(7, 4),)
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


# -- the measured path


def measured(last: int | None = 1000, *, window: int = 4, rtt: float = 0.01, **more) -> Session:
    """A session that chose its own timeout: the OACK was acknowledged after `rtt`, and the first window is out."""
    made = session(last, window=window, oack=True, asked=False, **more)
    made.start(-rtt)
    made.on_ack(0, 0)
    return made


def silences(made: Session, count: int) -> list[float]:
    """How long each of the next `count` intervals is."""
    waits = []
    for _ in range(count):
        before = made.deadline
        assert made.on_timeout(before)
        while made.deadline - before < EARLIEST_S / 2:  # the slices of one window
            assert made.on_timeout(made.deadline)
        waits.append(made.deadline - before)
    return waits


def test_the_first_repeat_waits_for_the_round_trip_and_four_times_its_deviation() -> None:
    made = measured(rtt=0.1)
    assert made.deadline == pytest.approx(0.1 + 4 * 0.05)
    made.on_ack(4, 0.2)  # RFC 6298: the deviation is now 3/4 of 0.05 and a quarter of 0.1, the round trip 7/8 and 1/8
    assert made.deadline - 0.2 == pytest.approx(0.1125 + 4 * 0.0625)
    assert made.measured_s == pytest.approx(0.3625)


def test_a_fast_path_still_gets_the_least_time() -> None:
    made = measured(rtt=0.0001)
    assert made.deadline == pytest.approx(0.0001 + EARLIEST_S)


def test_the_configured_timeout_is_the_longest_first_interval() -> None:
    assert measured(rtt=0.9).deadline == 1.0
    assert measured(rtt=0.01, timeout_s=0.01).deadline == 0.01


def test_a_client_that_asked_for_a_timeout_is_never_repeated_to_earlier() -> None:
    made = accepted(window=4, timeout_s=3.0)
    for now in (0.001, 0.002, 0.003):
        made.on_ack(made.sent, now)
        assert made.deadline == now + 3
    assert made.on_ack(made.sent - 1, 0.004)
    assert made.deadline == pytest.approx(3.004)
    assert silences(made, 3) == pytest.approx([6, 8, 8])


def test_early_repeats_are_few_and_then_it_waits_for_the_clients_own_timer() -> None:
    made = measured(rtt=0.001)
    first = made.deadline
    waits = silences(made, EARLY_REPEATS + 3)
    assert waits == [*(pytest.approx(first * 2**n) for n in range(1, EARLY_REPEATS + 1)), 2, 4, 8]


def test_early_repeats_do_not_shorten_the_patience_with_a_silent_client() -> None:
    made = measured(give_up_s=1e9)
    assert silences(made, EARLY_REPEATS + MAX_REPEATS)
    assert made.on_timeout(made.deadline) == (Failed(TIMED_OUT),)


def test_without_options_the_first_block_waits_for_the_configured_timeout() -> None:
    made = session(asked=False)
    made.start(0)
    assert made.deadline == 1
    made.on_ack(1, 0.001)
    assert made.deadline == pytest.approx(0.001 + 0.001 + EARLIEST_S)


def test_what_was_sent_twice_measures_nothing() -> None:  # Karn
    made = measured(window=4, rtt=0.01)
    before = made.measured_s
    now = made.deadline
    made.on_timeout(now)
    made.on_ack(4, now + 0.001)
    assert made.measured_s == before
    made.on_ack(8, now + 0.002)
    assert made.measured_s != before


def test_a_doubled_interval_stays_until_something_sent_once_was_measured() -> None:
    made = measured(window=1, rtt=0.001)
    calm = made.deadline
    silences(made, 3)
    now = made.deadline - 8 * calm + 0.001
    made.on_ack(1, now)
    assert made.deadline - now == pytest.approx(4 * calm)  # no less than half of it for what cannot be measured
    made.on_ack(2, now + 0.001)
    assert made.deadline - now - 0.001 == pytest.approx(calm)


def test_after_a_long_silence_the_interval_is_soon_that_of_the_path_again() -> None:
    made = measured(window=1, rtt=0.001, timeout_s=30.0)
    calm = made.deadline
    silences(made, EARLY_REPEATS + 2)
    made.on_ack(1, made._sent_at + 0.001)
    assert made.deadline - made._heard_at == pytest.approx(8 * calm)


def test_a_restart_that_is_answered_late_changes_no_interval() -> None:
    made = measured(window=16, rtt=0.001)
    interval = made.deadline
    made.on_ack(8, 0.001)
    made.on_ack(12, 0.02)
    assert made.deadline - 0.02 == pytest.approx(interval)


def test_a_gap_that_is_told_at_once_halves_a_doubled_interval_too() -> None:
    made = measured(window=16, rtt=0.001)
    calm = made.deadline
    silences(made, 2)
    now = made.deadline - 4 * calm + 0.001
    made.on_ack(3, now)
    assert made.deadline - now == pytest.approx(2 * calm)


def test_a_client_that_pauses_again_and_again_is_repeated_to_less_and_less() -> None:  # it writes to flash
    made, now = measured(100_000, window=16, rtt=0.001), 0.0
    repeats = []
    for _ in range(12):
        for _ in range(5):
            now += 0.001
            made.on_ack(made.sent & 0xFFFF, now)
        now, before = now + 0.3, made.retransmits
        while made.deadline < now:
            made.on_timeout(made.deadline)
        repeats.append((made.retransmits - before) / 16)
        made.on_ack(made.sent & 0xFFFF, now)
    assert repeats[0] == 3
    assert repeats[-1] <= 1


def test_after_a_repeat_two_acks_are_expected_and_the_second_sends_nothing() -> None:
    made = measured(window=4, rtt=0.001)
    made.on_timeout(made.deadline)
    assert made.on_ack(4, 0.05) == (Send(5, 4),)
    assert made.on_ack(4, 0.055) == ()
    assert made.on_ack(4, 0.058) == (Send(5, 4),)  # the third can only be a gap


def test_the_remembered_interval_moves_the_first_repeat_and_brings_none() -> None:
    made = session(oack=True, asked=False, interval_s=0.05)
    made.start(0)
    times, sent = [], 1
    while (actions := made.on_timeout(made.deadline)) == (SendOack(),):
        times.append(made._sent_at)
        sent += 1
    assert times == pytest.approx([0.05, 1.05])
    assert actions == (Failed(NO_ANSWER),)
    assert sent == 1 + FIRST_REPEATS


@pytest.mark.parametrize("remembered", [0.0, 0.05])
@pytest.mark.parametrize("timeout_s", [0.5, 1.0, 6.0])
def test_a_client_heard_before_was_given_up_after_3_s_when_a_stranger_had_7(
    remembered: float, timeout_s: float
) -> None:
    made = session(oack=True, asked=False, interval_s=remembered, timeout_s=timeout_s, window=4)
    made.start(100)
    while not made.budget_spent:
        made.on_timeout(made.deadline)
    waited = {0.5: 3.5, 1.0: 7.0, 6.0: 22.0}[timeout_s]  # the last doubling stops at INTERVAL_MAX_S
    assert made.deadline == pytest.approx(100 + waited)
    assert made.on_ack(0, made.deadline - 0.01) == (Send(1, 4),)
    assert made.deadline <= 100 + waited + timeout_s, "heard, it is repeated to as soon as anybody"


@pytest.mark.parametrize(("remembered", "asked", "first"), [(5.0, False, 1.0), (0.05, True, 1.0), (0.05, False, 0.05)])
def test_the_remembered_interval_is_never_longer_than_the_configured_nor_than_asked(
    remembered: float, asked: bool, first: float
) -> None:
    made = session(oack=True, asked=asked, interval_s=remembered)
    made.start(0)
    assert made.deadline == first


def test_the_lost_last_block_comes_again_within_an_instant() -> None:
    made = measured(2, window=1, rtt=0.001)
    made.on_ack(1, 0.001)
    assert made.awaiting_last
    assert made.on_timeout(0.001 + 0.002 + EARLIEST_S) == (Send(2, 1),)


def test_losses_are_counted_when_they_are_mended() -> None:
    made = measured(window=4)
    made.on_timeout(made.deadline)
    assert made.setbacks == 0  # it may just be gone
    made.on_ack(2, 0.2)
    assert made.setbacks == 1
    made.on_ack(6, 0.3)
    assert made.setbacks == 2


def test_the_empty_file_waits_the_configured_timeout_for_its_ack() -> None:
    made = measured(1, window=1, empty=True)
    made.on_ack(0, 0.01)
    made.on_ack(0, 0.02)
    assert made.deadline == pytest.approx(1.01)
    assert made.on_timeout(1.01) == (Done(),)


# -- slices


def test_a_window_that_is_repeated_leaves_in_slices() -> None:
    made = measured(window=20, rtt=0.001)
    now = made.deadline
    assert made.on_timeout(now) == (Send(1, SLICE),)
    assert made.deadline == pytest.approx(now + PACE_S)
    assert made.on_timeout(now + PACE_S) == (Send(9, SLICE),)
    assert made.on_timeout(made.deadline) == (Send(17, 4),)
    assert made.retransmits == 20
    assert made.deadline - now > EARLIEST_S


def test_slices_are_never_further_apart_than_20_ms() -> None:
    made = accepted(window=64, timeout_s=255.0)
    made.on_timeout(made.deadline)
    assert made.deadline == pytest.approx(255 + PACE_MAX_S)


def test_a_file_that_turns_out_to_end_in_a_slice_has_no_further_one() -> None:
    made = measured(None, window=64, rtt=0.001)
    now = made.deadline
    assert made.on_timeout(now) == (Send(1, SLICE),)
    made.end_at(5)
    assert made.on_timeout(now + 2 * PACE_S) == ()
    assert made.on_ack(5, now + 2 * PACE_S) == (Done(),)


def test_a_slide_that_finds_the_end_of_the_file_still_doubts_soon() -> None:
    made = measured(None, window=4, rtt=0.001)
    made.on_ack(4, 0.001)
    made.on_ack(4, 0.0011)
    before = made.deadline
    made.end_at(8)
    assert made.deadline == before < 0.01


def test_a_gap_told_between_two_slices_restarts_at_once() -> None:
    made = measured(window=20, rtt=0.001)
    made.on_timeout(made.deadline)
    assert made.on_ack(5, 0.04) == (Send(6, 20),)


def test_the_last_ack_ends_a_repeat_in_slices_with_everything_sent_and_arrived() -> None:
    made = accepted(9, window=9)
    made.on_timeout(made.deadline)  # a slice of eight blocks has left again, the ninth has not
    assert made.on_ack(9, made.deadline) == (Done(),)
    assert made.acked == made.sent == 9


def test_an_ack_of_what_had_arrived_before_the_repeat_counts() -> None:
    made = measured(window=20, rtt=0.001)
    made.on_timeout(made.deadline)
    assert made.sent == 8
    assert made.on_ack(20, 0.04) == (Send(21, 20),)
    assert made.on_ack(41, 0.04) == ()


@pytest.mark.parametrize("window", [1, 8])
def test_a_window_no_larger_than_a_slice_is_never_cut(window: int) -> None:
    made = measured(window=window, rtt=0.001)
    for _ in range(SILENCES_MAX):
        assert made.on_timeout(made.deadline) == (Send(1, window),)
    assert not made.sliced


def test_windows_that_end_in_silence_again_and_again_leave_in_slices_from_then_on() -> None:
    made, now = measured(window=64, rtt=0.001), 0.0
    for number in range(SILENCES_MAX):
        assert not made.sliced
        silences(made, 1)
        now = made._sent_at + 0.001
        actions = made.on_ack(made.sent, now)
        assert actions == (Send(64 * (number + 1) + 1, 64 if number < SILENCES_MAX - 1 else SLICE),)
    assert made.sliced
    assert made.deadline == pytest.approx(now + PACE_S)
    assert made.advance(made.sent, now) == 0


def test_a_whole_window_between_two_silences_is_a_sign_that_bursts_arrive() -> None:
    made = measured(window=64, rtt=0.001)
    for _ in range(SILENCES_MAX + 1):
        silences(made, 1)
        for _ in range(3):
            made.on_ack(made.sent & 0xFFFF, made._sent_at + 0.001)
    assert not made.sliced


def test_a_window_larger_than_every_queue_on_the_way_arrives() -> None:
    made, receiver = measured(2000, window=64, rtt=0.001), Receiver(64, 2000)
    receiver.accepted = True
    now, room, at, silent = 0.0, 16.0, 0.0, 0
    actions = (Send(1, 64),)
    while not any(isinstance(action, Done) for action in actions):
        answers = []
        for send in actions:
            room, at = min(16.0, room + (now - at) * 8500), now  # 100 Mbit/s
            for block in range(send.first, send.first + send.count):
                if room >= 1:
                    room -= 1
                    answers.append(receiver.data(block))
        now += 0.001
        actions = ()
        for answer in answers:
            if answer is not None:
                actions += made.on_ack(answer & 0xFFFF, now)
        if not actions:
            silent += made.deadline - now > EARLIEST_S / 2
            now = max(now, made.deadline)
            actions = made.on_timeout(now)
    assert receiver.got == 2000
    assert made.sliced
    assert silent <= 2 * SILENCES_MAX
    assert now < 2


@given(
    st.integers(1, 70),
    st.sampled_from([0.01, 0.5, 1.0, 20.0]),
    st.booleans(),
    st.floats(0, 40),
    st.lists(st.tuples(st.sampled_from(["full", "any", "timeout"]), st.integers(0, 80), st.floats(0, 2)), max_size=40),
)
def test_the_interval_stays_between_its_bounds_whatever_happens(window, timeout_s, asked, remembered, events) -> None:
    more = {"timeout_s": timeout_s, "asked": asked, "interval_s": remembered}
    made = session(500, window=window, oack=True, give_up_s=1e9, **more)
    made.start(0)
    now, longest = 0.0, max(INTERVAL_MAX_S, timeout_s)
    for kind, number, elapsed in events:
        if kind == "timeout":
            now = max(now, made.deadline)
            made.on_timeout(now)
        else:
            now += elapsed
            block = made.sent if kind == "full" else number
            made.advance(block, now) or made.on_ack(block, now)
        least = timeout_s if asked else min(timeout_s, EARLIEST_S)
        if made.heard:
            assert least <= made._interval_s <= longest
        assert made.sent - made.acked <= window


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


def test_the_fast_path_stops_at_the_last_window() -> None:
    made = accepted(10, window=4)
    assert made.advance(4, 0.1) == 4
    assert made.advance(8, 0.2) == 2
    assert made.advance(10, 0.3) == 0
    assert made.on_ack(10, 0.3) == (Done(),)


def state(made: Session) -> list[object]:
    """Everything that decides what comes next."""
    path = [getattr(made._path, name) for name in RoundTrip.__slots__]
    return path + [getattr(made, name) for name in Session.__slots__ if name not in ("_agreed", "_path")]


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
        awaited, foretold = quick.ahead()
        count = quick.advance(block, now)
        if count and foretold:
            assert (block, count) == (awaited, foretold)
        expected = plain.on_ack(block, now)
        if count:
            assert expected == (Send(quick.acked + 1, count),)
        else:
            assert quick.on_ack(block, now) == expected
        assert state(quick) == state(plain)


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
